//! Commands of controllers that the keeper carries out or looks at.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::daemon::Daemon;
use super::keeper::{Keeping, writer};
use crate::command::Verb;
use crate::controller::{Plan, Wait};
use crate::keep::{Asker, ConfChange, Note, Outcome, concerns};
use crate::policy::identity::{self, Identity, Owner};
use crate::sys::{peer, process};
use crate::tor::merge::{Merge, Query};
use crate::wire::fields::{self, Fields};
use crate::wire::message::UNSET;
use crate::wire::refusal::Refusal;
use crate::wire::request::Request;
use crate::wire::text::{self, Framed, Framer};

/// A command, as the keeper leaves it.
pub(super) enum Kept<'a> {
    /// It goes on by this plan.
    Plan(Plan<'a>),
    /// This is the reply.
    Reply(Vec<u8>),
    /// This is the refusal.
    Refuse(Refusal),
    /// The reply comes later.
    Later,
}

impl Daemon {
    /// The owner of what a connection makes, as the keeper knows it or the kernel says.
    fn owner(&self, connection: &Connection) -> Option<Owner> {
        let session = connection.conversation.id();
        let known = self.keeping.as_ref();
        let known = known.and_then(|keeping| keeping.keeper.owner(session));
        known.cloned().or_else(|| Self::owner_of(connection))
    }

    /// The owner of what a connection makes; none if it owns nothing.
    pub(super) fn owner_of(connection: &Connection) -> Option<Owner> {
        if let Some(guard) = &connection.guard {
            return guard.identity.owner();
        }
        let peer = connection.conversation.peer();
        let label = peer::label(connection.outbox.stream());
        let label = label.map(|label| identity::label(&label).to_vec());
        let identity = Identity {
            uid: peer.uid,
            label: label.unwrap_or_default(),
            socket: connection.socket.address.clone(),
            ..Identity::default()
        };
        identity.owner()
    }

    /// The controller, if what it makes is kept.
    pub(super) fn asker(&self, connection: &Connection, owner: Option<&Owner>) -> Option<Asker> {
        let of_profile = connection
            .guard
            .as_ref()
            .and_then(|guard| guard.grants.keep_onions());
        let grace = match of_profile {
            Some(seconds) => Duration::from_secs(seconds),
            None => self.options.settings().keep_onions,
        };
        let owner = owner.filter(|_| !grace.is_zero())?;
        Some(asker(connection, owner, grace))
    }

    /// The reason why a command for Tor must wait for the keeper, if it must.
    pub(super) fn must_wait_for_keeper(
        &mut self,
        connection: &Connection,
        plan: &Plan<'_>,
        command: &[u8],
    ) -> Option<Wait> {
        let keeping = self.keeping.as_ref()?;
        let command = for_tor(plan, command)?;
        if keeping.keeper.is_restoring() {
            return Some(Wait::Restore);
        }
        let is_made = matches!(verb_of(command), Some(Verb::AddOnion | Verb::DelOnion));
        if (is_made || keeping.keeper.is_needed()) && self.is_tor_coming() {
            return Some(Wait::Restore);
        }
        if is_made && !connection.is_quiet() {
            return Some(Wait::Answers);
        }
        let has_leases = self.has_leases();
        let change = has_leases.then(|| change_of(command)).flatten()?;
        if !connection.is_quiet() {
            return Some(Wait::Answers);
        }
        let session = connection.conversation.id();
        let name = self.bus.name(session);
        let name = name.as_ref().map_or(UNSET, |name| name.as_str());
        let keeping = self.keeping.as_mut()?;
        let is_gone = connection.left.is_some();
        let waits = keeping
            .keeper
            .must_wait_for_lease(session, name, is_gone, &change);
        self.flush_keeper();
        waits.then_some(Wait::Restore)
    }

