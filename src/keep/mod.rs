//! What Tor forgets and the daemon keeps: onion services, keys of their clients and address maps,
//! each with its owner. It is there again after every restart of Tor.
//!
//! Services are made on the daemon's own connection, so that they end neither with a controller nor
//! with its connection to Tor. Keys and maps are Tor's for everybody, whichever connection sets
//! them, and are only noted. Octets and time go in, octets and [outputs](Output) come out.

mod commands;
mod item;
mod lease;
mod list;
mod note;
mod restore;
mod service;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use zeroize::{Zeroize as _, Zeroizing};

use crate::command::Verb;
use crate::policy::identity::Owner;
use crate::tor::fence::Fence;
use crate::tor::leg::{Leg, Output as OfLeg};
use crate::tor::merge::{Merge, Query};
use crate::wire::fields::{AddOnion, Fields, Key, Onion};
use crate::wire::message::SessionId;

use item::{Item, Kept, Service, State, What};
pub use lease::ConfChange;
use lease::Leases;
pub use note::Note;
use service::scalar;
pub use store::StoreError;

/// The most octets of one answer of Tor's.
const MOST_ANSWER: usize = 64 * 1024;

/// The longest time for which commands wait for a restored Tor.
const HOLD: Duration = Duration::from_secs(5);

/// The time after which a Tor that is still there has only closed one connection.
const GLANCE: Duration = Duration::from_millis(50);

/// The time between tries while Tor has not noticed yet that a connection has ended, and the most
/// of those tries.
const COLLISION: (Duration, u32) = (Duration::from_millis(200), 10);

/// The longest time between two tries.
const LONGEST: Duration = Duration::from_secs(60);

/// The refusal of a service that another connection has.
const COLLIDES: &[u8] = b"550 Onion address collision\r\n";

/// The most keys and maps of one owner that are kept; more are Tor's alone.
const MOST_NOTED: usize = 256;

/// The way to write the store, where there is one: its text goes in, an error comes out in words.
pub type Write<'a> = dyn FnMut(&[u8]) -> Result<(), String> + 'a;

/// The keeper.
#[derive(Debug)]
pub struct Keeper {
    items: Vec<Kept>,
    /// The controllers whose services can be kept, and who they are.
    present: BTreeMap<SessionId, Owner>,
    fence: Fence,
    leg: Leg,
    /// What the answers are for that Tor owes.
    tasks: VecDeque<Task>,
    stage: Stage,
    /// The time until which commands for Tor wait, and nobody is told that it is there.
    hold: Option<Instant>,
    /// The ends of the keeper's connection since Tor has answered what it was asked.
    ends: u32,
    /// Services are written down.
    is_stored: bool,
    /// Tor has lost the keys since it was asked to take them again.
    repair_is_due: bool,
    leases: Leases,
    outputs: VecDeque<Output>,
}

/// The controller that a command comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The controller's place in the loop.
    pub key: usize,
    /// The controller's session.
    pub session: SessionId,
    /// The owner of what it makes.
    pub owner: Owner,
    /// The time for which a service waits for its owner.
    pub grace: Duration,
}

/// Something for the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// The reply to a controller's command.
    Reply(Asker, Vec<u8>),
    /// A service is there again, for its owner.
    Made(Onion, Owner),
    /// A service is no more.
    Ended(Onion),
    /// A temporary key of a client is there again, for its owner.
    Unlocked(Onion, Owner),
    /// Those who wait for the keeper may look again.
    News,
    /// The line of a LEASE event behind its name.
    Lease(String),
    /// What there is has been restored: commands for Tor may go.
    Ready,
    /// The line of a RESTORE event behind its name, for the controllers of one owner.
    Restored(Owner, String),
    /// The store cannot be written, for this reason.
    NotStored(String),
    /// Tor has no option of this name, which was to be leased.
    UnknownLease(String),
}

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is the reply.
    Reply(Vec<u8>),
    /// The reply comes as an output.
    Later,
    /// The command is Tor's, on the controller's own connection.
    OfTor,
}

#[derive(Debug)]
enum Stage {
    /// Tor is away.
    Away,
    /// Only the keeper's connection has ended, which shows at this time.
    Broken(Instant),
    /// So many answers are missing, and are waited for until this time.
    Restoring(usize, Instant),
    /// Everything is there, or is tried again at its time.
    There,
}

#[derive(Debug)]
enum Task {
    Add(Asker, Box<AddOnion>, usize),
    Replace(Asker, Box<AddOnion>, Onion),
    Delete(Asker, Onion),
    /// Nobody waits for it.
    Drop,
    /// The values before the change of leased options that has this number.
    BeforeLease(u64),
    /// The values after one.
    AfterLease,
    /// The values after a change of somebody's.
    LookAtLeases,
    /// A leased option is set back.
    SetBack(Box<Fields>),
    /// Whether it is told, and whether it belongs to the restoring that commands wait for.
    Restore(Item, bool, bool),
}

