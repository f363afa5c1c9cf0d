//! One connection to NATS, with what a bridge needs there.
//!
//! A connection that has failed is never mended: whatever was in it is thrown away as a whole, and
//! the next one sends again from the first message without an answer. Otherwise a later message
//! could reach the stream before one that was lost on the way. The client library reconnects by
//! itself, so each connection lives in a runtime of its own, which ends with it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::context::{
    ConsumerInfoErrorKind, GetStreamErrorKind, KeyValueErrorKind, PublishAckFuture, PublishError,
};
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, Info, LastRawMessageErrorKind, Stream,
};
use async_nats::jetstream::{Context, kv::Store};
use async_nats::jetstream::{ContextBuilder, ErrorCode, message::PublishMessage};
use async_nats::{ConnectOptions, Event, ServerAddr, Subscriber};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::args::Arguments;
use crate::names::{Group, Host};
use crate::parcel::{self, Parcel};
use crate::position::{End, Position};
use crate::presence::LEASE;

/// The time in which a server has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two looks whether the server is still there.
const PING: Duration = Duration::from_secs(3);

/// The time in which NATS knows a message that it has already.
const DUPLICATES: Duration = Duration::from_secs(120);

/// The most messages that are delivered here and not acknowledged.
const UNACKNOWLEDGED: i64 = 1024;

/// The time before a message without an acknowledgement is delivered again.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// A connection to NATS.
#[derive(Debug)]
pub struct Session {
    context: Context,
    stream: Stream,
    consumer: PullConsumer,
    bucket: Store,
    group: Group,
    host: Host,
    /// Why it has failed.
    failed: watch::Sender<Option<String>>,
    runtime: Mutex<Guard>,
}

/// What the stream knows of messages that may be in it.
#[derive(Debug)]
pub struct Found {
    there: BTreeSet<String>,
    /// Nothing was removed of what the stream has taken since.
    is_whole: bool,
}

impl Found {
    /// Whether the message of this identifier is in the stream; `None` if nobody can tell, since it
    /// may have been removed.
    pub fn has(&self, message_id: &str) -> Option<bool> {
        if self.there.contains(message_id) {
            Some(true)
        } else {
            self.is_whole.then_some(false)
        }
    }
}

/// What is wrong with NATS.
#[derive(Debug, Error)]
pub enum NatsError {
    /// A file of the user's.
    #[error("cannot read {path}: {error}")]
    File {
        /// What file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No URL of a server.
    #[error("--nats takes nats://HOST:PORT or tls://HOST:PORT: {0}")]
    Url(io::Error),
    /// No runtime for it.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// It cannot be reached, or does not let us in.
    #[error("no NATS server lets this bridge in: {0}")]
    Connect(async_nats::ConnectError),
    /// JetStream is off, or something is missing and we may not make it.
    #[error(
        "the NATS server does not give {what}: {error}. It needs JetStream, and a user who may \
         use it; --create-only as an administrator makes what is missing"
    )]
    JetStream {
        /// The stream, the bucket or the consumer.
        what: String,
        /// Why.
        error: async_nats::Error,
    },
}

