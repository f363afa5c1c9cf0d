//! A network of real Tors on this machine, and a client of it behind the bus: what binary
//! controllers are told of its circuits, streams and connections, and how they change its options.

mod conf;
mod live;
mod onions;
#[path = "../policy/people.rs"]
#[allow(
    dead_code,
    reason = "the tests of the policy need more of it than these"
)]
mod people;
mod place;
mod policy;
mod programs;
mod socks;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/terminal.rs"]
mod terminal;
#[path = "../relay/tor.rs"]
mod tor;
mod tor_network;
mod watch;
#[path = "../relay/wire.rs"]
#[allow(
    dead_code,
    reason = "the tests of the relay need more of it than these"
)]
mod wire;
