//! Everything that the controllers share, and the loop's way to the fan-out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::accept::Ends;
use super::audit::Audit;
use super::connection::Connection;
use super::court::Court;
use super::detail::Detail;
use super::keeper::Keeping;
use super::places::Places;
use super::source::Source;
use super::timers::Timers;
use super::tor_side::TorSide;
use super::work::WorkQueue;
use crate::account::Accounts;
use crate::auth::{Cookie, HashedPassword};
use crate::bus::fanout::{Fanout, Item};
use crate::bus::{Bus, SessionId, To};
use crate::controller::Controller;
use crate::logging::Logging;
use crate::options::Options;
use crate::outbox::Outlet;
use crate::sys::state::StateDirectory;
use crate::wire::event::{ControllerChange, Event};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;

/// The daemon, without its sockets.
pub(super) struct Daemon {
    pub(super) registry: Registry,
    pub(super) queue: Queue,
    pub(super) work: WorkQueue,
    pub(super) bus: Bus,
    /// The policy in force, if there is one.
    pub(super) court: Option<Box<Court>>,
    /// What was done by whom.
    pub(super) audit: Audit,
    /// The policy is another one, and everybody is to be judged anew.
    pub(super) policy_has_changed: bool,
    pub(super) options: Options,
    pub(super) state: StateDirectory,
    /// The cookie and its file, where some socket asks for one.
    pub(super) cookie: Option<(Arc<Cookie>, std::path::PathBuf)>,
    /// The passwords that get in at a port and where `Login=password`.
    pub(super) passwords: Arc<[HashedPassword]>,
    /// The time that this round has spent on them. Whoever connects may try, so that all tries
    /// together get no more of a round than one controller, and nobody waits for all of them.
    pub(super) password_time: Duration,
    /// The daemon's own sockets and Tor's control port, where no onion service may end.
    pub(super) ends: Ends,
    /// The sources of identity that this kernel does not have.
    pub(super) missing: Vec<&'static str>,
    /// The daemon's number among buses that stand behind each other.
    pub(super) number: Box<str>,
    /// What the process has given up, as `GETINFO process/confinement` says it.
    pub(super) confinement: String,
    /// The Tor behind the bus, if there is one.
    pub(super) tor: Option<TorSide>,
    /// What only the loop can tell, while somebody asks for it.
    pub(super) detail: Detail,
    /// A key may be in what this turn has read or is to send.
    pub(super) has_read_key: bool,
    /// What is kept for the next Tor, where anything is.
    pub(super) keeping: Option<Box<Keeping>>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) fanout: Fanout,
    /// The buffer that the replies of a turn are made in.
    pub(super) replies: Vec<u8>,
    /// At most one source was ready after the last wait: there is not much to do.
    pub(super) calm: bool,
    /// Events that happened in this turn and are not handed over yet.
    pub(super) events: Vec<(Event, To)>,
    pub(super) timers: Timers,
    pub(super) logging: Arc<Logging>,
    /// The octets that each user makes the daemon keep.
    pub(super) accounts: Accounts,
    pub(super) places: Places,
    pub(super) last_session: SessionId,
    pub(super) started: Instant,
    /// When that was, in UTC.
    pub(super) started_at: String,
    pub(super) octets_read: u64,
    /// The number of messages that were read later than they were posted.
    pub(super) read_later: u64,
    /// The number of controllers that were cut off, since a bound was exceeded.
    pub(super) cut_off: u64,
    /// Why the daemon ends, once it does.
    pub(super) ending: Option<&'static str>,
}

/// Who has a turn, now or later.
#[derive(Default)]
pub(super) struct Queue {
    /// Those that have more to read or to answer, in the order of their turns.
    ready: Vec<Source>,
    /// Those that have no turn until the fan-out has sent what it has of theirs.
    awaiting: HashSet<Source>,
}

impl Queue {
    /// Whether nobody waits for a turn.
    pub(super) const fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Puts a source into the queue; there once only, which its owner sees to.
    pub(super) fn push(&mut self, source: Source) {
        self.ready.push(source);
    }

    /// Puts a source into the queue that keeps no note of whether it is there.
    pub(super) fn push_once(&mut self, source: Source) {
        if !self.ready.contains(&source) {
            self.ready.push(source);
        }
    }

    /// Takes everybody whose turn it is.
    pub(super) fn take(&mut self) -> Vec<Source> {
        std::mem::take(&mut self.ready)
    }

    /// Takes one source out, if its turn has come.
    pub(super) fn remove(&mut self, source: Source) -> bool {
        let found = self.ready.iter().position(|ready| *ready == source);
        found.map(|found| self.ready.remove(found)).is_some()
    }

    /// A source has no turn until the fan-out has sent what it has.
    pub(super) fn await_delivery(&mut self, source: Source) {
        self.awaiting.insert(source);
    }

    /// The fan-out has sent what somebody waits for.
    pub(super) fn delivered(&mut self) -> HashSet<Source> {
        std::mem::take(&mut self.awaiting)
    }

    /// Gives a controller a turn, unless it waits for one already.
    pub(super) fn controller(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.queued, true) {
            self.push(Source::Controller(connection.key));
        }
    }

    /// Gives a controller's connection to Tor a turn, unless it waits for one already.
    pub(super) fn leg(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.leg_queued, true) {
            self.push(Source::Leg(connection.key));
        }
    }
}

impl Daemon {
    /// Hands the events of this turn to the fan-out.
    pub(super) fn hand_over_events(&mut self) {
        self.events.extend(
            self.logging
                .take_events()
                .into_iter()
                .map(|event| (event, To::Subscribers)),
        );
        if !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            self.hand_over(Item::Events(events));
        }
    }

    /// Hands something to the fan-out, which delivers it in its own thread, or sooner.
    pub(super) fn hand_over(&self, item: Item) {
        self.fanout.hand_over(item, self.calm);
    }

    /// Notes an event, if anybody subscribed to its kind.
    pub(super) fn tell(&mut self, event: Event) {
        if let Some(to) = self.bus.to_subscribers(event.kind()) {
            self.tell_own(&event);
            self.events.push((event, to));
        }
    }

    /// Notes a CONTROLLER event about a controller as it is now.
    pub(super) fn tell_of(&mut self, controller: &Controller, change: ControllerChange) {
        let (id, peer) = (controller.conversation.id(), controller.conversation.peer());
        let name = self.bus.name(id);
        self.tell(Event::Controller {
            change,
            session: id,
            name,
            uid: peer.uid,
            pid: peer.pid,
        });
    }
}

/// Appends a reply or refusal in a controller's dialect, and logs if it was too long for that.
pub(super) fn encode(controller: &mut Controller, outcome: &Result<Reply, Refusal>) {
    let dialect = controller.conversation.dialect();
    let replies = &mut controller.replies;
    let cut = match outcome {
        Ok(reply) => dialect.encode_reply(reply, replies),
        Err(refusal) => dialect.encode_refusal(refusal, replies),
    };
    if cut > 0 {
        log::warn!("{cut} octets of a reply to {controller} do not fit into a message");
    }
}
