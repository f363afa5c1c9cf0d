//! What the daemon does where a policy is in force: it says who each controller is, tells each what
//! it may have, and notes what it does.

use std::ffi::OsStr;
use std::mem::take;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::accept::SocketName;
use super::connection::Connection;
use super::court::{Court, Knowledge};
use super::daemon::Daemon;
use crate::audit::shown;
use crate::bus::{SessionId, To};
use crate::controller::Denied;
use crate::logging::by_user;
use crate::options::{Problem, Problems, Settings};
use crate::policy::identity::{self, Identity};
use crate::policy::{Behind, Change, Form, Grants, Guard, Names, Policy, Sequel, Source};
use crate::sys::peer::{self, Peer};
use crate::sys::{policy as files, users};
use crate::tor::facts::Facts;
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::message::{Message, UNSET};

/// Reads the policy that the options name, if they name one. The files belong to root or to the
/// user `daemon`.
pub fn read(settings: &Settings, daemon: u32) -> Result<Option<Policy>, Problems> {
    if settings.policy.is_empty() {
        return Ok(None);
    }
    let of = |file: &Path, line, text: String| Problem {
        file: Some(file.to_owned()),
        line,
        text,
    };
    let found = files::read(&settings.policy, daemon).map_err(|unusable| {
        let problems = unusable.into_iter();
        Problems(problems.map(|one| of(&one.path, None, one.text)).collect())
    })?;
    let shown: Vec<_> = found
        .iter()
        .map(|file| file.path.display().to_string())
        .collect();
    let sources: Vec<_> = found
        .iter()
        .zip(&shown)
        .map(|(found, file)| Source {
            file,
            text: &found.text,
            group: found.line,
        })
        .collect();
    let names = Names {
        user: &users::user,
        group: &users::group,
        users: users::all(),
        name: &users::name,
    };
    Policy::parse(&sources, &names)
        .map(Some)
        .map_err(|problems| {
            let problems = problems.into_iter();
            let of = |one: crate::policy::Problem| of(Path::new(&one.file), one.line, one.text);
            Problems(problems.map(of).collect())
        })
}

/// All that a policy asks of this machine's files.
#[must_use]
pub fn paths() -> Behind<'static> {
    fn path(octets: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(octets))
    }
    Behind {
        is_safe: Some(&|octets| files::is_roots(path(octets))),
        is_link: Some(&|octets| files::is_link(path(octets))),
        id: Some(&|octets| files::id(path(octets))),
        ..Behind::default()
    }
}

/// What the kernel says of who has connected.
pub(super) fn identity_of(
    stream: &impl std::os::fd::AsFd,
    peer: Peer,
    socket: &SocketName,
) -> Identity {
    let details = peer::details(stream, peer);
    let of_socket = |label: &Vec<u8>| identity::label(label).to_vec();
    let unit = details.cgroup.as_deref().and_then(identity::unit);
    let of_status = || details.status.as_deref().and_then(identity::groups);
    let groups = details.groups.or_else(of_status);
    Identity {
        uid: peer.uid,
        gid: peer.gid,
        groups: groups.unwrap_or_default(),
        label: details.label.as_ref().map(of_socket).unwrap_or_default(),
        unit: unit.unwrap_or_default().to_vec(),
        pid: peer.pid,
        socket: socket.address.clone(),
        passed: socket.passed.clone(),
    }
}

impl Daemon {
    /// The guard of a connection that is let in; none without a policy.
    pub(super) fn guard(
        &mut self,
        session: SessionId,
        stream: &impl std::os::fd::AsFd,
        peer: Peer,
        socket: &SocketName,
    ) -> Option<Box<Guard>> {
        let court = self.court.as_mut()?;
        let identity = identity_of(stream, peer, socket);
        let grants = court.grants(&identity);
        court.enter(session, Arc::clone(&grants));
        let name = self.bus.name(session);
        Some(Box::new(Guard {
            session,
            name: name.map_or_else(|| UNSET.to_owned(), |name| name.to_string()),
            identity: Arc::new(identity),
            grants,
        }))
    }

    /// Judges a connection by the policy that has come, also what one sent that has left.
    pub(super) fn judge_anew(&mut self, connection: &mut Connection) {
        connection.forget_verdict();
        let before = connection.controller.guard.take();
        let session = connection.conversation.id();
        let guard = match (&before, &mut self.court) {
            (_, None) => None,
            (Some(guard), Some(court)) => {
                let grants = court.grants(&guard.identity);
                Some(Box::new(Guard {
                    grants,
                    ..(**guard).clone()
                }))
            }
            (None, Some(_)) => {
                let (outbox, peer) = (
                    Arc::clone(&connection.outbox),
                    connection.conversation.peer(),
                );
                let socket = Arc::clone(&connection.socket);
                self.guard(session, outbox.stream(), peer, &socket)
            }
        };
        let has_changed = match (&before, &guard) {
            (Some(before), Some(guard)) => before.grants != guard.grants,
            (before, guard) => before.is_some() != guard.is_some(),
        };
        connection.controller.guard = guard;
        if let Some(before) = before.filter(|_| self.audit.is_written()) {
            connection.identity = Some(before.identity);
        }
        if connection.left.is_some() {
            self.leave_court(session);
            return;
        }
        if let (Some(guard), Some(court)) = (&connection.controller.guard, &mut self.court) {
            court.enter(session, Arc::clone(&guard.grants));
        }
        if !has_changed {
            return;
        }
        let events = self.bus.events(session);
        if connection.is_subscribed {
            let kept = self.without_refused(connection, events);
            self.bus.subscribe(session, kept);
            self.change_subscription(connection, kept);
        }
        if events.contains(EventKind::Policy) {
            self.events.push((Event::PolicyChanged, To::One(session)));
        }
    }

