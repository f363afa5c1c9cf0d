//! From the stream to the bus: in the order of the stream, each message once.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::watch;

use crate::args::Arguments;
use crate::bridge::{self, Sessions};
use crate::count::Reason;
use crate::local::{Local, NoPoster};
use crate::nats::Session;
use crate::parcel::{self, Parcel, Target};
use crate::position::{Place, Position};
use crate::state::{State, StateError};

/// The most messages that are asked for at once.
const BATCH: usize = 200;

/// The most octets that are asked for at once, or two messages of the greatest length.
const OCTETS: usize = 4 << 20;

/// The most messages that are posted before their answers are read.
const POSTS: u64 = 64;

/// The most messages that have arrived and are not handed on.
const LOOKAHEAD: usize = 64;

/// The most octets of them: the kernel takes as many at once.
const POST_OCTETS: usize = 64 * 1024;

/// The time before a bus that is not there is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The requests for messages that a connection has lost that are made at once.
const FETCHES: usize = 32;

/// The sign of life that the server gives while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A message of the stream, and what becomes of it.
struct Arrival {
    sequence: u64,
    what: What,
    /// What acknowledges it; a message that was fetched is acknowledged when it comes again.
    ack: Option<jetstream::Message>,
}

enum What {
    /// It is posted.
    Post(Parcel, Target),
    /// It is this host's own, or for another one.
    Pass,
    /// It is dropped.
    Drop(Reason),
}

/// Hands on what the stream has for this host.
pub struct Incoming {
    arguments: Arguments,
    state: State,
    local: Arc<Local>,
    position: Position,
    /// The last sequence that is in `arrived`, or was.
    taken: u64,
    arrived: VecDeque<Arrival>,
}

impl Incoming {
    /// The bridge has come this far.
    pub fn new(arguments: Arguments, state: State, local: Arc<Local>) -> Self {
        Self {
            arguments,
            state,
            local,
            position: Position::default(),
            taken: 0,
            arrived: VecDeque::new(),
        }
    }

    /// Hands on over one connection to NATS after the other, until `stop`; nothing is left half
    /// done then.
    pub async fn run(
        mut self,
        mut sessions: watch::Receiver<Sessions>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), StateError> {
        loop {
            let next = tokio::select! {
                next = sessions.wait_for(Option::is_some) => {
                    next.ok().and_then(|next| next.clone())
                }
                () = bridge::told(&mut stop) => None,
            };
            let Some((session, position)) = next else {
                return Ok(());
            };
            self.begin(position, &session)?;
            match self.receive(&session, &mut stop).await? {
                None => return Ok(()),
                Some(why) => session.fail(why),
            }
            let failed = |sessions: &Sessions| {
                let other = sessions.as_ref().map(|(other, _)| other);
                !other.is_some_and(|other| Arc::ptr_eq(other, &session))
            };
            if sessions.wait_for(failed).await.is_err() {
                return Ok(());
            }
        }
    }

    /// What was taken and not handed on comes again.
    ///
    /// What a purge removes is acknowledged by the server itself. Where that is further than the
    /// bridge has come, what is not there any more may never have been read.
    fn begin(&mut self, position: Position, session: &Session) -> Result<(), StateError> {
        self.arrived.clear();
        self.position.fit(session.end().last);
        let known = self.state.position();
        let known = known.filter(|known| known.stream == position.stream);
        let first = session.stream().cached_info().state.first_sequence;
        let removed = known.map_or(0, |known| {
            let behind = first.min(position.done + 1);
            behind.saturating_sub(known.done + 1)
        });
        self.state.drop_messages(Reason::Removed, removed)?;
        if self.position.stream != position.stream || self.position.done < position.done {
            self.position = position;
        }
        self.taken = self.position.done;
        self.state.store(&self.position, &[])
    }

