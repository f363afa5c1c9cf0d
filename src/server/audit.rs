//! What the daemon does for attribution: it tells who has changed what, and writes it down.

use std::sync::Arc;
use std::time::Instant;

use super::accept::SocketName;
use super::connection::Connection;
use super::daemon::Daemon;
use crate::audit::{Action, Names, Record, Told, Trail, Watch, Who, command, shown};
use crate::controller::{Ask, Controller, Denied, Plan};
use crate::options::Settings;
use crate::options::table::TABLE;
use crate::policy::{Identity, Owner};
use crate::sys::clock;
use crate::sys::journal::Journal;
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::gist::Gist;
use crate::wire::message::ControllerId;
use crate::wire::refusal::Refusal;
use crate::wire::request::Signal;
use crate::wire::text::{changed_options, signal_name};

/// Who did what, and the log of it.
pub(super) struct Audit {
    pub(super) trail: Trail,
    /// `BusAudit`.
    journal: Option<Journal>,
    /// It was said that the log cannot be written.
    is_broken: bool,
    /// Tor was asked for the names of its options.
    has_asked: bool,
    /// What is changed now nobody on the bus has asked for.
    pub(super) is_outside: bool,
}

impl Audit {
    pub(super) fn new(settings: &Settings) -> Self {
        let own = TABLE.iter().map(|spec| spec.name.into()).collect();
        let mut audit = Self {
            trail: Trail::new(settings.history, Names::new(own)),
            journal: settings.audit.as_deref().map(Journal::new),
            is_broken: false,
            has_asked: false,
            is_outside: false,
        };
        audit.reopen();
        if settings.audit_required && audit.journal.is_none() {
            log::warn!("BusAuditRequired does nothing without BusAudit");
        }
        audit
    }

    /// Opens the log anew, which somebody may have moved away.
    pub(super) fn reopen(&mut self) {
        if let Some(journal) = &mut self.journal {
            let opened = journal.reopen();
            self.note(&opened);
        }
    }

    /// Writes a record. `false` if it cannot be.
    fn write(&mut self, mut record: Record) -> bool {
        let Some(journal) = &mut self.journal else {
            return true;
        };
        record.time = clock::stamp();
        let written = journal.write(&record.line());
        self.note(&written)
    }

    /// Says once that the log cannot be written, until it can be.
    fn note(&mut self, written: &std::io::Result<()>) -> bool {
        let was_broken = std::mem::replace(&mut self.is_broken, written.is_err());
        if let (Err(error), Some(journal), false) = (written, &self.journal, was_broken) {
            let path = journal.path().display();
            log::error!("the audit log {path} cannot be written: {error}");
        }
        written.is_ok()
    }

    /// Whether `BusAudit` is set.
    pub(super) const fn is_written(&self) -> bool {
        self.journal.is_some()
    }
}

/// The events of Tor's by which it is known what others change there.
pub(super) fn outside_events() -> EventMask {
    [EventKind::ConfChanged, EventKind::Signal]
        .into_iter()
        .collect()
}

/// Whoever did something, with all that is known.
struct Actor {
    who: Who,
    identity: Option<Arc<Identity>>,
    profiles: Vec<String>,
}

impl Actor {
    fn outside() -> Self {
        Self {
            who: Who::outside(),
            identity: None,
            profiles: Vec::new(),
        }
    }

    fn record(&self, event: &str, command: &str, args: Vec<String>) -> Record {
        Record {
            event: event.into(),
            command: command.into(),
            args,
            ..Record::of(&self.who, self.identity.as_deref(), &self.profiles)
        }
    }
}

impl Connection {
    /// An action has gone to Tor, whose reply is to be told.
    pub(super) fn note_action(&mut self, action: (Box<Action>, u64)) {
        if let Some(leg) = &mut self.controller.leg {
            leg.note_last();
            self.controller.owed().actions.push_back(action);
        }
    }
}

