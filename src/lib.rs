//! onionbus: a message bus for Tor controllers.
#![forbid(unsafe_code)]

pub mod bus;
pub mod logging;
pub mod options;
pub mod outbox;
pub mod server;
pub mod session;
pub mod sys;
pub mod wire;