    /// Hands on until something fails, and says what; `None` is the end.
    async fn receive(
        &mut self,
        session: &Session,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<String>, StateError> {
        // What an earlier connection was given and did not acknowledge comes again only later.
        let delivered = match session.consumer().get_info().await {
            Ok(info) => info.delivered.stream_sequence.min(session.end().last),
            Err(error) => return Ok(Some(format!("no consumer: {error}"))),
        };
        if delivered > self.taken
            && let Err(why) = self
                .fetch(session, self.taken + 1..=delivered, stop)
                .await?
        {
            return Ok(Some(why));
        }
        let octets = OCTETS.max(2 * session.max_payload());
        let messages = session
            .consumer()
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(octets)
            .heartbeat(HEARTBEAT)
            .messages()
            .await;
        let mut messages = match messages {
            Ok(messages) => messages,
            Err(error) => return Ok(Some(error.to_string())),
        };
        loop {
            if self.arrived.is_empty() {
                let message = tokio::select! {
                    message = messages.next() => message,
                    why = session.failure() => return Ok(Some(why)),
                    () = bridge::told(stop) => return Ok(None),
                };
                if let Err(why) = self.take(session, message, stop).await? {
                    return Ok(Some(why));
                }
            }
            while self.arrived.len() < LOOKAHEAD
                && let Some(message) = messages.next().now_or_never()
            {
                if let Err(why) = self.take(session, message, stop).await? {
                    return Ok(Some(why));
                }
            }
            if !self.hand_on(stop).await? {
                return Ok(None);
            }
        }
    }

    /// Takes what the stream has delivered.
    async fn take(
        &mut self,
        session: &Session,
        message: Option<Result<jetstream::Message, impl std::fmt::Display>>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Result<(), String>, StateError> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Ok(Err(error.to_string())),
            None => return Ok(Err("the messages have ended".into())),
        };
        let sequence = match message.info() {
            Ok(info) => info.stream_sequence,
            Err(error) => return Ok(Err(format!("a message without a sequence: {error}"))),
        };
        match Position::place(self.taken, sequence) {
            Place::Again => {
                if sequence <= self.position.done {
                    acknowledge(&message).await;
                }
                return Ok(Ok(()));
            }
            Place::Next => {}
            Place::Behind(missing) => {
                if let Err(why) = self.fetch(session, missing, stop).await? {
                    return Ok(Err(why));
                }
            }
        }
        let what = self.judge(&message.subject, message.headers.as_ref(), &message.payload);
        self.taken = sequence;
        self.arrived.push_back(Arrival {
            sequence,
            what,
            ack: Some(message),
        });
        Ok(Ok(()))
    }