    /// Of these events those that a controller may have and gets.
    pub(super) fn without_refused(&self, connection: &Connection, events: EventMask) -> EventMask {
        match &connection.guard {
            None => events.without([EventKind::Policy].into_iter().collect()),
            Some(guard) if guard.passes() => events,
            Some(guard) => self.of_form(&guard.grants, events, |form| form != Form::Quiet),
        }
    }

    /// Of these events those that are granted in such a form.
    fn of_form(
        &self,
        grants: &Grants,
        events: EventMask,
        is_meant: impl Fn(Form) -> bool,
    ) -> EventMask {
        let names = self.tor.as_ref().map(|tor| &tor.upstream.names);
        let is_of = |kind: &EventKind| {
            let form = match (kind.name(), names) {
                (Some(name), _) => grants.event(name.as_bytes()),
                (None, Some(names)) => grants.event(names.name(*kind)),
                (None, None) => None,
            };
            form.is_some_and(&is_meant)
        };
        let is_in = |kind: &EventKind| events.contains(*kind);
        let kept: EventMask = EventKind::all().filter(is_in).filter(is_of).collect();
        let logs = [EventKind::Notice, EventKind::Warn, EventKind::Err];
        if events.has_any_log() && logs.iter().all(is_of) {
            kept.union(EventMask::ANY_LOG)
        } else {
            kept
        }
    }

    /// Of these events those that a controller gets whatever they are about. Of the others the
    /// court knows from now on.
    pub(super) fn plain_events(&mut self, connection: &Connection, events: EventMask) -> EventMask {
        let guard = connection.guard.as_ref().filter(|guard| !guard.passes());
        let mut plain = events;
        if let Some(guard) = guard {
            // Each message is looked at.
            let messages = [EventKind::PostMessage].into_iter().collect();
            plain = self.of_form(&guard.grants, events.without(messages), |form| {
                form == Form::Plain
            });
        }
        self.set_own_events(connection.conversation.id(), events.without(plain));
        plain
    }

    fn set_own_events(&mut self, session: SessionId, own: EventMask) {
        if let Some(court) = &mut self.court
            && let Some(member) = court.members.get_mut(&session)
            && member.own != own
        {
            member.own = own;
            court.groups.clear();
        }
    }

    /// Of these messages those that a controller may read.
    pub(super) fn readable(
        &self,
        session: SessionId,
        mut messages: Vec<Arc<Message>>,
    ) -> Vec<Arc<Message>> {
        let grants = self
            .court
            .as_ref()
            .and_then(|court| court.grants_of(session));
        if let Some(grants) = grants {
            messages.retain(|message| grants.reads_message(message));
        }
        messages
    }

    /// A controller has left.
    pub(super) fn leave_court(&mut self, session: SessionId) {
        if let Some(court) = &mut self.court {
            court.leave(session);
        }
    }

    /// Takes in an event before anybody is told.
    pub(super) fn note_event(&mut self, kind: EventKind, line: &[u8]) {
        self.note_outside(kind, line);
        let Some(court) = &mut self.court else { return };
        // What nobody watches to its end would never be forgotten.
        let is_of_list = matches!(kind, EventKind::Circ | EventKind::Stream);
        if !is_of_list || court.interest().contains(kind) {
            court.ledger.handle_event(line);
        }
        if kind == EventKind::ConfChanged {
            self.ask_for_facts();
        }
    }

    /// Wants to know Tor's options and listeners as they are now, and of a Tor of which nothing is
    /// known also which client keys it has already.
    pub(super) fn ask_for_facts(&mut self) {
        let is_new = |court: &Court| matches!(court.knowledge, Knowledge::None);
        let about_keys = self.court.as_deref().is_some_and(is_new);
        if (self.court.is_some() || self.watches_outside())
            && let Some(tor) = &mut self.tor
            && let Some(watcher) = tor.upstream.watcher()
        {
            watcher.handle_curiosity(about_keys);
        }
    }

    pub(super) fn facts_came(&mut self, facts: Facts) {
        self.audit.trail.names.handle_names(facts.names.clone());
        let Some(court) = &mut self.court else { return };
        if facts.is_about_keys() {
            court.ledger.handle_keys(facts.keys.as_ref());
        }
        if facts.is_complete() {
            court.sockets.extend(facts.control_paths.iter().cloned());
            court.sockets.sort_unstable();
            court.sockets.dedup();
            court.ports.extend(&facts.control_ports);
            court.ports.sort_unstable();
            court.ports.dedup();
            court.knowledge = Knowledge::Facts(facts);
        } else if matches!(court.knowledge, Knowledge::None) {
            log::warn!(
                "Tor does not say which options and listeners it has: by a policy nobody can use \
                 an option of Tor's or ADD_ONION before 'GETINFO config/names' and 'GETINFO \
                 net/listeners/control' get through to it"
            );
            court.knowledge = Knowledge::Refused;
        }
        court.has_news = true;
    }

