//! The Tor behind the bus: how to log in to it, where its replies and events end, and what each
//! command of a controller means for it.
//!
//! Like `wire` this room is made of functions of their arguments; the loop owns the sockets.

pub mod address;
pub mod events;
pub mod fence;
pub mod identifiers;
pub mod login;
pub mod mixed;
pub mod replies;
pub mod route;
pub mod translate;
