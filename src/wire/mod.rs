//! The two protocols: octets to values and back, and nothing else.
//!
//! Everything here is a function of its arguments. There is no I/O, no clock, no option and no
//! second controller, so a transcript can feed it whole, octet by octet or cut anywhere.

pub mod binary;
pub mod detect;
pub mod event;
pub mod message;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod text;

pub use event::{Event, EventKind, EventMask, Severity};
pub use message::{ControllerId, Destination, Message};
pub use refusal::Refusal;
pub use reply::Reply;
pub use request::{Request, Verb};

/// What a connection speaks, once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Tor's text protocol (control-spec).
    Text,
    /// The binary protocol of the TC draft of 2004.
    Tc,
}

impl Dialect {
    /// Every dialect, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Text, Self::Tc];

    /// Appends `reply` in this dialect.
    pub fn encode_reply(self, reply: &Reply, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::encode_reply(reply, out),
            Self::Tc => binary::encode_reply(reply, out),
        }
    }

    /// Appends the answer to a request that was refused.
    pub fn encode_refusal(self, refusal: &Refusal, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::encode_refusal(refusal, out),
            Self::Tc => binary::encode_refusal(refusal, out),
        }
    }

    /// Appends `event`; a dialect that has no form for it appends nothing.
    pub fn encode_event(self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::encode_event(event, out),
            Self::Tc => binary::encode_event(event, out),
        }
    }
}
