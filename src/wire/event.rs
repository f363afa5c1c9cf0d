//! Events: what a controller can subscribe to and what it is then told.

use std::sync::Arc;

use super::message::{ControllerId, Message};
use super::reply::OptionValue;

macro_rules! event_kinds {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// What a controller can ask for with SETEVENTS: Tor's asynchronous events
        /// (control-spec 4.1) and the bus's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind {
            $(#[doc = concat!("`", $name, "`")] $variant),+
        }

        impl EventKind {
            /// Every kind, in the order of `GETINFO events/names`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The event's keyword, as events begin with it and SETEVENTS takes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

event_kinds! {
    Circ "CIRC",
    CircMinor "CIRC_MINOR",
    Stream "STREAM",
    OrConn "ORCONN",
    Bandwidth "BW",
    Debug "DEBUG",
    Info "INFO",
    Notice "NOTICE",
    Warn "WARN",
    Err "ERR",
    NewDesc "NEWDESC",
    AddrMap "ADDRMAP",
    DescChanged "DESCCHANGED",
    Ns "NS",
    StatusGeneral "STATUS_GENERAL",
    StatusClient "STATUS_CLIENT",
    StatusServer "STATUS_SERVER",
    Guard "GUARD",
    StreamBw "STREAM_BW",
    ClientsSeen "CLIENTS_SEEN",
    NewConsensus "NEWCONSENSUS",
    BuildTimeoutSet "BUILDTIMEOUT_SET",
    Signal "SIGNAL",
    ConfChanged "CONF_CHANGED",
    ConnBw "CONN_BW",
    CellStats "CELL_STATS",
    CircBw "CIRC_BW",
    TransportLaunched "TRANSPORT_LAUNCHED",
    HsDesc "HS_DESC",
    HsDescContent "HS_DESC_CONTENT",
    NetworkLiveness "NETWORK_LIVENESS",
    PostMessage "POSTMESSAGE",
    Controller "CONTROLLER",
    Tor "TOR",
}

// One bit each in a mask of 64, whose last has another meaning.
const _: () = assert!(EventKind::ALL.len() <= 63);

impl EventKind {
    /// Whether only the bus raises it, and no Tor.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::PostMessage | Self::Controller | Self::Tor)
    }

    /// The kind of this name, in any letter case (control-spec 3.4).
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| name.eq_ignore_ascii_case(kind.name().as_bytes()))
    }
}

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventMask(u64);

impl EventMask {
    /// No event at all.
    pub const NONE: Self = Self(0);

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether everything in `other` is in the set too.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Puts `kind` into the set.
    pub const fn insert(&mut self, kind: EventKind) {
        self.0 |= 1 << kind as u8;
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Asks for notices, warnings and errors in the one form that the v0 dialect once had for all
    /// of them (control-spec-v0 3.7, code 0x0005). They are not in the set by that.
    pub const ANY_LOG: Self = Self(1 << 63);

    /// Whether [`Self::ANY_LOG`] was asked for.
    #[must_use]
    pub const fn has_any_log(self) -> bool {
        self.includes(Self::ANY_LOG)
    }

    /// The set as bits, for an atomic.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set that these bits are.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kinds in the set, and those that [`Self::ANY_LOG`] is made from.
    pub fn kinds(self) -> impl Iterator<Item = EventKind> {
        let sources = if self.has_any_log() {
            [EventKind::Notice, EventKind::Warn, EventKind::Err]
                .into_iter()
                .collect()
        } else {
            Self::NONE
        };
        let all = self.union(sources);
        EventKind::ALL
            .iter()
            .copied()
            .filter(move |kind| all.contains(*kind))
    }
}

impl FromIterator<EventKind> for EventMask {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        let mut mask = Self::NONE;
        kinds.into_iter().for_each(|kind| mask.insert(kind));
        mask
    }
}

/// A log severity, in Tor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are the meaning")]
pub enum Severity {
    Debug,
    Info,
    Notice,
    Warn,
    Err,
}

impl Severity {
    /// Tor has five severities and the log crate has five levels: they are matched by rank.
    #[must_use]
    pub const fn of(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Err,
            log::Level::Warn => Self::Warn,
            log::Level::Info => Self::Notice,
            log::Level::Debug => Self::Info,
            log::Level::Trace => Self::Debug,
        }
    }

    /// The kind of event that carries log lines of this severity.
    #[must_use]
    pub const fn kind(self) -> EventKind {
        match self {
            Self::Debug => EventKind::Debug,
            Self::Info => EventKind::Info,
            Self::Notice => EventKind::Notice,
            Self::Warn => EventKind::Warn,
            Self::Err => EventKind::Err,
        }
    }
}

/// What happened to a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerChange {
    /// It has logged in.
    Connected,
    /// It has registered its first name.
    Named,
    /// It has another name than this one now.
    Renamed(ControllerId),
    /// Its connection has ended.
    Disconnected,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message on the bus (proposal 197).
    Message(Arc<Message>),
    /// A controller has come, gone or changed its name.
    Controller {
        /// What happened.
        change: ControllerChange,
        /// The session's number: 1 for the daemon's first connection, never used twice.
        session: u64,
        /// The name it has now; `None` is `unset`.
        name: Option<ControllerId>,
        /// The user of the process at the other end.
        uid: u32,
        /// The process at the other end.
        pid: i32,
    },
    /// Octets through the daemon's sockets in the last interval (control-spec 4.1.4).
    Bandwidth {
        /// Octets read.
        read: u64,
        /// Octets written.
        written: u64,
    },
    /// A line of the daemon's log (control-spec 4.1.5).
    Log {
        /// How bad.
        severity: Severity,
        /// One line.
        text: Arc<str>,
    },
    /// Options that have other values now (control-spec 4.1.18); `None` is back to the default.
    ConfChanged(Arc<[OptionValue]>),
    /// The Tor behind the bus can be reached, or cannot any more.
    TorReachable(bool),
    /// An event of the Tor behind the bus.
    OfTor {
        /// What the line says that it is.
        kind: EventKind,
        /// What stands for the circuit's or stream's identifier in the binary dialects; 0 where
        /// there is none.
        number: u32,
        /// The event as it came, with all its lines.
        line: Arc<[u8]>,
    },
    /// A signal that was carried out (control-spec 4.1.16).
    Signal(&'static str),
}

impl Event {
    /// What a controller must have subscribed to, to be told.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Message(_) => EventKind::PostMessage,
            Self::Controller { .. } => EventKind::Controller,
            Self::Bandwidth { .. } => EventKind::Bandwidth,
            Self::Log { severity, .. } => severity.kind(),
            Self::ConfChanged(_) => EventKind::ConfChanged,
            Self::Signal(_) => EventKind::Signal,
            Self::TorReachable(_) => EventKind::Tor,
            Self::OfTor { kind, .. } => *kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_letter_case_and_each_only_once() {
        for kind in EventKind::ALL {
            let lower = kind.name().to_ascii_lowercase();
            assert_eq!(EventKind::parse(lower.as_bytes()), Some(*kind));
        }
        assert_eq!(EventKind::parse(b"CIR"), None);
        assert_eq!(EventKind::parse(b""), None);
    }

    #[test]
    fn a_mask_holds_what_was_put_in() {
        let kinds = [EventKind::Circ, EventKind::Controller];
        let mask: EventMask = kinds.into_iter().collect();
        assert_eq!(mask.kinds().collect::<Vec<_>>(), kinds);
        assert_eq!(EventMask::from_bits(mask.bits()), mask);
        assert!(!mask.is_empty() && EventMask::NONE.is_empty());
    }
}
