//! Tor's text protocol (control-spec): framing, commands, replies and events.

mod arguments;
mod encode;
mod framing;
mod parse;

pub(super) use arguments::write_c_string;
pub use encode::{encode_event, encode_refusal, encode_reply};
pub use framing::{Command, Framed, Framer, MAX_COMMAND};
pub use parse::{parse, verb};
