//! A real Tor behind the bus: no client can tell that there is anything between.
//!
//! What Tor does is asked of a real Tor each time, never written down here, wherever that can be
//! done: [`differ`] and [`clients`] play the same thing twice, to a Tor directly and through the
//! bus, and want the same. All Tors run without a network.

mod binary;
mod clients;
mod comings;
mod differ;
mod events;
mod exchanges;
mod login;
mod mixed;
mod pressure;
mod shell;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod tor;
mod wire;
mod written;
