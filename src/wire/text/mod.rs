//! Tor's text protocol (control-spec): the reader of commands, and the writer and the reader of
//! replies and events.

pub(super) mod arguments;
mod changes;
mod data;
mod encode;
mod framing;
pub(super) mod parse;
mod quoted;
mod reader;

pub use arguments::words;
pub use changes::{changed_options, signal_name};
pub use data::{unstuff, write_data};
pub use encode::{encode_event, encode_refusal, encode_reply, encode_value, write_info};
pub use framing::{Command, Framed, Framer, MAX_COMMAND, is_space};
pub use parse::{parse, verb};
pub use quoted::{QuoteError, c_string, read_c_string, write_c_string};
pub use reader::{Message, Reader, Replies, TooLong, parts};
