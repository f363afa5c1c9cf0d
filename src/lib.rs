//! onionbus: a message bus for Tor controllers.
#![forbid(unsafe_code)]

pub mod options;
pub mod wire;
