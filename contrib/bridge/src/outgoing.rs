//! From the bus to the stream: in order, and again from the first without an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::bridge::{Backoff, Sessions};
use crate::count::Reason;
use crate::local::Local;
use crate::nats::Session;
use crate::parcel::{OVERHEAD, Parcel};
use crate::position::End;
use crate::state::StateError;

/// The most octets that wait to be published. More stays with the bus.
pub const ROOM: u32 = 8 << 20;

/// The most messages that wait for the answer of the stream.
const WINDOW: usize = 256;

/// The most messages that wait to be sent.
pub const QUEUE: usize = 256;

/// A parcel with the room that it takes.
#[derive(Debug)]
pub struct Outgoing {
    parcel: Parcel,
    #[expect(dead_code, reason = "it is given back when the parcel goes")]
    room: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// Waits until there is room for a parcel.
    pub async fn new(parcel: Parcel, room: &Arc<Semaphore>) -> Self {
        let octets = u32::try_from(parcel.text.len() + OVERHEAD).unwrap_or(ROOM);
        let room = Arc::clone(room).acquire_many_owned(octets.min(ROOM)).await;
        // It is closed by nobody.
        let room = room.ok();
        Self { parcel, room }
    }
}

/// Publishes what comes, over one connection to NATS after the other.
pub async fn run(
    queue: mpsc::Receiver<Outgoing>,
    mut sessions: watch::Receiver<Sessions>,
    local: Arc<Local>,
) -> Result<(), StateError> {
    let mut publisher = Publisher {
        queue,
        local,
        window: VecDeque::new(),
        end: End::default(),
        most: WINDOW,
    };
    loop {
        let session = match sessions.wait_for(Option::is_some).await {
            Ok(session) => session.as_ref().map(|(session, _)| Arc::clone(session)),
            Err(_) => return Ok(()),
        };
        let Some(session) = session else { continue };
        let why = tokio::select! {
            why = publisher.publish(&session) => why?,
            why = session.failure() => why,
        };
        session.fail(why);
        // It is the last one until the next has come.
        let failed = |sessions: &Sessions| {
            let other = sessions.as_ref().map(|(other, _)| other);
            !other.is_some_and(|other| Arc::ptr_eq(other, &session))
        };
        if sessions.wait_for(failed).await.is_err() {
            return Ok(());
        }
    }
}

/// What publishes.
struct Publisher {
    queue: mpsc::Receiver<Outgoing>,
    local: Arc<Local>,
    /// What waits for the answer of the stream, in order.
    window: VecDeque<Outgoing>,
    /// The end of the stream behind which all of the window lies that is in it.
    end: End,
    /// The most of the window that are on their way at once.
    most: usize,
}

impl Publisher {
    /// Publishes until something fails; says what.
    async fn publish(&mut self, session: &Session) -> Result<String, StateError> {
        if let Err(error) = self.look_up(session).await? {
            return Ok(format!("the stream cannot be read: {error}"));
        }
        let mut answers = FuturesOrdered::new();
        // Of the window, from its front: those that are on their way, and of them those that the
        // stream has refused and may take later. Nothing new follows before that is tried.
        let (mut sent, mut refused) = (0, 0);
        let mut backoff = Backoff::new();
        // A stream that is full and has room again is to get them in order: one by one at first.
        self.most = WINDOW;
        let mut fresh = Vec::new();
        loop {
            if refused > 0 && refused == sent {
                backoff.wait().await;
                (sent, refused) = (0, 0);
            }
            if refused == 0
                && let Err(why) = self.send(session, &mut sent, &mut answers).await?
            {
                return Ok(why);
            }
            let room = match refused {
                0 => WINDOW.saturating_sub(self.window.len()),
                _ => 0,
            };
            let mut answer = tokio::select! {
                count = self.queue.recv_many(&mut fresh, room), if room > 0 => {
                    if count == 0 {
                        return Ok("the bridge ends".into());
                    }
                    // Before anything is awaited, where this may end.
                    self.window.extend(fresh.drain(..));
                    continue;
                }
                Some(answer) = answers.next() => Some(answer),
            };
            let mut settled = Vec::new();
            let mut failure = None;
            while let Some(answered) = answer {
                match answered {
                    Ok(ack) => {
                        self.end.last = ack.sequence.max(self.end.last);
                        settled.extend(self.window.remove(refused));
                        sent -= 1;
                        self.most = WINDOW.min(self.most + 1);
                        backoff = Backoff::new();
                    }
                    Err(error) => match refusal(&error) {
                        Some(reason) if self.is_too_long(session, refused, reason) => {
                            self.drop_at(refused)?;
                            sent -= 1;
                        }
                        Some(reason) => {
                            if refused == 0 {
                                log::warn!("the stream takes no message at present: {reason}");
                            }
                            refused += 1;
                            self.most = 1;
                        }
                        None => {
                            failure = Some(format!("the stream does not take a message: {error}"));
                            break;
                        }
                    },
                }
                answer = answers.next().now_or_never().flatten();
            }
            self.local
                .settle(settled.iter().map(|outgoing| &outgoing.parcel))?;
            if let Some(failure) = failure {
                return Ok(failure);
            }
        }
    }

    /// Sends what of the window may go behind the first `sent`; what fails is said.
    async fn send(
        &mut self,
        session: &Session,
        sent: &mut usize,
        answers: &mut FuturesOrdered<<PublishAckFuture as IntoFuture>::IntoFuture>,
    ) -> Result<Result<(), String>, StateError> {
        let fresh = self.window.iter().take(self.most).skip(*sent);
        self.local
            .begin(fresh.map(|outgoing| &outgoing.parcel), self.end)?;
        while *sent < self.most
            && let Some(outgoing) = self.window.get(*sent)
        {
            match session.publish(&outgoing.parcel).await {
                Ok(answer) => {
                    answers.push_back(answer.into_future());
                    *sent += 1;
                }
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    self.drop_at(*sent)?;
                }
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        Ok(Ok(()))
    }

    /// Whether the stream will never take the message at this place of the window.
    fn is_too_long(&self, session: &Session, place: usize, reason: &jetstream::Error) -> bool {
        let octets = self.window.get(place).map(|it| it.parcel.text.len());
        reason.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
            || octets.is_some_and(|octets| octets + OVERHEAD > session.most_octets())
    }

    /// Drops the message at this place of the window, which is too long.
    fn drop_at(&mut self, place: usize) -> Result<(), StateError> {
        match self.window.remove(place) {
            Some(outgoing) => self
                .local
                .drop_parcel(&outgoing.parcel, Reason::TooLongForNats),
            None => Ok(()),
        }
    }

    /// Looks for what the last connection has published and has no answer for. The stream itself
    /// knows only for a while (`DUPLICATES`) what it has already.
    async fn look_up(
        &mut self,
        session: &Session,
    ) -> Result<Result<(), async_nats::Error>, StateError> {
        if !self.window.is_empty() {
            let found = match session.find(self.end).await {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            for outgoing in std::mem::take(&mut self.window) {
                match found.has(&outgoing.parcel.message_id()) {
                    Some(true) => self.local.settle(std::iter::once(&outgoing.parcel))?,
                    Some(false) => self.window.push_back(outgoing),
                    None => self.local.drop_parcel(&outgoing.parcel, Reason::InDoubt)?,
                }
            }
        }
        self.end = session.end();
        Ok(Ok(()))
    }
}

/// Why the stream refuses a message, if it has said so.
fn refusal(error: &PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(error)?.downcast_ref()
}
