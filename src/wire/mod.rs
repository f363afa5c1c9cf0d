//! The protocols: octets to values and back, and nothing else.
//!
//! Everything here is a function of its arguments. There is no I/O, no clock, no option and no
//! second controller, so a transcript can feed it whole, octet by octet or cut anywhere.

pub mod binary;
pub mod detect;
pub mod event;
pub mod fields;
pub mod gist;
pub mod message;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod shown;
pub mod text;
pub mod torrc;

pub use binary::Version;
pub use event::{Event, EventKind, EventMask, Severity};
pub use message::{ControllerId, Destination, Message};
pub use refusal::Refusal;
pub use reply::Reply;
pub use request::Request;

/// What a connection speaks, once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Tor's text protocol (control-spec).
    Text,
    /// The binary protocol of the TC draft of 2004.
    Tc,
    /// The last binary protocol (control-spec-v0).
    V0,
}

impl Dialect {
    /// Every dialect, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Text, Self::Tc, Self::V0];

    /// Which of the binary protocols it is, if it is one.
    #[must_use]
    pub const fn version(self) -> Option<Version> {
        match self {
            Self::Text => None,
            Self::Tc => Some(Version::Tc),
            Self::V0 => Some(Version::V0),
        }
    }

    /// Appends `reply` in this dialect. Returns the number of octets that had to be cut off, which
    /// is worth a line of the log.
    pub fn encode_reply(self, reply: &Reply, out: &mut Vec<u8>) -> usize {
        match self.version() {
            None => {
                text::encode_reply(reply, out);
                0
            }
            Some(version) => binary::encode_reply(version, reply, out),
        }
    }

    /// Appends the answer to a request that was refused. Returns as [`Self::encode_reply`].
    pub fn encode_refusal(self, refusal: &Refusal, out: &mut Vec<u8>) -> usize {
        match self.version() {
            None => {
                text::encode_refusal(refusal, out);
                0
            }
            Some(version) => binary::encode_refusal(version, refusal, out),
        }
    }

    /// Appends `event`; a dialect that has no form for it appends nothing. Returns as
    /// [`Self::encode_reply`].
    pub fn encode_event(self, event: &Event, out: &mut Vec<u8>) -> usize {
        match self.version() {
            None => {
                text::encode_event(event, out);
                0
            }
            Some(version) => binary::encode_event(version, event, out),
        }
    }
}
