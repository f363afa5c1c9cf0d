//! One thing that is kept: what it is, whose, and whether Tor has it.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use super::service::Scalar;
use crate::policy::identity::Owner;
use crate::wire::fields::{AddOnion, ClientKey, Fields, Onion};
use crate::wire::message::SessionId;

/// One thing that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub what: What,
    pub owner: Owner,
    /// The time for which it waits for its owner.
    pub grace: Duration,
    /// The time at which it goes, while its owner is away.
    pub until: Option<Instant>,
    pub state: State,
    /// It is being deleted.
    pub is_leaving: bool,
}

/// What is kept.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// An address, and what replaces it.
    Map(Vec<u8>, Vec<u8>),
    /// The key of a client for a service.
    Key(ClientKey),
    /// An onion service.
    Onion(Service),
}

/// An onion service.
#[derive(Clone)]
pub(super) struct Service {
    pub onion: Onion,
    pub scalar: Scalar,
    /// The command that makes it, with its key and without flags about the connection.
    pub fields: AddOnion,
    /// The controller whose it is; none while it waits or is detached.
    pub holder: Option<SessionId>,
    pub is_detached: bool,
    /// Nobody was told its key, so that nobody can take it up.
    pub is_secret: bool,
}

/// The scalar is nobody's to read.
impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("onion", &self.onion)
            .finish_non_exhaustive()
    }
}

/// Whether Tor has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Tor has ended since.
    Lost,
    /// Tor is asked.
    Asked,
    /// Tor is asked again, after so many failures.
    Tried(u32),
    /// Tor has it.
    There,
    /// Tor has refused it, and is asked again.
    Failed {
        /// When it is tried again.
        at: Instant,
        tries: u32,
        /// Tor's answer.
        line: Vec<u8>,
        /// Its owner was told.
        is_told: bool,
    },
}

/// The name of something that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Map(Vec<u8>),
    Key(Onion),
    Onion(Onion),
}

impl State {
    /// Whether Tor has it, or may have it by now.
    pub(super) const fn may_be_there(&self) -> bool {
        matches!(self, Self::There | Self::Asked | Self::Tried(_))
    }
}

impl Item {
    /// The command that removes what Tor has for everybody.
    pub(super) fn removal(&self) -> Option<Fields> {
        match self {
            Self::Map(from) => Some(Fields::MapAddress(vec![(from.clone(), from.clone())])),
            Self::Key(onion) => Some(Fields::ClientAuthRemove(onion.clone())),
            Self::Onion(_) => None,
        }
    }
}

impl What {
    /// Whether Tor itself keeps it.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Key(key) if key.permanent)
    }

    /// The command that gives it to Tor.
    pub(super) fn command(&self) -> Fields {
        match self {
            Self::Map(from, to) => Fields::MapAddress(vec![(from.clone(), to.clone())]),
            Self::Key(key) => Fields::ClientAuthAdd(key.clone()),
            Self::Onion(service) => Fields::AddOnion(service.fields.clone()),
        }
    }

    pub(super) fn item(&self) -> Item {
        match self {
            Self::Map(from, _) => Item::Map(from.clone()),
            Self::Key(key) => Item::Key(key.onion.lower()),
            Self::Onion(service) => Item::Onion(service.onion.clone()),
        }
    }
}

impl Kept {
    pub(super) fn item(&self) -> Item {
        self.what.item()
    }

    pub(super) fn is(&self, item: &Item) -> bool {
        match (&self.what, item) {
            (What::Map(from, _), Item::Map(name)) => from == name,
            (What::Key(key), Item::Key(onion)) => key.onion.lower() == *onion,
            (What::Onion(service), Item::Onion(onion)) => service.onion == *onion,
            _ => false,
        }
    }

    /// Its place in the order in which a Tor gets things.
    pub(super) const fn rank(&self) -> u8 {
        match self.what {
            What::Map(..) => 0,
            What::Key(_) => 1,
            What::Onion(_) => 2,
        }
    }

    /// The command that gives it to Tor.
    pub(super) fn command(&self) -> Fields {
        self.what.command()
    }

    /// Whether it is a service of this user's that waits for its owner.
    pub(super) fn waits_for(&self, uid: u32) -> bool {
        matches!(self.what, What::Onion(_)) && self.owner.uid == uid && self.until.is_some()
    }

    /// What may be told of a service.
    pub(super) fn about(&self, service: &Service, now: Instant) -> String {
        let state = match self.state {
            State::There => "THERE",
            State::Failed { .. } => "FAILED",
            State::Lost | State::Asked | State::Tried(_) => "AWAITED",
        };
        let onion = service.onion.as_bytes().escape_ascii();
        let (uid, label) = (self.owner.uid, quoted(&self.owner.label));
        let mut line = format!("{onion} UID={uid} LABEL=\"{label}\" STATE={state}");
        // Writing to a String cannot fail.
        if let Some(session) = service.holder {
            let _ = write!(line, " ID={session}");
        } else if service.is_detached {
            line += " DETACHED";
        }
        if let Some(until) = self.until {
            let seconds = until.saturating_duration_since(now).as_secs();
            let _ = write!(line, " SECONDS={seconds}");
        }
        line
    }
}

/// How a RESTORE event names it.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Map(from) => ("MAP", &from[..]),
            Self::Key(onion) => ("CLIENTAUTH", onion.as_bytes()),
            Self::Onion(onion) => ("ONION", onion.as_bytes()),
        };
        write!(f, "{kind} {}", name.escape_ascii())
    }
}

/// The inside of a `QuotedString`.
pub(super) fn quoted(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}
