//! The bus: who is on it, what they are called, and what they post to each other (proposal 197).
//!
//! [`Bus`] decides, in the loop's thread; [`fanout`] delivers, in its own unless it is little.

mod delivery;
pub mod fanout;
mod history;
mod interest;
mod item;
mod subscribers;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::account::Account;
use crate::wire::event::{EventKind, EventMask};
pub use crate::wire::message::SessionId;
use crate::wire::message::{ALL, ControllerId, Destination, Message};
use crate::wire::refusal::Refusal;

use history::{History, Kept, Messages};
use interest::Interest;

/// How many unread messages are kept: so many to `@all`, and apart from them so many to a name.
pub const UNREAD: usize = 10;

/// The highest number behind a name that is looked for.
const NUMBERS: u64 = 99;

/// Every controller, every name and the messages that can still be asked for.
#[derive(Debug)]
pub struct Bus {
    controllers: BTreeMap<SessionId, Controller>,
    names: HashMap<ControllerId, SessionId>,
    interest: Interest,
    history: History,
    /// The newest messages to `@all`, for those who have not subscribed.
    to_all: Messages,
    /// Unread messages to the names of controllers, for the few that have any.
    mail: HashMap<SessionId, Messages>,
    /// The `MessageID` used last.
    last_id: u64,
    /// The `MessageID` used last before the start.
    first_id: u64,
    /// The number of unread messages to names that are gone.
    dropped: u64,
    /// The highest `MessageID` that may be used: those above are not reserved yet.
    reserved: u64,
}

#[derive(Debug)]
struct Controller {
    name: Option<ControllerId>,
    uid: u32,
    logged_in: bool,
    events: EventMask,
    /// Messages to `@all` up to this id are read, or were before its time.
    read: u64,
    /// The id of the message that it has posted last; 0 is none.
    posted: u64,
}

/// Who gets a message as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Every controller that subscribed to its kind.
    Subscribers,
    /// This controller only.
    One(SessionId),
    /// These.
    Many(Arc<[SessionId]>),
}

/// A message that got its id and its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Posted {
    /// The message.
    pub message: Arc<Message>,
    /// Who gets it as an event; `None`: it waits as unread mail.
    pub to: Option<To>,
}

/// A controller that has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its name.
    pub name: Option<ControllerId>,
    /// Whether others could know of it.
    pub logged_in: bool,
}

impl Bus {
    /// A bus whose next message has the id after `last_id`, and that remembers the last `history`
    /// messages.
    #[must_use]
    pub fn new(last_id: u64, history: usize) -> Self {
        Self {
            controllers: BTreeMap::new(),
            names: HashMap::new(),
            interest: Interest::default(),
            history: History::new(history),
            to_all: Messages::with_capacity(UNREAD),
            mail: HashMap::new(),
            last_id,
            first_id: last_id,
            dropped: 0,
            reserved: last_id,
        }
    }

    /// How many messages can be posted before more ids must be [reserved](Self::reserve).
    #[must_use]
    pub fn ids_left(&self) -> u64 {
        self.reserved - self.last_id
    }

    /// The `MessageID` used last.
    #[must_use]
    pub const fn last_id(&self) -> u64 {
        self.last_id
    }

    /// The number of messages that were posted since the start.
    #[must_use]
    pub const fn posted(&self) -> u64 {
        self.last_id - self.first_id
    }

    /// The number of messages to a name that nobody will read: newer ones took their place, memory
    /// was short, or whoever they were for has left.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Allows ids up to `reserved`, which a crash will not bring back.
    pub fn reserve(&mut self, reserved: u64) {
        self.reserved = reserved.max(self.reserved);
    }

    /// Changes how many messages are remembered (`BusHistory`).
    pub fn set_history(&mut self, length: usize) {
        self.history.set_length(length);
    }

    /// The event kinds that at least one controller has subscribed to.
    #[must_use]
    pub const fn interest(&self) -> EventMask {
        self.interest.mask()
    }

    /// A connection has come. Others learn of it when it [logs in](Self::log_in).
    pub fn join(&mut self, session: SessionId, uid: u32) {
        let controller = Controller {
            name: None,
            uid,
            logged_in: false,
            events: EventMask::NONE,
            read: self.last_id,
            posted: 0,
        };
        self.controllers.insert(session, controller);
    }

    /// The controller has logged in.
    pub fn log_in(&mut self, session: SessionId) {
        if let Some(controller) = self.controllers.get_mut(&session) {
            controller.logged_in = true;
        }
    }

    /// The connection has ended: its name is free, its mail is gone.
    pub fn leave(&mut self, session: SessionId) -> Option<Left> {
        let controller = self.controllers.remove(&session)?;
        let unread = self.mail.remove(&session);
        self.dropped += unread.map_or(0, |unread| unread.len() as u64);
        if let Some(name) = &controller.name {
            self.names.remove(name);
        }
        self.interest.change(controller.events, EventMask::NONE);
        Some(Left {
            name: controller.name,
            logged_in: controller.logged_in,
        })
    }

