//! GETINFO (control-spec 3.9, proposal 197).

use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use super::Server;
use crate::bus::SessionId;
use crate::options::Options;
use crate::sys::{clock, process};
use crate::wire::event::EventKind;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{Reply, Value};
use crate::wire::request::{FEATURES, SIGNALS};

/// What PROTOCOLINFO and `GETINFO version` say: the Tor whose control protocol this is, since
/// controllers tell by it what they may ask for (stem refuses to subscribe to an event that is
/// newer), and then who really speaks.
pub(super) const VERSION: &str = concat!("0.4.9.11 (onionbus-", env!("CARGO_PKG_VERSION"), ")");

/// Every key, with the description that `GETINFO info/names` gives.
const KEYS: &[(&str, &str)] = &[
    (
        "config-file",
        "Where the option file is; empty if there is none.",
    ),
    ("config-text", "What SAVECONF would write."),
    ("config/defaults", "The default of each option."),
    ("config/names", "Every option and the kind of its value."),
    ("current-time/local", "The time, in the system's time zone."),
    ("current-time/utc", "The time, in UTC."),
    ("events/names", "Every event that SETEVENTS takes."),
    ("features/names", "Every feature that USEFEATURE takes."),
    ("info/names", "Every key of GETINFO."),
    (
        "list-controllers",
        "The name of each connected controller, or unset.",
    ),
    (
        "new-messages",
        "The newest unread messages; they are read then.",
    ),
    (
        "process/descriptor-limit",
        "How many descriptors the daemon may have open.",
    ),
    ("process/pid", "The daemon's process."),
    ("process/uid", "The daemon's user, as a number."),
    ("process/user", "The daemon's user."),
    (
        "recent-messages",
        "The last messages to all and to one's name.",
    ),
    ("signal/names", "Every signal that SIGNAL takes."),
    ("traffic/read", "Octets read from controllers."),
    ("traffic/written", "Octets written to controllers."),
    ("uptime", "Seconds since the daemon started."),
    ("version", "The daemon's version."),
];

/// How the keys begin that only a Tor has values for (control-spec 3.9).
const TOR_KEYS: &[&str] = &[
    "accounting/",
    "address",
    "bw-event-cache",
    "circuit-status",
    "config-can-saveconf",
    "config-defaults-file",
    "consensus/",
    "desc",
    "dir/",
    "dormant",
    "downloads/",
    "entry-guards",
    "exit-policy/",
    "extra-info/",
    "fingerprint",
    "hs/",
    "ip-to-country/",
    "limits/",
    "md/",
    "net/",
    "network-",
    "ns/",
    "onions/",
    "orconn-status",
    "sr/",
    "stats/",
    "status/",
    "stream-status",
];

impl Server {
    /// Every key's value in the asked order, or none if one of them has none.
    pub(super) fn get_info(
        &mut self,
        session: SessionId,
        keys: &[&[u8]],
    ) -> Result<Reply, Refusal> {
        let unknown: Vec<_> = keys
            .iter()
            .filter(|key| !is_known(key) && !needs_tor(key))
            .map(|key| key.to_vec())
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal::UnrecognizedKeys(unknown));
        }
        if let Some(key) = keys.iter().find(|key| needs_tor(key)) {
            let key = String::from_utf8_lossy(key);
            return Err(Refusal::NeedsTor(format!("GETINFO {key}")));
        }
        // One command can name a key many times over: the reply must fit a controller's queue.
        let room = self.reply_room();
        let mut size = 0;
        let mut values = Vec::with_capacity(keys.len().min(KEYS.len()));
        for key in keys {
            let value = self.value(session, key);
            size += key.len() + value.size();
            if size > room {
                return Err(self.reply_too_long());
            }
            values.push((key.to_vec(), value));
        }
        Ok(Reply::Info(values))
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

    /// What `GETINFO info/names` has of the bus besides a Tor's keys.
    pub(super) fn own_info_names() -> Vec<u8> {
        let own = KEYS
            .iter()
            .filter(|(key, _)| crate::tor::mixed::is_own_key(key.as_bytes()));
        lines(own.map(|(key, about)| format!("{key} -- {about}"))).into_bytes()
    }

    pub(super) fn value(&mut self, session: SessionId, key: &[u8]) -> Value {
        match key {
            b"version" => Value::from(VERSION.to_owned()),
            b"recent-messages" => Value::Messages(self.bus.recent_messages(session)),
            b"new-messages" => Value::Messages(self.bus.new_messages(session)),
            b"list-controllers" => Value::Controllers(self.bus.list()),
            b"info/names" => Value::from(lines(
                KEYS.iter().map(|(key, about)| format!("{key} -- {about}")),
            )),
            b"events/names" => Value::from(words(EventKind::ALL.iter().map(|kind| kind.name()))),
            b"signal/names" => Value::from(words(SIGNALS.iter().map(|(name, _)| *name))),
            b"features/names" => Value::from(words(FEATURES.iter().copied())),
            b"config/names" => Value::Octets(Options::names()),
            b"config/defaults" => Value::Octets(self.options.defaults_text()),
            b"config-text" => Value::Octets(self.options.config_text()),
            b"config-file" => {
                let file = self.options.file().map(|path| path.as_os_str().as_bytes());
                Value::Octets(file.unwrap_or_default().to_vec())
            }
            b"process/pid" => Value::from(std::process::id().to_string()),
            b"process/uid" => Value::from(process::uid().to_string()),
            b"process/user" => Value::from(process::user()),
            b"process/descriptor-limit" => Value::from(process::descriptor_limit().to_string()),
            b"uptime" => Value::from(self.started.elapsed().as_secs().to_string()),
            b"traffic/read" => Value::from(self.octets_read.to_string()),
            b"traffic/written" => {
                Value::from(self.outlet.written.load(Ordering::Relaxed).to_string())
            }
            b"current-time/utc" => Value::from(clock::utc()),
            b"current-time/local" => Value::from(clock::local()),
            // Only keys of the table get here, and a test asks for each of them.
            _ => Value::Octets(Vec::new()),
        }
    }
}

fn is_known(key: &[u8]) -> bool {
    KEYS.iter().any(|(known, _)| known.as_bytes() == key)
}

fn needs_tor(key: &[u8]) -> bool {
    !is_known(key)
        && TOR_KEYS
            .iter()
            .any(|start| key.starts_with(start.as_bytes()))
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}
