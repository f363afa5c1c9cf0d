//! What each command does, but for those about options and information.

use std::sync::Arc;

use super::Server;
use crate::session::Session;
use crate::sys::state::BLOCK;
use crate::wire::binary;
use crate::wire::event::{ControllerChange, Event};
use crate::wire::message::{Message, UNSET};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Signal};

impl Server {
    /// Carries out a request of the controller whose connection is `key`.
    pub(super) fn execute(&mut self, key: usize, request: Request<'_>) -> Result<Reply, Refusal> {
        let session = self.session(key).id();
        match request {
            Request::PostMessage { destination, text } => self.post(session, destination, text),
            Request::ControllerName(name) => self.name(key, name),
            Request::GetInfo(keys) => self.get_info(session, &keys),
            Request::GetConf(names) => self.get_conf(&names),
            Request::SetConf(settings) => self.set_conf(&settings),
            Request::ResetConf(settings) => self.reset_conf(&settings),
            Request::LoadConf(text) => self.load_conf(&text),
            Request::SaveConf { force } => self.save_conf(force),
            Request::Signal(signal) => self.signal(signal),
            Request::Authenticate(proof) => {
                if self.session(key).authenticate(&proof)? {
                    self.logged_in(key);
                }
                Ok(Reply::Done)
            }
            Request::AuthChallenge(nonce) => {
                let mut server_nonce = [0; 32];
                getrandom::fill(&mut server_nonce)
                    .map_err(|cause| Refusal::Failed(format!("No randomness: {cause}")))?;
                self.session(key).challenge(nonce, server_nonce)
            }
            Request::ProtocolInfo => Ok(self.protocol_info()),
            Request::TakeOwnership => Ok(self.own(key, true)),
            Request::DropOwnership => Ok(self.own(key, false)),
            Request::Quit => Ok(Reply::Closing),
            Request::RecentMessages => {
                let messages = self.bus.recent_messages(session);
                Ok(self.messages(&messages))
            }
            Request::NewMessages => {
                let messages = self.bus.new_messages(session);
                Ok(self.messages(&messages))
            }
            Request::ListControllers => Ok(Reply::Controllers(self.bus.list())),
            Request::Tor(request) => Err(Refusal::NeedsTor(request.keyword().to_owned())),
            // The features are always on. SETEVENTS has been carried out where its reply takes its
            // place among the events.
            Request::UseFeature | Request::SetEvents(_) => Ok(Reply::Done),
        }
    }

    fn session(&mut self, key: usize) -> &mut Session {
        &mut self.connections[key].session
    }

    /// As many of the newest messages as one reply may have.
    fn messages(&self, messages: &[Arc<Message>]) -> Reply {
        Reply::Messages(binary::newest(messages, self.reply_room()).to_vec())
    }

    fn post(&mut self, session: u64, destination: &[u8], text: &[u8]) -> Result<Reply, Refusal> {
        if text.len() > self.options.settings().max_message_length {
            return Err(Refusal::MessageTooLong);
        }
        if self.bus.ids_left() == 0 {
            self.reserve_ids()?;
        }
        let posted = self.bus.post(session, destination, text)?;
        let id = posted.message.id;
        if let Some(to) = posted.to {
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

    fn name(&mut self, key: usize, name: &[u8]) -> Result<Reply, Refusal> {
        let session = self.session(key).id();
        let old = self.bus.register(session, name)?;
        let new = self.bus.name(session);
        if old != new {
            let connection = &self.connections[key];
            let new = new.as_ref().map_or(UNSET, |name| name.as_str());
            log::debug!("{connection} is called {new}");
            self.tell_of(
                key,
                match old {
                    None => ControllerChange::Named,
                    Some(old) => ControllerChange::Renamed(old),
                },
            );
        }
        Ok(Reply::Done)
    }

    fn protocol_info(&self) -> Reply {
        Reply::ProtocolInfo {
            cookie_file: self.cookie.as_ref().map(|(_, path)| path.clone()),
            version: match self.tor.as_ref().and_then(|tor| tor.version.as_ref()) {
                Some(version) => version.clone(),
                None => super::info::VERSION.to_owned(),
            },
        }
    }

    fn own(&mut self, key: usize, owner: bool) -> Reply {
        let connection = &mut self.connections[key];
        if connection.owner != owner {
            connection.owner = owner;
            let verb = if owner { "has taken" } else { "has dropped" };
            log::info!("{connection} {verb} ownership");
        }
        Reply::Done
    }

    /// SIGNAL, from a controller.
    fn signal(&mut self, signal: Signal) -> Result<Reply, Refusal> {
        if let Signal::Tor(name) = signal {
            return Err(Refusal::NeedsTor(format!("SIGNAL {name}")));
        }
        self.raise(signal).map_err(Refusal::Failed)?;
        Ok(Reply::Done)
    }
}
