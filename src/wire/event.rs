//! Events: what a controller can subscribe to and what it is then told.

use std::sync::Arc;

use super::message::{ControllerId, Message};
use super::reply::OptionValue;
use crate::command::Owner;

macro_rules! event_kinds {
    ($($variant:ident $name:literal $owner:ident),+ $(,)?) => {
        /// What a controller can ask for with SETEVENTS: Tor's asynchronous events
        /// (control-spec 4.1) and the bus's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventKind {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
            /// An event of Tor's that has no name here, by the place that its name has been given,
            /// below [`Self::OTHERS`].
            Other(u8),
        }

        /// The places of the kinds that have a name here.
        #[derive(Clone, Copy)]
        enum Place { $($variant),+ }

        impl EventKind {
            /// Every kind that has a name here, in the order of `GETINFO events/names`.
            pub const NAMED: &'static [Self] = &[$(Self::$variant),+];

            /// The event's keyword, as events begin with it and SETEVENTS takes it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self { $(Self::$variant => Some($name),)+ Self::Other(_) => None }
            }

            /// The party that raises it where a Tor stands behind the bus: [`Owner::Bus`] or
            /// [`Owner::Tor`].
            #[must_use]
            pub const fn owner(self) -> Owner {
                match self { $(Self::$variant => Owner::$owner,)+ Self::Other(_) => Owner::Tor }
            }

            /// The kind's place among all, below [`Self::COUNT`].
            #[must_use]
            pub const fn index(self) -> usize {
                match self {
                    $(Self::$variant => Place::$variant as usize,)+
                    Self::Other(place) => Self::NAMED.len() + place as usize,
                }
            }
        }
    };
}

event_kinds! {
    Circ "CIRC" Tor,
    CircMinor "CIRC_MINOR" Tor,
    Stream "STREAM" Tor,
    OrConn "ORCONN" Tor,
    Bandwidth "BW" Tor,
    Debug "DEBUG" Tor,
    Info "INFO" Tor,
    Notice "NOTICE" Tor,
    Warn "WARN" Tor,
    Err "ERR" Tor,
    NewDesc "NEWDESC" Tor,
    AddrMap "ADDRMAP" Tor,
    DescChanged "DESCCHANGED" Tor,
    Ns "NS" Tor,
    StatusGeneral "STATUS_GENERAL" Tor,
    StatusClient "STATUS_CLIENT" Tor,
    StatusServer "STATUS_SERVER" Tor,
    Guard "GUARD" Tor,
    StreamBw "STREAM_BW" Tor,
    ClientsSeen "CLIENTS_SEEN" Tor,
    NewConsensus "NEWCONSENSUS" Tor,
    BuildTimeoutSet "BUILDTIMEOUT_SET" Tor,
    Signal "SIGNAL" Tor,
    ConfChanged "CONF_CHANGED" Tor,
    ConnBw "CONN_BW" Tor,
    CellStats "CELL_STATS" Tor,
    CircBw "CIRC_BW" Tor,
    TransportLaunched "TRANSPORT_LAUNCHED" Tor,
    HsDesc "HS_DESC" Tor,
    HsDescContent "HS_DESC_CONTENT" Tor,
    NetworkLiveness "NETWORK_LIVENESS" Tor,
    PostMessage "POSTMESSAGE" Bus,
    Controller "CONTROLLER" Bus,
    Tor "TOR" Bus,
    Restore "RESTORE" Bus,
    Lease "LEASE" Bus,
    Policy "POLICY" Bus,
    Denied "DENIED" Bus,
    Action "ACTION" Bus,
}

// One bit each in a mask of 64, whose last has another meaning.
const _: () = assert!(EventKind::COUNT <= 63);

impl EventKind {
    /// The most events of Tor's without a name here that are known at a time.
    pub const OTHERS: u8 = 16;

    /// The number of kinds.
    pub const COUNT: usize = Self::NAMED.len() + Self::OTHERS as usize;

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = (0..Self::OTHERS).map(Self::Other);
        Self::NAMED.iter().copied().chain(others)
    }

    /// Whether only the bus raises it, and no Tor.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self.owner(), Owner::Bus)
    }

    /// Whether the kind exists only where a policy is in force.
    #[must_use]
    pub const fn is_of_policy(self) -> bool {
        matches!(self, Self::Policy)
    }

    /// The kind of this name, in any letter case (control-spec 3.4).
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::find(name).filter(|kind| !kind.is_of_policy())
    }

    /// The kind of this name, in any letter case, where a policy is in force.
    #[must_use]
    pub fn parse_with_policy(name: &[u8]) -> Option<Self> {
        Self::find(name)
    }

    fn find(name: &[u8]) -> Option<Self> {
        Self::NAMED.iter().copied().find(|kind| {
            kind.name()
                .is_some_and(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        })
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
        self.0 & (1 << kind.index()) != 0
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
        self.0 |= 1 << kind.index();
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
        EventKind::all().filter(move |kind| all.contains(*kind))
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
    /// The word that Tor has for it, which is also the keyword of its events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warn => "WARN",
            Self::Err => "ERR",
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
    /// A controller may do something else now.
    PolicyChanged,
    /// The policy has refused something, or would have: the line behind the name.
    Denied(Arc<str>),
    /// Something of an owner's is there again in Tor, or is not: the line behind the name.
    Restored(Arc<str>),
    /// A leased option has been taken, or is free again: the line behind the name.
    Leased(Arc<str>),
    /// Somebody has changed something: the line behind the name.
    Action(Arc<str>),
}

impl Event {
    /// The octets of it that somebody else has chosen, and so can be many.
    #[must_use]
    pub fn octets(&self) -> usize {
        match self {
            Self::Message(message) => message.text.len(),
            Self::OfTor { line, .. } => line.len(),
            Self::Log { text, .. }
            | Self::Denied(text)
            | Self::Restored(text)
            | Self::Leased(text)
            | Self::Action(text) => text.len(),
            Self::ConfChanged(values) => {
                let value = |value: &OptionValue| value.1.as_ref().map_or(0, Vec::len);
                values.iter().map(value).sum()
            }
            Self::Controller { .. }
            | Self::Bandwidth { .. }
            | Self::TorReachable(_)
            | Self::PolicyChanged
            | Self::Signal(_) => 0,
        }
    }

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
            Self::PolicyChanged => EventKind::Policy,
            Self::Denied(_) => EventKind::Denied,
            Self::Restored(_) => EventKind::Restore,
            Self::Leased(_) => EventKind::Lease,
            Self::Action(_) => EventKind::Action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_letter_case_and_each_only_once() {
        for kind in EventKind::NAMED {
            let lower = kind.name().unwrap().to_ascii_lowercase();
            let known = Some(*kind).filter(|kind| !kind.is_of_policy());
            assert_eq!(EventKind::parse(lower.as_bytes()), known);
            assert_eq!(EventKind::parse_with_policy(lower.as_bytes()), Some(*kind));
        }
        assert_eq!(EventKind::parse(b"CIR"), None);
        assert_eq!(EventKind::parse(b""), None);
    }

    #[test]
    fn a_mask_holds_what_was_put_in() {
        let kinds = [EventKind::Circ, EventKind::Controller, EventKind::Other(15)];
        let mask: EventMask = kinds.into_iter().collect();
        assert_eq!(mask.kinds().collect::<Vec<_>>(), kinds);
        assert_eq!(EventMask::from_bits(mask.bits()), mask);
        assert!(!mask.is_empty() && EventMask::NONE.is_empty());
    }
}
