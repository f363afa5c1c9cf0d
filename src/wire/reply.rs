//! Replies: what a request was answered with, before a dialect gives it octets.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::message::{ControllerId, Message};

/// An option and one of its values; `None` is "at its default" or "set, but empty".
pub type OptionValue = (Cow<'static, str>, Option<Vec<u8>>);

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, nothing more to say.
    Done,
    /// Done; the body of the v0 dialect's DONE says more.
    DoneWith(Vec<u8>),
    /// The answer to QUIT; the connection closes with it.
    Closing,
    /// What PROTOCOLINFO tells (control-spec 3.21).
    ProtocolInfo {
        /// Where the cookie lies, if one is required.
        cookie_file: Option<PathBuf>,
        /// Whether a password gets in.
        password: bool,
        /// The `VERSION` line's value.
        version: String,
    },
    /// The answer to AUTHCHALLENGE (control-spec 3.24).
    Challenge {
        /// Proves that the daemon knows the cookie.
        server_hash: [u8; 32],
        /// What the controller's answer must include.
        server_nonce: [u8; 32],
    },
    /// Keys and values, in the asked order.
    Info(Vec<(Vec<u8>, Value)>),
    /// Options and values, in the asked order; `None` is "set, but empty".
    Conf(Vec<OptionValue>),
    /// The message has this `MessageID`.
    Posted(u64),
    /// The messages that a binary dialect has asked for.
    Messages(Vec<Arc<Message>>),
    /// The names of the controllers that a binary dialect has asked for; `None` is `unset`.
    Controllers(Vec<Option<ControllerId>>),
}

/// The value of a GETINFO key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Octets; with a newline in them they become a data reply.
    Octets(Vec<u8>),
    /// Messages in event format; a data reply unless there are none (proposal 197).
    Messages(Vec<Arc<Message>>),
    /// One line for each controller.
    Controllers(Vec<Option<ControllerId>>),
}

impl Value {
    /// How many octets the value has when written, within a few per message.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Messages(messages) => messages.iter().map(|m| m.text.len() + 200).sum(),
            Self::Controllers(names) => names.len() * (ControllerId::MAX + 2),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Octets(text.into_bytes())
    }
}