    /// What the keeper does of a command for Tor.
    pub(super) fn keep<'a>(
        &mut self,
        connection: &mut Connection,
        plan: Plan<'a>,
        command: &[u8],
    ) -> Kept<'a> {
        if self.keeping.is_none() {
            return Kept::Plan(plan);
        }
        let Some(text) = for_tor(&plan, command) else {
            return Kept::Plan(plan);
        };
        if let Some(keeping) = &mut self.keeping
            && keeping.keeper.has_leases()
            && let Some(change) = change_of(text)
        {
            let session = connection.conversation.id();
            match keeping.keeper.judge_lease(session, &change) {
                Ok(false) => {}
                Ok(true) => {
                    let note = Note::Leased(session);
                    return Kept::Plan(noted(connection, plan, command, note));
                }
                Err(text) => {
                    let text = format!("Transition not allowed: {text}");
                    self.flush_keeper();
                    return Kept::Refuse(Refusal::Transition(text));
                }
            }
        }
        let Some(fields) = fields_of(text) else {
            return Kept::Plan(plan);
        };
        let owner = self.owner(connection);
        let keeps = self.asker(connection, owner.as_ref());
        let most = self.options.settings().max_onions;
        let session = connection.conversation.id();
        let Some(keeping) = &mut self.keeping else {
            return Kept::Plan(plan);
        };
        // It may be there since before anything was kept.
        if let (Some(owner), None) = (&owner, keeping.keeper.owner(session))
            && connection.left.is_none()
        {
            keeping.keeper.handle_entered(session, owner);
        }
        let mut write = writer(keeping.store.clone());
        let keeper = &mut keeping.keeper;
        // What is kept already can be taken up by its owner, though nothing new would be kept.
        let keeps = match (&fields, &owner, keeps) {
            (Fields::AddOnion(fields), Some(owner), None)
                if keeper.has_service(&fields.key, owner) =>
            {
                Some(asker(connection, owner, Duration::ZERO))
            }
            (.., keeps) => keeps,
        };
        let outcome = match (fields, keeps) {
            (Fields::AddOnion(fields), Some(asker)) => {
                keeper.handle_add(asker, fields, most, Instant::now(), &mut write)
            }
            (Fields::AddOnion(fields), None) if keeper.is_foreign(&fields.key, owner.as_ref()) => {
                Outcome::Reply(b"550 Onion address collision\r\n".to_vec())
            }
            (Fields::DelOnion(onion), _) => {
                let owner = owner.as_ref();
                let asker = owner.map(|owner| asker(connection, owner, Duration::ZERO));
                keeper.handle_delete(asker, owner, &onion, &mut write)
            }
            (fields, _) => {
                return match keeper.note(&fields) {
                    Some(note) => {
                        self.has_read_key |= matches!(note, Note::AddKey(_));
                        Kept::Plan(noted(connection, plan, command, note))
                    }
                    None => Kept::Plan(plan),
                };
            }
        };
        self.has_read_key = true;
        self.flush_keeper();
        match outcome {
            Outcome::OfTor => Kept::Plan(plan),
            Outcome::Reply(reply) => Kept::Reply(reply),
            Outcome::Later => {
                connection.wait = Wait::Kept;
                Kept::Later
            }
        }
    }

    /// A command that is only looked at was answered. Returns the reply that is shown.
    pub(super) fn end_note(&mut self, connection: &mut Connection, reply: Vec<u8>) -> Vec<u8> {
        let Some(note) = connection.controller.owed().notes.pop_front() else {
            return reply;
        };
        let owner = self.owner(connection);
        let asker = self.asker(connection, owner.as_ref());
        let Some(keeping) = &mut self.keeping else {
            return reply;
        };
        let shown = if let (Note::List(keys), Some(owner)) = (&note, &owner) {
            let session = connection.conversation.id();
            keeping.keeper.with_own(session, owner, keys, reply)
        } else {
            let now = Instant::now();
            keeping
                .keeper
                .handle_noted(note, asker.as_ref(), &reply, now);
            reply
        };
        self.flush_keeper();
        self.follow_interest();
        shown
    }

    fn has_leases(&self) -> bool {
        let has_leases = |keeping: &Keeping| keeping.keeper.has_leases();
        self.keeping.as_deref().is_some_and(has_leases)
    }

    /// A controller's command was carried out, which may have been refused with a change of leased
    /// options under way.
    pub(super) fn end_unsent_change(&mut self, session: u64) {
        if let Some(keeping) = &mut self.keeping {
            keeping.keeper.end_unsent(session);
            self.take_keeper_outputs();
        }
    }

    /// Notes of a controller's will never come to anything.
    pub(super) fn drop_notes(&mut self, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            if let (Note::Leased(session), Some(keeping)) = (note, &mut self.keeping) {
                keeping.keeper.handle_lease_answered(session);
            }
        }
        self.flush_keeper();
    }

    /// The value of `GETINFO kept-onions`: one's own services; those of all for root and for the
    /// daemon's user.
    pub(super) fn kept_onions(&self, session: u64) -> String {
        let Some(keeping) = &self.keeping else {
            return String::new();
        };
        let Some(asker) = keeping.keeper.owner(session) else {
            return String::new();
        };
        let sees_all = asker.uid == 0 || asker.uid == process::uid();
        let is_shown = |owner: &Owner| sees_all || owner == asker;
        keeping.keeper.about(Instant::now(), is_shown)
    }

    /// A keeper's reply to a command, as it is shown.
    pub(super) fn end_kept(&mut self, connection: &mut Connection, reply: Vec<u8>) -> Vec<u8> {
        if connection.controller.owed().sequels.is_empty() {
            return reply;
        }
        let shown = self.end_sequel(connection, reply);
        // It does not end with the connection, as the sequel thinks.
        connection.controller.owed().onions.clear();
        shown
    }
}

