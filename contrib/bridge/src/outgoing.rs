//! From the bus to the stream: in order, and again from the first without an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::bridge::Sessions;
use crate::count::Reason;
use crate::local::Local;
use crate::nats::Session;
use crate::parcel::{OVERHEAD, Parcel};
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
    mut queue: mpsc::Receiver<Outgoing>,
    mut sessions: watch::Receiver<Sessions>,
    local: Arc<Local>,
    state: crate::state::State,
) -> Result<(), StateError> {
    let mut window = VecDeque::new();
    let mut behind = 0;
    loop {
        let session = match sessions.wait_for(Option::is_some).await {
            Ok(session) => session.as_ref().map(|(session, _)| Arc::clone(session)),
            Err(_) => return Ok(()),
        };
        let Some(session) = session else { continue };
        behind = match session.last_sequence() {
            last if window.is_empty() => last,
            last => last.min(behind),
        };
        let why = tokio::select! {
            published = publish(
                &session,
                &mut queue,
                (&mut window, &mut behind),
                &local,
                &state,
            ) => published?,
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

/// Publishes until something fails; says what. Whatever of the window is in the stream lies behind
/// a sequence there. It is looked for at first: the stream knows only for a while
/// (`DUPLICATES`) what it has already, and the last connection may have been lost for longer.
async fn publish(
    session: &Session,
    queue: &mut mpsc::Receiver<Outgoing>,
    (window, behind): (&mut VecDeque<Outgoing>, &mut u64),
    local: &Local,
    state: &crate::state::State,
) -> Result<String, StateError> {
    if !window.is_empty() {
        let known = match session.behind(*behind).await {
            Ok(known) => known,
            Err(error) => return Ok(format!("the stream cannot be read: {error}")),
        };
        window.retain(|Outgoing { parcel, .. }| {
            let is_known = known.contains(&parcel.message_id());
            if is_known {
                local.with_ledger(|ledger| ledger.settle(parcel));
            }
            !is_known
        });
    }
    let mut answers = FuturesOrdered::new();
    for outgoing in window.iter() {
        match session.publish(&outgoing.parcel).await {
            Ok(answer) => answers.push_back(answer.into_future()),
            Err(error) => return Ok(error.to_string()),
        }
    }
    loop {
        tokio::select! {
            next = queue.recv(), if window.len() < WINDOW => {
                let Some(outgoing) = next else { return Ok("the bridge ends".into()) };
                // Before anything is awaited, where this may end.
                window.push_back(outgoing);
                let Some(outgoing) = window.back() else { continue };
                match session.publish(&outgoing.parcel).await {
                    Ok(answer) => answers.push_back(answer.into_future()),
                    Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                        drop_it(outgoing, local, state)?;
                        window.pop_back();
                    }
                    Err(error) => return Ok(error.to_string()),
                }
            }
            Some(answer) = answers.next(), if !window.is_empty() => {
                let Some(outgoing) = window.pop_front() else { continue };
                match answer {
                    Ok(ack) => {
                        *behind = ack.sequence.max(*behind);
                        local.with_ledger(|ledger| ledger.settle(&outgoing.parcel));
                    }
                    Err(error) if is_too_long(&error) => drop_it(&outgoing, local, state)?,
                    Err(error) => {
                        window.push_front(outgoing);
                        return Ok(format!("the stream does not take a message: {error}"));
                    }
                }
            }
        }
    }
}

/// Whether the stream takes no message of this size (JetStream's error 10054).
fn is_too_long(error: &PublishError) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
        .is_some_and(|error| error.error_code().0 == 10054)
}

fn drop_it(
    outgoing: &Outgoing,
    local: &Local,
    state: &crate::state::State,
) -> Result<(), StateError> {
    local.with_ledger(|ledger| ledger.settle(&outgoing.parcel));
    state.drop_messages(Reason::TooLongForNats, 1)
}
