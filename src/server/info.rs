//! GETINFO (control-spec 3.9, proposal 197).

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::daemon::Daemon;
use crate::bus::SessionId;
use crate::command::Owner;
use crate::command::keys::{self, Key};
use crate::options::Options;
use crate::sys::{clock, process};
use crate::wire::event::EventKind;
use crate::wire::message::Message;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{Reply, Value};
use crate::wire::request::{FEATURES, SIGNALS};

/// What PROTOCOLINFO and `GETINFO version` say: the Tor whose control protocol this is, since
/// controllers tell by it what they may ask for (stem refuses to subscribe to an event that is
/// newer), and then who really speaks.
pub(super) const VERSION: &str = concat!("0.4.9.11 (onionbus-", env!("CARGO_PKG_VERSION"), ")");

/// The keys that are there where a policy is in force, and are answered as it judges.
const KEYS: [&str; 2] = [
    "policy -- What the controller may do.",
    "whoami -- Who the controller is, as the kernel says.",
];

impl Daemon {
    /// Every key's value in the asked order, or none if one of them has none.
    pub(super) fn get_info(
        &mut self,
        session: SessionId,
        keys: &[Cow<'_, [u8]>],
    ) -> Result<Reply, Refusal> {
        let unknown: Vec<_> = keys
            .iter()
            .filter(|key| Key::parse(key).is_none() && !keys::needs_tor(key))
            .map(|key| key.to_vec())
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal::UnrecognizedKeys(unknown));
        }
        // Before any value is made: to make one can change something.
        if let Some(key) = keys.iter().find(|key| keys::needs_tor(key)) {
            let key = String::from_utf8_lossy(key);
            return Err(Refusal::NeedsTor(format!("GETINFO {key}")));
        }
        // One command can name a key many times over: the reply must fit a controller's queue.
        let room = self.reply_room();
        let mut size = 0;
        let mut values = Vec::with_capacity(keys.len().min(Key::ALL.len()));
        for name in keys {
            let Some(key) = Key::parse(name) else {
                continue;
            };
            let value = self.value(session, key, false);
            size += name.len() + value.size();
            if size > room {
                return Err(self.reply_too_long());
            }
            values.push((name.to_vec(), value));
        }
        Ok(Reply::Info(values))
    }

    /// Those of the newest messages that a controller may read.
    pub(super) fn recent_messages(&self, session: SessionId) -> Vec<Arc<Message>> {
        self.readable(session, self.bus.recent_messages(session))
    }

    /// Those of its unread messages that a controller may read; none is unread after it.
    pub(super) fn new_messages(&mut self, session: SessionId) -> Vec<Arc<Message>> {
        let messages = self.bus.new_messages(session);
        let messages = self.readable(session, messages);
        self.read_later += messages.len() as u64;
        messages
    }

    /// The most octets that one reply may have.
    pub(super) fn reply_room(&self) -> usize {
        self.options.settings().max_queue / 2
    }

    pub(super) fn reply_too_long(&self) -> Refusal {
        Refusal::Failed(format!(
            "The reply would have more than {} octets: ask for fewer keys at a time",
            self.reply_room()
        ))
    }

    /// The value of a key. `behind_tor` leaves out what stands in Tor's own value of it.
    pub(super) fn value(&mut self, session: SessionId, key: Key, behind_tor: bool) -> Value {
        match key {
            Key::BusChain => {
                let tor = self.tor.as_ref().map(|tor| tor.upstream.chain());
                let chain = [self.number.as_bytes(), tor.unwrap_or_default()];
                Value::Octets(chain.join(&b' ').trim_ascii_end().to_vec())
            }
            Key::Version => Value::from(VERSION.to_owned()),
            Key::RecentMessages => Value::Messages(self.recent_messages(session)),
            Key::NewMessages => Value::Messages(self.new_messages(session)),
            Key::PostedMessage => Value::from(self.bus.posted_by(session).to_string()),
            Key::KeptOnions => Value::from(self.kept_onions(session)),
            Key::ControllersDetail | Key::Status => Value::Octets(self.detail(key)),
            Key::Leases => {
                let keeping = self.keeping.as_ref();
                Value::from(keeping.map_or_else(String::new, |one| one.keeper.leases()))
            }
            Key::RecentActions => Value::from(lines(
                self.audit.trail.recent().map(|line| format!("650 {line}")),
            )),
            Key::ListControllers => Value::Controllers(self.bus.list()),
            Key::InfoNames => Value::from(lines(
                Key::ALL
                    .iter()
                    .filter(|key| !behind_tor || key.owner() == Owner::Bus)
                    .map(|key| format!("{} -- {}", key.name(), key.about()))
                    .chain(self.court.iter().flat_map(|_| KEYS.map(str::to_owned))),
            )),
            Key::EventsNames => Value::from(words(
                EventKind::NAMED
                    .iter()
                    .filter(|kind| !behind_tor || kind.is_own())
                    .filter(|kind| self.court.is_some() || !kind.is_of_policy())
                    .filter_map(|kind| kind.name()),
            )),
            Key::SignalNames => Value::from(words(
                SIGNALS
                    .iter()
                    .filter(|(_, signal)| !behind_tor || signal.is_own())
                    .map(|(name, _)| *name),
            )),
            Key::FeaturesNames => Value::from(words(FEATURES.iter().copied())),
            Key::ConfigNames => Value::Octets(Options::names()),
            Key::ConfigDefaults => Value::Octets(self.options.defaults_text()),
            Key::ConfigText => Value::Octets(self.options.config_text()),
            Key::ConfigFile => {
                let file = self.options.file().map(|path| path.as_os_str().as_bytes());
                Value::Octets(file.unwrap_or_default().to_vec())
            }
            Key::Confinement => Value::from(self.confinement.clone()),
            Key::Pid => Value::from(std::process::id().to_string()),
            Key::Uid => Value::from(process::uid().to_string()),
            Key::User => Value::from(process::user()),
            Key::DescriptorLimit => Value::from(process::descriptor_limit().to_string()),
            Key::Uptime => Value::from(self.started.elapsed().as_secs().to_string()),
            Key::TrafficRead => Value::from(self.octets_read.to_string()),
            Key::TrafficWritten => {
                Value::from(self.outlet.written.load(Ordering::Relaxed).to_string())
            }
            Key::TimeUtc => Value::from(clock::utc()),
            Key::TimeLocal => Value::from(clock::local()),
        }
    }
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}