impl Session {
    /// Connects, and finds or makes stream, bucket and consumer. `position` is how far the bridge
    /// has come, if it knows; the position to begin at is returned.
    pub async fn open(
        arguments: &Arguments,
        position: Option<&Position>,
    ) -> Result<(Arc<Self>, Position), NatsError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("nats")
            .enable_all()
            .build();
        let runtime = Guard(Some(runtime.map_err(NatsError::Thread)?));
        let (failed, _) = watch::channel(None);
        let options = options(arguments, failed.clone()).await?;
        let (arguments, position) = (arguments.clone(), position.cloned());
        let opening = async move {
            let client = options.connect(servers(&arguments.nats)).await;
            let client = client.map_err(NatsError::Connect)?;
            let context = ContextBuilder::new().timeout(PATIENCE).build(client);
            let stream = stream(&context, &arguments).await?;
            let bucket = bucket(&context, &arguments).await?;
            let (consumer, position) = consumer(&stream, &arguments, position).await?;
            Ok((context, stream, bucket, consumer, position, arguments))
        };
        let opened = match runtime.0.as_ref().map(|runtime| runtime.spawn(opening)) {
            Some(opening) => opening.await,
            None => return Err(NatsError::Thread(io::ErrorKind::Other.into())),
        };
        let opened = opened.map_err(|error| NatsError::Thread(io::Error::other(error)))?;
        let (context, stream, bucket, consumer, position, arguments) = opened?;
        let session = Self {
            context,
            stream,
            consumer,
            bucket,
            group: arguments.group,
            host: arguments.host,
            failed,
            runtime: Mutex::new(runtime),
        };
        Ok((Arc::new(session), position))
    }

    /// Ends it: something went wrong.
    pub fn fail(&self, why: impl Into<String>) {
        fail(&self.failed, why.into());
    }

    /// Waits until it has failed, and says why.
    pub async fn failure(&self) -> String {
        let mut failed = self.failed.subscribe();
        // The sender lives in `self`.
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Ends it at once, with all that was not sent.
    pub fn close(&self) {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        *runtime = Guard(None);
    }

    /// The most octets of a message, headers included.
    pub fn max_payload(&self) -> usize {
        self.context.client().server_info().max_payload
    }

    /// The most octets that all the messages of the stream may have.
    pub fn most_octets(&self) -> usize {
        let most = self.stream.cached_info().config.max_bytes;
        // Less than 1 is without a bound.
        match usize::try_from(most) {
            Ok(most @ 1..) => most,
            _ => usize::MAX,
        }
    }

    /// Sends a parcel on its way to the stream; the future is its acknowledgement.
    pub async fn publish(&self, parcel: &Parcel) -> Result<PublishAckFuture, PublishError> {
        let mut message = PublishMessage::build()
            .message_id(parcel.message_id())
            .payload(parcel.text.clone().into());
        if let Some(source) = &parcel.source {
            message = message.header(parcel::SOURCE, source.as_str());
        }
        let subject = parcel.to.subject(&self.group, &self.host);
        self.context.send_publish(subject, message).await
    }

    /// The stream.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The end of the stream when this connection was made.
    pub fn end(&self) -> End {
        end(self.stream.cached_info())
    }

    /// What the stream knows of the messages of this host that were published when it had this
    /// end.
    pub async fn find(&self, at: End) -> Result<Found, async_nats::Error> {
        let subject = format!("onionbus.{}.{}.>", self.group, self.host);
        // A server that has lost the last ones gives their sequences again.
        let behind = at.last.min(self.end().last);
        let mut there = BTreeSet::new();
        let mut next = behind + 1;
        loop {
            let get = self.stream.raw_message_builder().sequence(next);
            match get.next_by_subject(&subject[..]).send().await {
                Ok(message) => {
                    let id = message.headers.get(parcel::MESSAGE_ID);
                    there.extend(id.map(|id| id.as_str().to_owned()));
                    next = message.sequence + 1;
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Behind them, so that whatever was removed meanwhile is seen.
        let info = self
            .stream
            .info_builder()
            .with_deleted(true)
            .fetch()
            .await?;
        let is_kept = |info: &Info| {
            let mut deleted = info.state.deleted.iter().flatten();
            end(info).stream == at.stream
                && info.state.first_sequence <= behind + 1
                && !deleted.any(|sequence| *sequence > behind)
        };
        let is_whole = is_kept(&info.info);
        Ok(Found { there, is_whole })
    }

    /// This host's consumer.
    pub const fn consumer(&self) -> &PullConsumer {
        &self.consumer
    }

    /// Writes the lease.
    pub async fn put_lease(&self, lease: Vec<u8>) -> Result<(), async_nats::Error> {
        let put = self.bucket.put(self.host.to_string(), lease.into());
        tokio::time::timeout(PATIENCE, put).await??;
        Ok(())
    }

    /// The leases, as they are written. What was written before is written again before long.
    pub async fn leases(&self) -> Result<Subscriber, async_nats::Error> {
        let subject = format!("{}*", lease_subject(&self.group));
        let leases = self.context.client().subscribe(subject).await?;
        Ok(leases)
    }
}

/// A runtime that may be dropped wherever a future may.
#[derive(Debug)]
struct Guard(Option<Runtime>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn end(stream: &Info) -> End {
    // Until the year 2262.
    let made = i64::try_from(stream.created.unix_timestamp_nanos()).unwrap_or(i64::MAX);
    End {
        stream: made,
        last: stream.state.last_sequence,
    }
}

/// The beginning of the subjects that leases are written to; the host follows.
#[must_use]
pub fn lease_subject(group: &Group) -> String {
    format!("$KV.onionbus_{group}.")
}

fn fail(failed: &watch::Sender<Option<String>>, why: String) {
    failed.send_if_modified(|failure| {
        let is_first = failure.is_none();
        if is_first {
            *failure = Some(why);
        }
        is_first
    });
}

fn servers(urls: &str) -> Vec<String> {
    urls.split(',').map(|url| url.trim().to_owned()).collect()
}

async fn options(
    arguments: &Arguments,
    failed: watch::Sender<Option<String>>,
) -> Result<ConnectOptions, NatsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| NatsError::File { path, error }
    };
    let was_connected = Arc::new(AtomicBool::new(false));
    let connected = Arc::clone(&was_connected);
    let mut options = ConnectOptions::new()
        .name(format!("onionbus-bridge {}", arguments.host))
        .custom_inbox_prefix(format!("_INBOX_{}", arguments.host))
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(PING)
        .ignore_discovered_servers()
        .subscription_capacity(4096)
        .client_capacity(256)
        .reconnect_delay_callback(move |_| {
            // It is never to happen: the runtime ends before.
            let hour = Duration::from_secs(3600);
            if was_connected.load(Ordering::Relaxed) {
                hour
            } else {
                Duration::ZERO
            }
        })
        .event_callback(move |event| {
            match event {
                Event::Connected => connected.store(true, Ordering::Relaxed),
                Event::Disconnected | Event::Closed => {
                    fail(&failed, "the NATS server has gone".into());
                }
                Event::SlowConsumer(_) => fail(&failed, "it was read too slowly".into()),
                Event::ServerError(error) => log::warn!("NATS: {error}"),
                other => log::debug!("NATS: {other}"),
            }
            std::future::ready(())
        });
    // The library leaves them in the URL.
    for server in servers(&arguments.nats) {
        let address: ServerAddr = server.parse().map_err(NatsError::Url)?;
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(user.into(), password.into());
        }
    }
    if let Some(path) = &arguments.creds {
        let creds = options.credentials_file(path).await;
        options = creds.map_err(unreadable(path))?;
    }
    if let Some(path) = &arguments.nkey {
        let seed = tokio::fs::read_to_string(path).await;
        options = options.nkey(seed.map_err(unreadable(path))?.trim().into());
    }
    if let Some(path) = &arguments.tls_ca {
        tokio::fs::metadata(path).await.map_err(unreadable(path))?;
        options = options
            .add_root_certificates(path.clone())
            .require_tls(true);
    }
    Ok(options)
}

async fn stream(context: &Context, arguments: &Arguments) -> Result<Stream, NatsError> {
    let name = format!("onionbus_{}", arguments.group);
    let error = |error| NatsError::JetStream {
        what: format!("the stream {name}"),
        error,
    };
    match context.get_stream(&name).await {
        Ok(stream) => return Ok(stream),
        Err(failure) => match failure.kind() {
            GetStreamErrorKind::JetStream(missing)
                if missing.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(error(failure.into())),
        },
    }
    let prefix = format!("onionbus.{}.*", arguments.group);
    let config = StreamConfig {
        name: name.clone(),
        description: Some("Messages of the buses that onionbus-bridge joins".into()),
        subjects: vec![format!("{prefix}.all"), format!("{prefix}.to.*.*")],
        max_age: arguments.max_age,
        max_messages: arguments.max_messages,
        duplicate_window: DUPLICATES.min(arguments.max_age),
        num_replicas: arguments.replicas.into(),
        ..StreamConfig::default()
    };
    // Another bridge may make it at this moment: then it is found.
    let made = context.get_or_create_stream(config).await;
    let made = made.map_err(|failure| error(failure.into()))?;
    log::info!("made the stream {name}");
    Ok(made)
}

async fn bucket(context: &Context, arguments: &Arguments) -> Result<Store, NatsError> {
    let name = format!("onionbus_{}", arguments.group);
    let error = |error| NatsError::JetStream {
        what: format!("the key-value bucket {name}"),
        error,
    };
    match context.get_key_value(&name).await {
        Ok(bucket) => return Ok(bucket),
        Err(failure) if failure.kind() == KeyValueErrorKind::GetBucket => {
            log::debug!("no bucket {name}: {failure}");
        }
        Err(failure) => return Err(error(failure.into())),
    }
    // Made as the stream that a bucket is: to make a bucket the library asks for the account, and
    // does not understand what a server of version 2.9 answers.
    let config = StreamConfig {
        name: format!("KV_{name}"),
        description: Some("Leases of the hosts whose buses onionbus-bridge joins".into()),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age: LEASE,
        duplicate_window: LEASE,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: arguments.replicas.into(),
        ..StreamConfig::default()
    };
    let made = context.get_or_create_stream(config).await;
    made.map_err(|failure| error(failure.into()))?;
    let made = context.get_key_value(&name).await;
    let made = made.map_err(|failure| error(failure.into()))?;
    log::info!("made the key-value bucket {name}");
    Ok(made)
}

/// The consumer, and the position to begin at. What the server knows counts where it knows more:
/// after a loss of power the state may be older than what was acknowledged.
async fn consumer(
    stream: &Stream,
    arguments: &Arguments,
    position: Option<Position>,
) -> Result<(PullConsumer, Position), NatsError> {
    let name = arguments.host.to_string();
    let error = |error: async_nats::Error| NatsError::JetStream {
        what: format!("the consumer {name}"),
        error,
    };
    let End {
        stream: created,
        last,
    } = end(stream.cached_info());
    let is_new_stream = position
        .as_ref()
        .is_some_and(|known| known.stream != created);
    let mut position = position.filter(|known| known.stream == created);
    if position.as_mut().is_some_and(|known| known.fit(last)) {
        log::warn!(
            "the stream {name} has lost what it had taken behind {last}; going on from there",
            name = stream.cached_info().config.name
        );
    }
    match stream.consumer_info(&name).await {
        Ok(info) => {
            let floor = info.ack_floor.stream_sequence;
            let done = position.map_or(floor, |known| known.done.max(floor));
            let consumer = stream.get_consumer(&name).await.map_err(error)?;
            return Ok((consumer, Position::at(created, done)));
        }
        Err(failure) if failure.kind() == ConsumerInfoErrorKind::NotFound => {}
        Err(failure) => return Err(error(failure.into())),
    }
    let deliver_policy = match &position {
        Some(known) => DeliverPolicy::ByStartSequence {
            start_sequence: known.done + 1,
        },
        None if is_new_stream => DeliverPolicy::All,
        None => DeliverPolicy::New,
    };
    let config = ConsumerConfig {
        durable_name: Some(name.clone()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACKNOWLEDGE,
        max_ack_pending: UNACKNOWLEDGED,
        ..ConsumerConfig::default()
    };
    let made = stream.create_consumer(config).await;
    let made = made.map_err(|failure| error(failure.into()))?;
    log::info!("made the consumer {name}");
    let floor = made.cached_info().ack_floor.stream_sequence;
    let done = position.map_or(floor, |known| known.done);
    Ok((made, Position::at(created, done)))
}