    /// The name of a controller.
    #[must_use]
    pub fn name(&self, session: SessionId) -> Option<ControllerId> {
        self.controllers.get(&session)?.name.clone()
    }

    /// CONTROLLERNAME: registers `name` and frees the one before, which is returned.
    pub fn register(
        &mut self,
        session: SessionId,
        name: &[u8],
    ) -> Result<Option<ControllerId>, Refusal> {
        let name = ControllerId::parse(name).ok_or(Refusal::BadControllerId)?;
        let holder = self.names.get(&name).copied();
        if name.is_reserved() || holder.is_some_and(|holder| holder != session) {
            return Err(Refusal::NameInUse);
        }
        let Some(controller) = self.controllers.get_mut(&session) else {
            return Ok(None);
        };
        let old = controller.name.replace(name.clone());
        if let Some(old) = &old {
            self.names.remove(old);
        }
        self.names.insert(name, session);
        Ok(old)
    }

    /// `name` for a controller if it is free, else the first of `name_2`, `name_3` ... that is, and
    /// where many are in use the one with the number of its session.
    #[must_use]
    pub fn free_name(&self, session: SessionId, name: &ControllerId) -> Option<ControllerId> {
        let is_free = |name: &ControllerId| !name.is_reserved() && !self.names.contains_key(name);
        if is_free(name) {
            return Some(name.clone());
        }
        // Looking for it must not take longer, the more there are.
        (2..=NUMBERS)
            .chain([session])
            .filter_map(|number| ControllerId::parse(format!("{name}_{number}").as_bytes()))
            .find(is_free)
    }

    /// The id of the message that a controller has posted last; 0 is none.
    #[must_use]
    pub fn posted_by(&self, session: SessionId) -> u64 {
        let controller = self.controllers.get(&session);
        controller.map_or(0, |controller| controller.posted)
    }

    /// Remembers that a controller has posted a message.
    pub fn note_posted(&mut self, session: SessionId, id: u64) {
        if let Some(controller) = self.controllers.get_mut(&session) {
            controller.posted = id;
        }
    }

    /// POSTMESSAGE of `source`: gives the message its id and its place in the order. As long as it
    /// can be asked for, it is charged to `account`.
    ///
    /// At least one id must be [left](Self::ids_left). A message that is refused uses none.
    pub fn post(
        &mut self,
        source: Option<ControllerId>,
        account: &Arc<Account>,
        destination: &[u8],
        text: &[u8],
    ) -> Result<Posted, Refusal> {
        if self.ids_left() == 0 {
            return Err(Refusal::Failed("No MessageID is left".into()));
        }
        let (destination, addressee) = if destination == ALL.as_bytes() {
            (Destination::All, None)
        } else {
            let holder = std::str::from_utf8(destination)
                .ok()
                .and_then(|name| self.names.get_key_value(name));
            let (name, &holder) = holder.ok_or(Refusal::NoSuchDestination)?;
            (Destination::Name(name.clone()), Some(holder))
        };
        self.last_id += 1;
        let message = Arc::new(Message {
            id: self.last_id,
            source,
            destination,
            text: text.into(),
        });
        let holder = addressee.and_then(|holder| self.controllers.get(&holder));
        let holder = holder.map(|holder| holder.uid);
        let kept = self.history.push(account, &message, holder);
        let to = match addressee {
            None => {
                // Whoever has not read the one that goes is nobody in particular.
                keep_newest(&mut self.to_all, &kept);
                self.to_subscribers(EventKind::PostMessage)
            }
            Some(holder) => self.mail(holder, &kept),
        };
        Ok(Posted { message, to })
    }

    /// What a controller has subscribed to.
    #[must_use]
    pub fn events(&self, session: SessionId) -> EventMask {
        self.controllers
            .get(&session)
            .map_or(EventMask::NONE, |controller| controller.events)
    }

    /// Everybody who subscribed to `kind`, or nobody at all.
    #[must_use]
    pub const fn to_subscribers(&self, kind: EventKind) -> Option<To> {
        if self.interest().contains(kind) {
            Some(To::Subscribers)
        } else {
            None
        }
    }

    /// A message to a name: an event if the holder has subscribed, else unread mail.
    fn mail(&mut self, holder: SessionId, kept: &Rc<Kept>) -> Option<To> {
        if self.listens(holder) {
            return Some(To::One(holder));
        }
        self.dropped += u64::from(keep_newest(self.mail.entry(holder).or_default(), kept));
        None
    }

