//! The Tor behind the bus: how to log in to it, what it was asked and has answered, its events, and
//! what each command of a controller means for it.
//!
//! Like `wire` this room does no I/O: octets and the time go in by `handle_*`, octets and answers
//! come out by `poll_*`. The loop owns the sockets.

pub mod facts;
pub mod fence;
pub mod identifiers;
pub mod leg;
pub mod login;
pub mod merge;
pub mod names;
pub mod translate;
pub mod upstream;
pub mod watcher;