    /// Fetches messages that the stream will deliver only later, or that are gone from it.
    async fn fetch(
        &mut self,
        session: &Session,
        missing: RangeInclusive<u64>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Result<(), String>, StateError> {
        let first = match session.stream().get_info().await {
            Ok(info) => info.state.first_sequence,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (begin, end) = (*missing.start(), *missing.end());
        let removed = first.min(end + 1).saturating_sub(begin);
        if removed > 0 {
            self.state.drop_messages(Reason::Removed, removed)?;
            self.taken = begin + removed - 1;
        }
        let get =
            |sequence| async move { (sequence, session.stream().get_raw_message(sequence).await) };
        let mut fetched = stream::iter(begin + removed..=end)
            .map(get)
            .buffered(FETCHES);
        while let Some((sequence, message)) = fetched.next().await {
            let what = match message {
                Ok(message) => {
                    self.judge(&message.subject, Some(&message.headers), &message.payload)
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    What::Drop(Reason::Removed)
                }
                Err(error) => return Ok(Err(error.to_string())),
            };
            self.taken = sequence;
            self.arrived.push_back(Arrival {
                sequence,
                what,
                ack: None,
            });
            if self.arrived.len() >= LOOKAHEAD && !self.hand_on(stop).await? {
                return Ok(Err("the bridge ends".into()));
            }
        }
        Ok(Ok(()))
    }

    fn judge(&self, subject: &str, headers: Option<&HeaderMap>, text: &[u8]) -> What {
        let header = |name| Some(headers?.get(name)?.as_str());
        let parcel = Parcel::decode(
            &self.arguments.group,
            subject,
            header(parcel::MESSAGE_ID),
            header(parcel::SOURCE),
            text,
        );
        let parcel = match parcel {
            Ok(parcel) => parcel,
            Err(error) => {
                log::debug!("a message is malformed: {error}");
                return What::Drop(Reason::Malformed);
            }
        };
        let is_for_here = match &parcel.to {
            Target::All => true,
            Target::One(host, _) => *host == self.arguments.host,
        };
        if parcel.from == self.arguments.host || !is_for_here {
            return What::Pass;
        }
        if parcel.local_source().is_none() {
            return What::Drop(Reason::NoName);
        }
        let source = parcel.source_target();
        What::Post(parcel, source)
    }

    /// Hands on the first of what has arrived that can be posted together: what one controller has
    /// sent. Messages of several would be posted in no order. Returns false at the end.
    async fn hand_on(&mut self, stop: &mut watch::Receiver<bool>) -> Result<bool, StateError> {
        let mut lines = Vec::new();
        let mut posts = 0_u64;
        let mut dropped = Vec::new();
        let mut source = None;
        let mut count = 0_usize;
        for arrival in &self.arrived {
            match &arrival.what {
                What::Pass => {}
                What::Drop(reason) => dropped.push((*reason, 1)),
                What::Post(parcel, from) => {
                    let line = line(parcel);
                    let is_full = posts == POSTS || lines.len() + line.len() > POST_OCTETS;
                    if posts > 0 && (is_full || source != Some(from)) {
                        break;
                    }
                    source = Some(from);
                    lines.extend_from_slice(&line);
                    posts += 1;
                }
            }
            count += 1;
        }
        let Some(last) = count.checked_sub(1).and_then(|last| self.arrived.get(last)) else {
            return Ok(true);
        };
        let last = last.sequence;
        if let Some(source) = source.cloned() {
            match self.post(&source, &lines, posts, last, stop).await? {
                Some(reasons) => dropped.extend(reasons),
                None => return Ok(false),
            }
        }
        self.position.finish(last);
        self.state.store(&self.position, &merged(&dropped))?;
        for arrival in self.arrived.drain(..count) {
            if let Some(message) = &arrival.ack {
                acknowledge(message).await;
            }
        }
        Ok(true)
    }

    /// Posts lines of one controller, and returns why any of them was not delivered; `None` at the
    /// end, if nothing is posted.
    async fn post(
        &mut self,
        source: &Target,
        lines: &[u8],
        posts: u64,
        last: u64,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Vec<(Reason, u64)>>, StateError> {
        let poster = loop {
            match self.local.poster(source).await? {
                Ok(poster) => break poster,
                Err(NoPoster::Refused) => return Ok(Some(vec![(Reason::NoName, posts)])),
                Err(NoPoster::NotNow) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = bridge::told(stop) => return Ok(None),
            }
        };
        let mut poster = poster.lock().await;
        self.position.begin(last);
        self.state.store(&self.position, &[])?;
        if let Err(error) = poster.mouth.say(lines).await {
            log::warn!("{error}");
            return Ok(Some(vec![(Reason::InDoubt, posts)]));
        }
        self.position.write();
        self.state.store(&self.position, &[])?;
        let mut dropped = Vec::new();
        for answered in 0..posts {
            match poster.replies.recv().await {
                Some((250, _)) => {}
                Some((552, _)) => dropped.push((Reason::Gone, 1)),
                Some((513, _)) => dropped.push((Reason::TooLong, 1)),
                Some((status, _)) => {
                    log::debug!("the bus has refused a message with {status}");
                    dropped.push((Reason::Refused, 1));
                }
                None => {
                    dropped.push((Reason::InDoubt, posts - answered));
                    break;
                }
            }
        }
        Ok(Some(dropped))
    }
}

/// The command that posts a parcel here.
fn line(parcel: &Parcel) -> Vec<u8> {
    let to = match &parcel.to {
        Target::All => "all",
        Target::One(_, name) => name.as_str(),
    };
    let mut line = format!("POSTMESSAGE @{to} ").into_bytes();
    line.extend_from_slice(&parcel.text);
    line.extend_from_slice(b"\r\n");
    line
}

/// One count for each reason.
fn merged(dropped: &[(Reason, u64)]) -> Vec<(Reason, u64)> {
    let count = |reason| {
        let these = dropped.iter().filter(|(other, _)| *other == reason);
        (reason, these.map(|(_, count)| count).sum())
    };
    Reason::ALL.into_iter().map(count).collect()
}

async fn acknowledge(message: &jetstream::Message) {
    // If it fails the message comes again, and is known then.
    if let Err(error) = message.ack().await {
        log::debug!("no acknowledgement: {error}");
    }
}