    /// The octets of memory that a user's messages take.
    #[must_use]
    pub fn held_by(&self, uid: u32) -> usize {
        self.kept_of(uid).map(|(_, octets)| octets).sum()
    }

    /// Forgets the oldest messages of a user, until at least so many octets are free, or none is
    /// left. Returns their number and their octets.
    pub fn forget_oldest(&mut self, uid: u32, octets: usize) -> (usize, usize) {
        let (mut messages, mut freed, mut last) = (0, 0, 0);
        for (id, held) in self.kept_of(uid) {
            if freed >= octets {
                break;
            }
            messages += 1;
            freed += held;
            last = id;
        }
        let stays = |kept: &Rc<Kept>| kept.charge.account().uid() != uid || kept.message.id > last;
        for place in self.mail.values_mut() {
            let before = place.len();
            place.retain(stays);
            self.dropped += (before - place.len()) as u64;
        }
        for place in [&mut self.history.kept, &mut self.to_all] {
            if !place.iter().all(stays) {
                place.retain(stays);
            }
        }
        self.mail.retain(|_, unread| !unread.is_empty());
        (messages, freed)
    }

    /// A user's messages that are kept, the oldest first: the id and the octets of each.
    fn kept_of(&self, uid: u32) -> impl Iterator<Item = (u64, usize)> {
        let unread = self.mail.values().flatten();
        let kept = unread.chain(&self.to_all).chain(&self.history.kept);
        let theirs = kept.filter(|kept| kept.charge.account().uid() == uid);
        let each: BTreeMap<u64, usize> = theirs
            .map(|kept| (kept.message.id, kept.charge.octets()))
            .collect();
        each.into_iter()
    }

    /// SETEVENTS: replaces what the controller has subscribed to. The messages returned must
    /// follow the `250 OK` as events: the unread ones of a controller that begins to listen.
    pub fn subscribe(&mut self, session: SessionId, events: EventMask) -> Vec<Arc<Message>> {
        let Some(controller) = self.controllers.get_mut(&session) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut controller.events, events);
        self.interest.change(before, events);
        let listened = before.contains(EventKind::PostMessage);
        match (listened, events.contains(EventKind::PostMessage)) {
            (false, true) => self.take_unread(session),
            (true, false) => {
                controller.read = self.last_id;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// `GETINFO new-messages`: the newest [`UNREAD`] unread messages, oldest first; nothing is
    /// unread after it. Where there are more, those to the controller's name come before those to
    /// `@all`.
    pub fn new_messages(&mut self, session: SessionId) -> Vec<Arc<Message>> {
        if self.listens(session) {
            return Vec::new();
        }
        let mut unread = self.take_unread(session);
        while unread.len() > UNREAD {
            let oldest = unread
                .iter()
                .position(|message| message.destination == Destination::All)
                .unwrap_or(0);
            unread.remove(oldest);
        }
        unread
    }

    /// Whether the controller is told each message as an event, and so has none unread.
    fn listens(&self, session: SessionId) -> bool {
        self.controllers
            .get(&session)
            .is_some_and(|controller| controller.events.contains(EventKind::PostMessage))
    }

    /// Everything unread that is kept, oldest first; nothing is unread after it.
    fn take_unread(&mut self, session: SessionId) -> Vec<Arc<Message>> {
        let Some(controller) = self.controllers.get_mut(&session) else {
            return Vec::new();
        };
        let read = std::mem::replace(&mut controller.read, self.last_id);
        let mail = self.mail.remove(&session).unwrap_or_default();
        let to_all = self.to_all.iter().filter(|kept| kept.message.id > read);
        let mut unread: Vec<_> = mail
            .iter()
            .chain(to_all)
            .map(|kept| Arc::clone(&kept.message))
            .collect();
        unread.sort_unstable_by_key(|message| message.id);
        unread
    }

    /// `GETINFO recent-messages`: what is remembered of the messages to `@all` and to the
    /// controller's name, oldest first.
    #[must_use]
    pub fn recent_messages(&self, session: SessionId) -> Vec<Arc<Message>> {
        let Some(controller) = self.controllers.get(&session) else {
            return Vec::new();
        };
        self.history
            .readable(controller.name.as_ref(), controller.uid)
    }

    /// `GETINFO list-controllers`: every controller that has logged in, in the order they
    /// connected.
    #[must_use]
    pub fn list(&self) -> Vec<Option<ControllerId>> {
        self.controllers
            .values()
            .filter(|controller| controller.logged_in)
            .map(|controller| controller.name.clone())
            .collect()
    }
}

/// Keeps a message; `true` if an older one has made room for it.
fn keep_newest(messages: &mut Messages, kept: &Rc<Kept>) -> bool {
    let is_full = messages.len() == UNREAD;
    if is_full {
        messages.pop_front();
    }
    messages.push_back(Rc::clone(kept));
    is_full
}
