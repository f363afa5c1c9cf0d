//! What each command does, but for those about options and information.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Connection;
use super::daemon::Daemon;
use crate::bus::To;
use crate::controller::{Entry, Stage, Wait};
use crate::sys::state::BLOCK;
use crate::wire::Dialect;
use crate::wire::binary;
use crate::wire::event::{ControllerChange, Event, EventKind, EventMask};
use crate::wire::message::{Message, UNSET};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::{RequestOf, Signal};

impl Daemon {
    /// Carries out a request of a controller. There is no reply yet where Tor must answer first, or
    /// where the reply has taken its place among the events.
    pub(super) fn execute(
        &mut self,
        connection: &mut Connection,
        request: RequestOf<Cow<'_, [u8]>>,
    ) -> Result<Option<Reply>, Refusal> {
        let session = connection.conversation.id();
        let dialect = connection.conversation.dialect();
        let reply = match request {
            RequestOf::PostMessage { destination, text } => {
                self.post(connection, &destination, &text)?
            }
            RequestOf::ControllerName(name) => self.name(connection, &name)?,
            RequestOf::SetEvents { events, others } => {
                return self.set_events(connection, events, &others);
            }
            RequestOf::GetInfo(keys) => self.get_info(session, &keys)?,
            RequestOf::GetConf(names) => self.get_conf(&names)?,
            RequestOf::SetConf(settings) => self.set_conf(&settings)?,
            RequestOf::ResetConf(settings) => self.reset_conf(&settings)?,
            RequestOf::LoadConf(text) => {
                self.work.take_outcome()?;
                self.load_conf(&text)?
            }
            RequestOf::SaveConf { .. } => {
                self.work.take_outcome()?;
                Reply::Done
            }
            RequestOf::Signal(signal) => self.signal(signal)?,
            RequestOf::Authenticate(proof) => {
                let began = Instant::now();
                let newly = connection.conversation.authenticate(&proof);
                self.password_time += began.elapsed();
                if newly? {
                    self.logged_in(connection);
                }
                Reply::Done
            }
            RequestOf::AuthChallenge(nonce) => {
                let mut server_nonce = [0; 32];
                getrandom::fill(&mut server_nonce)
                    .map_err(|cause| Refusal::Failed(format!("No randomness: {cause}")))?;
                connection.conversation.challenge(nonce, server_nonce)?
            }
            RequestOf::ProtocolInfo => self.protocol_info(connection.conversation.entry()),
            RequestOf::TakeOwnership => own(connection, true),
            RequestOf::DropOwnership => own(connection, false),
            RequestOf::Quit => Reply::Closing,
            RequestOf::RecentMessages => self.messages(dialect, &self.recent_messages(session)),
            RequestOf::NewMessages => {
                let messages = self.new_messages(session);
                self.messages(dialect, &messages)
            }
            RequestOf::ListControllers => Reply::Controllers(self.bus.list()),
            // The features are always on.
            RequestOf::UseFeature => Reply::Done,
            RequestOf::Relayed(verb) => {
                return Err(Refusal::NeedsTor(verb.keyword().to_owned()));
            }
            RequestOf::Tor(request) => {
                return Err(Refusal::NeedsTor(request.verb().keyword().to_owned()));
            }
        };
        Ok(Some(reply))
    }

    /// As many of the newest messages as one reply in this dialect may have.
    fn messages(&self, dialect: Dialect, messages: &[Arc<Message>]) -> Reply {
        let room = match dialect {
            Dialect::Tc => self.reply_room().min(binary::MAX_BODY),
            Dialect::Text | Dialect::V0 => self.reply_room(),
        };
        let newest = binary::newest(messages, room);
        let (all, left_out) = (messages.len(), messages.len() - newest.len());
        if left_out > 0 {
            log::warn!("the oldest {left_out} of {all} messages do not fit into a reply");
        }
        Reply::Messages(newest.to_vec())
    }

    fn post(
        &mut self,
        connection: &Connection,
        destination: &[u8],
        text: &[u8],
    ) -> Result<Reply, Refusal> {
        if text.len() > self.options.settings().max_message_length {
            return Err(Refusal::MessageTooLong);
        }
        if self.bus.ids_left() == 0 {
            self.reserve_ids()?;
        }
        let source = match &connection.left {
            Some(left) => left.name.clone(),
            None => self.bus.name(connection.conversation.id()),
        };
        let posted = self
            .bus
            .post(source, connection.outbox.account(), destination, text)?;
        let id = posted.message.id;
        self.bus.note_posted(connection.conversation.id(), id);
        let is_to_be_told = match (&posted.to, &self.court) {
            (Some(To::One(session)), Some(court)) => court
                .grants_of(*session)
                .is_none_or(|grants| grants.reads_message(&posted.message)),
            (Some(To::Subscribers), Some(_)) => {
                self.tell_own(&Event::Message(Arc::clone(&posted.message)));
                true
            }
            _ => true,
        };
        if let Some(to) = posted.to.filter(|_| is_to_be_told) {
            self.events.push((Event::Message(posted.message), to));
        }
        Ok(Reply::Posted(id))
    }