    /// Tor has gone, with all that it had.
    pub(super) fn court_without_tor(&mut self) {
        if let Some(court) = &mut self.court {
            court.knowledge = Knowledge::None;
            court.has_news = true;
            court.ledger.clear();
            court.waiting.clear();
        }
    }

    /// Tor has not come: whoever waits for what it would have said waits in vain.
    pub(super) fn facts_will_not_come(&mut self) {
        if let Some(court) = &mut self.court {
            court.has_news = true;
        }
    }

    /// Whether a controller's commands are judged by what Tor has not said yet, and is asked.
    pub(super) fn awaits_facts(&self, connection: &Connection) -> bool {
        let guard = connection.guard.as_ref();
        let court = self.court.as_ref();
        guard.is_some_and(|guard| !guard.passes())
            && self.tor.as_ref().is_some_and(|tor| !tor.upstream.is_away())
            && court.is_some_and(|court| matches!(court.knowledge, Knowledge::None))
    }

    /// Notes an event for those that get some of its kind only.
    pub(super) fn tell_own(&mut self, event: &Event) {
        if let Some(court) = &mut self.court {
            court.tell(event, None, &mut self.events);
        }
    }

    /// Events that waited for the answer to an `ADD_ONION`.
    fn tell_waiting(&mut self) {
        if let Some(court) = &mut self.court {
            court.tell_waiting(&mut self.events);
        }
    }

    /// A command with a sequel goes to Tor.
    pub(super) fn begin_sequel(&mut self, connection: &mut Connection, sequel: Box<Sequel>) {
        self.note_sequel(connection, &sequel);
        connection.controller.owed().sequels.push_back(sequel);
    }

    /// A command has been sent.
    pub(super) fn note_sequel(&mut self, connection: &Connection, sequel: &Sequel) {
        if let (Some(guard), Some(court)) = (&connection.guard, &mut self.court) {
            sequel.begin(&guard.grants, &mut court.ledger, Instant::now());
        }
    }

    /// A command with a sequel has been answered. Returns the reply that is shown.
    pub(super) fn end_sequel(&mut self, connection: &mut Connection, reply: Vec<u8>) -> Vec<u8> {
        let Some(sequel) = connection.controller.owed().sequels.pop_front() else {
            return reply;
        };
        let (Some(guard), Some(court)) = (&connection.controller.guard, &mut self.court) else {
            return reply;
        };
        let (interest, outstanding) = (court.interest(), court.ledger.outstanding());
        let change = sequel.end(
            Some(&reply),
            &guard.grants,
            &mut court.ledger,
            Instant::now(),
        );
        let has_interest = court.interest() != interest;
        let is_answered = change.is_some() || court.ledger.outstanding() != outstanding;
        let shown = sequel.shown(reply, &guard.grants, &court.ledger);
        let onions = &mut connection.controller.owed().onions;
        match change {
            Some(Change::Onion(onion)) => onions.push(onion),
            Some(Change::NoOnion(gone)) => onions.retain(|onion| *onion != gone),
            None => {}
        }
        if has_interest {
            self.interest_changed();
        }
        if is_answered {
            self.tell_waiting();
        }
        shown
    }

    /// A controller's connection to Tor has ended, with what Tor kept for it.
    pub(super) fn leg_has_ended(&mut self, connection: &mut Connection) {
        if !connection.controller.is_owed() {
            return;
        }
        let owed = connection.controller.owed();
        let (onions, sequels) = (take(&mut owed.onions), take(&mut owed.sequels));
        let notes = take(&mut owed.notes);
        self.drop_notes(notes);
        self.forget_actions(connection);
        let (Some(guard), Some(court)) = (&connection.guard, &mut self.court) else {
            return;
        };
        for sequel in sequels {
            sequel.end(None, &guard.grants, &mut court.ledger, Instant::now());
        }
        for onion in onions {
            court.ledger.remove_onion(&onion);
        }
        self.tell_waiting();
    }

    /// Logs and tells that the policy has refused something, or would have.
    pub(super) fn note_denied(&mut self, connection: &Connection, denied: &Denied) {
        let Some(guard) = &connection.guard else {
            return;
        };
        let names = shown(denied.names.iter().map(Vec::as_slice)).join(",");
        let of = if names.is_empty() { "" } else { " of " };
        let command = denied.verb.keyword();
        let verb = if denied.is_complaint {
            "would be"
        } else {
            "was"
        };
        let profiles = guard.grants.profiles().join(",");
        let controller = &connection.controller;
        let target = by_user(connection.conversation.peer().uid);
        log::debug!(
            target: &target,
            "{controller} {verb} refused {command}{of}{names} by ({profiles})"
        );
        self.tell_denied(connection, denied);
    }
}