fn failed(text: &str) -> Vec<u8> {
    format!("551 {text}\r\n").into_bytes()
}

impl Keeper {
    /// A keeper that has nothing, for a Tor that is away. `fence` is that of every connection.
    #[must_use]
    pub fn new(fence: Fence) -> Self {
        Self {
            items: Vec::new(),
            present: BTreeMap::new(),
            fence,
            leg: Leg::default(),
            tasks: VecDeque::new(),
            stage: Stage::Away,
            hold: None,
            ends: 0,
            is_stored: false,
            repair_is_due: false,
            leases: Leases::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether nothing is kept or under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.items.is_empty() && self.tasks.is_empty()
    }

    /// Whether anything is kept that the next Tor must be given.
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether a connection to Tor is needed now.
    #[must_use]
    pub fn wants_link(&self) -> bool {
        !self.tasks.is_empty() && !matches!(self.stage, Stage::Away | Stage::Broken(_))
    }

    /// Whether commands for Tor wait until it has back what it has forgotten.
    #[must_use]
    pub const fn is_restoring(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether keys are kept that Tor may lose at a change of its configuration.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.items
            .iter()
            .any(|kept| matches!(kept.what, What::Key(_)))
    }

    /// A controller is there whose services can be kept.
    pub fn handle_entered(&mut self, session: SessionId, owner: &Owner) {
        for kept in &mut self.items {
            if kept.owner == *owner && !matches!(kept.what, What::Onion(_)) {
                kept.until = None;
            }
        }
        self.present.insert(session, owner.clone());
    }

    /// A controller has left.
    pub fn handle_left(&mut self, session: SessionId, now: Instant) {
        self.end_leases_of(session);
        let Some(owner) = self.present.remove(&session) else {
            return;
        };
        let is_last = !self.present.values().any(|other| *other == owner);
        let mut doomed = Vec::new();
        for kept in &mut self.items {
            match &mut kept.what {
                What::Onion(service) if service.holder == Some(session) => {
                    service.holder = None;
                    if service.is_secret {
                        doomed.push(service.onion.clone());
                    } else {
                        kept.until = Some(now + kept.grace);
                    }
                }
                What::Key(_) | What::Map(..) if is_last && kept.owner == owner => {
                    kept.until = Some(now + kept.grace);
                }
                _ => {}
            }
        }
        for onion in doomed {
            self.remove(&Item::Onion(onion));
        }
    }

    /// Whether a key is that of a service which somebody else has.
    #[must_use]
    pub fn is_foreign(&self, key: &Key, owner: Option<&Owner>) -> bool {
        let scalar = scalar(key);
        scalar.is_some_and(|scalar| {
            self.services()
                .any(|(kept, service)| service.scalar == scalar && Some(&kept.owner) != owner)
        })
    }

    /// Whether a service of an owner's is kept that has this key.
    #[must_use]
    pub fn has_service(&self, key: &Key, owner: &Owner) -> bool {
        let scalar = scalar(key);
        scalar.is_some_and(|scalar| {
            self.services()
                .any(|(kept, service)| service.scalar == scalar && kept.owner == *owner)
        })
    }

    /// Whether Tor has been asked for something and has not answered yet. The last command about
    /// it decides what Tor has.
    fn awaits(&self, item: &Item) -> bool {
        self.tasks.iter().any(|task| match (task, item) {
            (Task::Restore(other, ..), item) => other == item,
            (Task::Replace(_, _, other), Item::Onion(onion)) => other == onion,
            _ => false,
        })
    }

    fn awaits_keys(&self) -> bool {
        let is_of_key = |task: &Task| matches!(task, Task::Restore(Item::Key(_), ..));
        self.tasks.iter().any(is_of_key)
    }

    /// The reply to what the keeper cannot ask Tor now, if it cannot.
    fn unreachable(&self) -> Option<Outcome> {
        let cause = match self.stage {
            Stage::Away => "it is away",
            Stage::Broken(_) if self.ends > 1 => "it closes the connection",
            _ => return None,
        };
        let reply = failed(&format!("Tor is not reachable: {cause}"));
        Some(Outcome::Reply(reply))
    }

    /// Asks Tor something.
    fn ask(&mut self, fields: &Fields, task: Task) {
        let mut command = Zeroizing::new(Vec::new());
        fields.write(&mut command);
        let query = Query {
            command: std::mem::take(&mut *command),
            replies: fields.verb().replies(),
            merge: Merge::Reply,
            question: None,
            is_judged: false,
            is_noted: false,
        };
        self.leg.handle_query(query, &self.fence);
        self.tasks.push_back(task);
    }

    /// The octets for Tor; whoever sends some of them drains those.
    pub const fn poll_transmit(&mut self) -> &mut Vec<u8> {
        self.leg.poll_transmit()
    }

    /// Wipes what has been sent.
    pub fn handle_transmitted(&mut self) {
        let transmit = self.leg.poll_transmit();
        if transmit.is_empty() {
            transmit.zeroize();
        }
    }

    /// Something for the server, if there is anything.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The time at which something is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Broken(at) | Stage::Restoring(_, at) => Some(at),
            Stage::Away | Stage::There => None,
        };
        let is_there = matches!(self.stage, Stage::There);
        let items = self.items.iter().flat_map(|kept| {
            let again = match &kept.state {
                State::Failed { at, .. } if is_there => Some(*at),
                _ => None,
            };
            [kept.until, again]
        });
        items.flatten().chain(stage).chain(self.hold).min()
    }

    /// The connection to Tor is there and logged in; Tor answers fences, or something between does
    /// not let them through.
    pub fn handle_open(&mut self, fences: bool) {
        self.leg.handle_open(fences, &self.fence);
    }

    /// Takes what Tor has sent.
    pub fn handle_octets(&mut self, octets: &[u8], now: Instant, write: &mut Write<'_>) {
        let mut outputs = Vec::new();
        self.leg
            .handle_octets(octets, &self.fence, MOST_ANSWER, &mut outputs);
        for output in outputs {
            let OfLeg::Answer(_, answer) = output else {
                continue;
            };
            let answer = Zeroizing::new(answer.unwrap_or_else(|| failed("The reply is too long")));
            if let Some(task) = self.tasks.pop_front() {
                self.answered(task, &answer, now, write);
            }
        }
    }

    fn services(&self) -> impl Iterator<Item = (&Kept, &Service)> {
        self.items.iter().filter_map(|kept| match &kept.what {
            What::Onion(service) => Some((kept, service)),
            _ => None,
        })
    }

    fn find(&mut self, item: &Item) -> Option<&mut Kept> {
        self.items.iter_mut().find(|kept| kept.is(item))
    }

    /// Forgets something, which Tor does not have any more.
    fn forget(&mut self, item: &Item) {
        self.items.retain(|kept| !kept.is(item));
        if let Item::Onion(onion) = item {
            self.outputs.push_back(Output::Ended(onion.clone()));
        }
    }

    /// Forgets something, and lets Tor forget a service. Keys and maps stay in Tor.
    fn remove(&mut self, item: &Item) {
        let is_there = self
            .find(item)
            .is_some_and(|kept| kept.state.may_be_there());
        self.forget(item);
        if let Item::Onion(onion) = item
            && is_there
        {
            self.ask(&Fields::DelOnion(onion.clone()), Task::Drop);
        }
    }

    /// The command of a controller that is to be noted, if it is.
    #[must_use]
    pub fn note(&self, fields: &Fields) -> Option<Note> {
        Note::of(fields)
    }

    /// A command that is noted was answered. `asker` is there if its keys and maps are kept.
    pub fn handle_noted(&mut self, note: Note, asker: Option<&Asker>, answer: &[u8], now: Instant) {
        for change in note.changes(answer) {
            match change {
                note::Change::Set(what) => self.set(&what, asker, now),
                note::Change::Removed(item) => {
                    self.forget(&item);
                    // Tor may do what it was asked for after it has removed it.
                    if self.awaits(&item)
                        && let Some(removal) = item.removal()
                    {
                        self.ask(&removal, Task::Drop);
                    }
                }
                note::Change::KeysLost => self.handle_keys_lost(),
                note::Change::Leased(session) => self.handle_lease_answered(session),
            }
        }
    }

    fn set(&mut self, what: &What, asker: Option<&Asker>, now: Instant) {
        let item = what.item();
        // Tor may do what it was asked for before this, and then this must come again.
        if self.awaits(&item) {
            let is_kept = asker.is_some() && !what.is_permanent();
            let task = if is_kept {
                Task::Restore(item.clone(), false, false)
            } else {
                Task::Drop
            };
            self.ask(&what.command(), task);
        }
        self.items.retain(|kept| !kept.is(&item));
        // What Tor itself keeps needs nobody else to.
        let Some(asker) = asker.filter(|_| !what.is_permanent()) else {
            return;
        };
        // Who has sent it may have left since.
        let is_present = self.present.values().any(|owner| *owner == asker.owner);
        let kept = Kept {
            what: what.clone(),
            owner: asker.owner.clone(),
            grace: asker.grace,
            until: (!is_present).then(|| now + asker.grace),
            state: State::There,
            is_leaving: false,
        };
        let is_of_owner =
            |other: &&Kept| other.owner == kept.owner && !matches!(other.what, What::Onion(_));
        if self.items.iter().filter(is_of_owner).count() < MOST_NOTED {
            self.items.push(kept);
        }
    }
}

/// Whether the keeper has to do with a command of this verb, or looks at its answer.
#[must_use]
pub fn concerns(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::AddOnion
            | Verb::DelOnion
            | Verb::OnionClientAuthAdd
            | Verb::OnionClientAuthRemove
            | Verb::MapAddress
            | Verb::SetConf
            | Verb::ResetConf
            | Verb::LoadConf
            | Verb::GetInfo
    )
}