    /// Writes down that more ids will be used, before one is: a crash then skips some, and
    /// repeats none.
    fn reserve_ids(&mut self) -> Result<(), Refusal> {
        let reserved = self.bus.last_id().checked_add(BLOCK).ok_or_else(|| {
            Refusal::Failed(
                "Every MessageID is used up: see message-id in the state directory".into(),
            )
        })?;
        self.state.write_last_id(reserved).map_err(|error| {
            log::error!("no message can be posted: {error}");
            Refusal::Failed(format!("Cannot reserve MessageIDs: {error}"))
        })?;
        self.bus.reserve(reserved);
        Ok(())
    }

    /// Names a controller as its socket asks for, if a free name and the policy allow that.
    pub(super) fn name_by_program(&mut self, connection: &mut Connection) {
        let session = connection.conversation.id();
        let free = |program| self.bus.free_name(session, &program);
        let Some(name) = connection.program.take().and_then(free) else {
            return;
        };
        let guard = connection.controller.guard.as_ref();
        if guard.is_none_or(|guard| guard.grants.may_be_named(&name)) {
            // It was free a moment ago.
            let _ = self.name(connection, name.as_str().as_bytes());
        }
    }

    fn name(&mut self, connection: &mut Connection, name: &[u8]) -> Result<Reply, Refusal> {
        let session = connection.conversation.id();
        let old = self.bus.register(session, name)?;
        let new = self.bus.name(session);
        if let (Some(guard), Some(new)) = (&mut connection.controller.guard, &new) {
            guard.name = new.to_string();
        }
        if old != new {
            let new = new.as_ref().map_or(UNSET, |name| name.as_str());
            log::debug!("{} is called {new}", connection.controller);
            self.tell_of(
                &connection.controller,
                match old {
                    None => ControllerChange::Named,
                    Some(old) => ControllerChange::Renamed(old),
                },
            );
        }
        Ok(Reply::Done)
    }

    /// SETEVENTS: at once if Tor sends all of it already, else when Tor has agreed.
    fn set_events(
        &mut self,
        connection: &mut Connection,
        mut events: EventMask,
        others: &[Cow<'_, [u8]>],
    ) -> Result<Option<Reply>, Refusal> {
        if connection.stage == Stage::Gone {
            return Ok(None);
        }
        for name in others {
            let of_policy = EventKind::parse_with_policy(name).filter(|kind| kind.is_of_policy());
            if let Some(kind) = of_policy.filter(|_| connection.guard.is_some()) {
                events.insert(kind);
                continue;
            }
            events.insert(self.kind_of_tor(name, events)?);
        }
        events = self.without_refused(connection, events);
        if self.ask_for_events(connection, events)? {
            connection.wait = Wait::Events;
        } else {
            self.subscribe(connection, events);
        }
        Ok(None)
    }

    fn protocol_info(&self, entry: &Entry) -> Reply {
        let (with_cookie, password) = match entry {
            Entry::Open | Entry::Explicit => (false, false),
            Entry::Secret(secret) => (secret.cookie.is_some(), !secret.passwords.is_empty()),
        };
        let tor = self.tor.as_ref().and_then(|tor| tor.upstream.version());
        Reply::ProtocolInfo {
            cookie_file: self
                .cookie
                .as_ref()
                .filter(|_| with_cookie)
                .map(|(_, path)| path.clone()),
            password,
            version: tor.unwrap_or(super::info::VERSION).to_owned(),
        }
    }

    /// SIGNAL, from a controller.
    fn signal(&mut self, signal: Signal) -> Result<Reply, Refusal> {
        if let Signal::Tor(name) = signal {
            return Err(Refusal::NeedsTor(format!("SIGNAL {name}")));
        }
        if matches!(signal, Signal::Reload | Signal::BusReload) {
            self.work.take_outcome()?;
            self.tell_of_signal(signal);
        } else {
            self.raise(signal).map_err(Refusal::Failed)?;
        }
        Ok(Reply::Done)
    }
}

fn own(connection: &mut Connection, owner: bool) -> Reply {
    if connection.is_owner != owner {
        connection.is_owner = owner;
        let verb = if owner { "has taken" } else { "has dropped" };
        log::info!("{} {verb} ownership", connection.controller);
    }
    Reply::Done
}