impl Daemon {
    /// What is looked at commands for; none where nobody wants to know.
    pub(super) fn watch(&self) -> Option<Watch<'_>> {
        let is_wanted = self.audit.trail.remembers() || self.watches_outside();
        is_wanted.then(|| Watch {
            names: &self.audit.trail.names,
            is_written: self.audit.is_written(),
        })
    }

    /// Whether somebody wants to know what is changed at Tor without the bus.
    pub(super) fn watches_outside(&self) -> bool {
        self.audit.is_written() || self.bus.interest().contains(EventKind::Action)
    }

    /// Asks for the names of Tor's options once somebody wants to know of actions. `wants` is
    /// whether somebody is about to.
    pub(super) fn ask_for_names(&mut self, wants: bool) {
        let wants = wants || self.watches_outside();
        if std::mem::replace(&mut self.audit.has_asked, wants) || !wants {
            return;
        }
        if let Some(watcher) = self.tor.as_mut().and_then(|tor| tor.upstream.watcher()) {
            watcher.handle_curiosity(false);
        }
    }

    /// Who a connection is, if that is written down and no policy has asked for it.
    pub(super) fn audited_identity(
        &self,
        controller: &Controller,
        stream: &impl std::os::fd::AsFd,
        socket: &SocketName,
    ) -> Option<Arc<Identity>> {
        let is_wanted = self.audit.is_written() && controller.guard.is_none();
        let peer = controller.conversation.peer();
        is_wanted.then(|| Arc::new(super::policy::identity_of(stream, peer, socket)))
    }

    fn actor(&self, connection: &Connection) -> Actor {
        let (id, peer) = (connection.conversation.id(), connection.conversation.peer());
        let name = match &connection.left {
            Some(left) => left.name.clone(),
            None => self.bus.name(id),
        };
        let guard = connection.guard.as_ref();
        let of_guard = guard.map(|guard| Arc::clone(&guard.identity));
        Actor {
            who: Who::new(
                id,
                name.as_ref().map(ControllerId::as_str),
                peer.uid,
                peer.pid,
            ),
            identity: of_guard.or_else(|| connection.identity.clone()),
            profiles: guard.map_or_else(Vec::new, |guard| guard.grants.profiles().to_vec()),
        }
    }

    /// Whether a command may be done: where the log is required, it is written first that it will
    /// be. One that may not has become its refusal.
    pub(super) fn may_attempt(&mut self, connection: &Connection, ask: &mut Ask<'_>) -> bool {
        let is_required = self.audit.is_written() && self.options.settings().audit_required;
        let Some(judgement) = ask.judgement.as_mut().filter(|_| is_required) else {
            return true;
        };
        let action = judgement
            .action
            .as_mut()
            .filter(|action| action.is_change());
        let is_done = !matches!(ask.plan, Plan::Refuse(_) | Plan::Reply(_));
        let Some(action) = action.filter(|action| is_done && !action.is_attempted) else {
            return true;
        };
        action.is_attempted = true;
        let (name, args) = (action.command(), action.args());
        let record = self.actor(connection).record("ATTEMPT", name, args);
        let grant = action.grant.clone();
        if self.audit.write(Record { grant, ..record }) {
            return true;
        }
        let text = "The audit log cannot be written";
        ask.plan = Plan::Refuse(Refusal::Failed(text.into()));
        ask.judgement = None;
        false
    }

    /// A command is about to be done. Returns it if it changes something, with the number by which
    /// it explains events.
    pub(super) fn begin_action(
        &mut self,
        connection: &Connection,
        action: Box<Action>,
    ) -> Option<(Box<Action>, u64)> {
        let guard = connection.guard.as_ref();
        if self.audit.is_written() && guard.is_some_and(|guard| guard.grants.complains()) {
            let actor = self.actor(connection);
            let record = actor.record("COMPLAIN", action.command(), action.args());
            let grant = action.grant.clone();
            self.audit.write(Record { grant, ..record });
        }
        let trail = &mut self.audit.trail;
        action.is_change().then(|| {
            let ticket = trail.causes.begin(&action, &trail.names, Instant::now());
            (action, ticket)
        })
    }

    /// A command has been answered.
    pub(super) fn end_action(
        &mut self,
        connection: &Connection,
        (action, ticket): &(Box<Action>, u64),
        gist: &Gist,
    ) {
        let done = action.end(gist);
        let causes = &mut self.audit.trail.causes;
        causes.end(*ticket, done.is_none(), Instant::now());
        if let Some((args, status)) = done {
            let actor = self.actor(connection);
            let name = action.command();
            self.tell_action(&actor, name, args, Some(status), &action.grant);
        }
    }

    /// The keeper has been answered a command of a controller's.
    pub(super) fn end_kept_action(&mut self, connection: &mut Connection, gist: &Gist) {
        if let Some(action) = connection.controller.owed().kept_actions.pop_front() {
            self.end_action(connection, &action, gist);
        }
    }

    /// What Tor was asked and will never answer may be done all the same.
    pub(super) fn forget_actions(&mut self, connection: &mut Connection) {
        for (_, ticket) in std::mem::take(&mut connection.controller.owed().actions) {
            let causes = &mut self.audit.trail.causes;
            causes.end(ticket, false, Instant::now());
        }
    }

    fn tell_action(
        &mut self,
        actor: &Actor,
        command: &'static str,
        args: Vec<String>,
        status: Option<u16>,
        grant: &str,
    ) {
        let (number, text) = self.audit.trail.tell(Told {
            event: "ACTION",
            who: &actor.who,
            command,
            args: &args,
            status,
            is_complaint: false,
        });
        if self.audit.is_written() {
            let record = actor.record("ACTION", command, args);
            self.audit.write(Record {
                number: Some(number),
                status,
                grant: grant.into(),
                ..record
            });
        }
        let owner = actor
            .identity
            .as_ref()
            .and_then(|identity| identity.owner());
        self.tell_of_owner(Event::Action(text), owner.as_ref());
    }

    /// Notes an event about a command of this owner.
    fn tell_of_owner(&mut self, event: Event, by: Option<&Owner>) {
        let Some(to) = self.bus.to_subscribers(event.kind()) else {
            return;
        };
        if let Some(court) = &mut self.court {
            court.tell(&event, by, &mut self.events);
        }
        self.events.push((event, to));
    }

    /// Tells that the policy has refused something, or would have.
    pub(super) fn tell_denied(&mut self, connection: &Connection, denied: &Denied) {
        let (actor, name) = (self.actor(connection), command(denied.verb));
        let args = shown(denied.names.iter().map(Vec::as_slice));
        let status = Some(denied.status);
        let (number, text) = self.audit.trail.tell(Told {
            event: "DENIED",
            who: &actor.who,
            command: name,
            args: &args,
            status,
            is_complaint: denied.is_complaint,
        });
        if self.audit.is_written() {
            let record = actor.record("DENIED", name, args);
            self.audit.write(Record {
                number: Some(number),
                status,
                grant: denied.grant.clone(),
                ..record
            });
        }
        self.tell(Event::Denied(text));
    }

    /// Takes in an event of Tor's that nobody on the bus may have caused.
    pub(super) fn note_outside(&mut self, kind: EventKind, line: &[u8]) {
        match kind {
            EventKind::ConfChanged => self.note_outside_options(changed_options(line)),
            EventKind::Signal => {
                if let Some(name) = signal_name(line) {
                    self.note_outside_change("SIGNAL", &[name]);
                }
            }
            _ => {}
        }
    }

    /// Takes in that options have changed.
    pub(super) fn note_outside_options<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        let (causes, now) = (&self.audit.trail.causes, Instant::now());
        let mut unexplained: Vec<_> = names
            .filter(|name| !causes.explain_option(name, now))
            .collect();
        unexplained.dedup();
        if !unexplained.is_empty() {
            self.note_outside_change("CONF_CHANGED", &unexplained);
        }
    }

    /// Takes in a signal that the daemon's process has got.
    pub(super) fn note_outside_signal(&mut self, signal: Signal) {
        let name = match signal {
            // Tor has the others of these names.
            Signal::Reload if self.tor.is_some() => Signal::BusReload.name(),
            Signal::Shutdown | Signal::Halt if self.tor.is_some() => Signal::BusShutdown.name(),
            signal => signal.name(),
        };
        self.note_outside_change("SIGNAL", &[name.as_bytes()]);
    }

    fn note_outside_change(&mut self, command: &'static str, args: &[&[u8]]) {
        let causes = &self.audit.trail.causes;
        let is_signal = command == "SIGNAL";
        let explains = |name: &&[u8]| causes.explain_signal(name, Instant::now());
        if !self.watches_outside() || (is_signal && args.iter().all(explains)) {
            return;
        }
        let args = shown(args.iter().copied());
        self.tell_action(&Actor::outside(), command, args, None, "");
    }
}