fn asker(connection: &Connection, owner: &Owner, grace: Duration) -> Asker {
    Asker {
        key: connection.key,
        session: connection.conversation.id(),
        owner: owner.clone(),
        grace,
    }
}

/// The command that a plan has for Tor, of which this is the one that came.
fn for_tor<'a>(plan: &'a Plan<'_>, command: &'a [u8]) -> Option<&'a [u8]> {
    match plan {
        Plan::Relay { .. } => Some(command),
        Plan::Ask(query) => Some(&query.command),
        Plan::Bus(_) | Plan::Refuse(_) | Plan::Reply(_) => None,
    }
}

fn verb_of(command: &[u8]) -> Option<Verb> {
    let end = command
        .iter()
        .position(|octet| b" \t\r\n\0".contains(octet));
    Verb::parse(command.get(..end.unwrap_or(command.len()))?)
}

/// The fields of a command that the keeper has to do with.
fn fields_of(command: &[u8]) -> Option<Fields> {
    let Framed::Command(command) = Framer::new().next(command) else {
        return None;
    };
    let verb = text::verb(command.keyword)
        .ok()
        .filter(|verb| concerns(*verb))?;
    fields::parse(verb, &command).ok()
}

/// The change of Tor's configuration that a command is, if it is one.
fn change_of(command: &[u8]) -> Option<ConfChange> {
    let Framed::Command(command) = Framer::new().next(command) else {
        return None;
    };
    let verb = text::verb(command.keyword).ok()?;
    if !matches!(verb, Verb::SetConf | Verb::ResetConf | Verb::LoadConf) {
        return None;
    }
    Some(match text::parse(verb, &command) {
        Ok(Request::SetConf(settings) | Request::ResetConf(settings)) => {
            ConfChange::Settings(settings)
        }
        Ok(Request::LoadConf(text)) => ConfChange::Text(text),
        _ => ConfChange::Unknown,
    })
}

/// The plan for a command whose answer is looked at.
fn noted<'a>(connection: &mut Connection, plan: Plan<'a>, command: &[u8], note: Note) -> Plan<'a> {
    let mut query = match plan {
        Plan::Ask(query) => query,
        Plan::Relay { replies, .. } => Box::new(Query {
            command: command.to_vec(),
            replies,
            merge: Merge::Reply,
            question: None,
            is_judged: false,
            is_noted: false,
        }),
        other => return other,
    };
    query.is_noted = true;
    connection.controller.owed().notes.push_back(note);
    Plan::Ask(query)
}
