//! A controller that is gone, a Tor that is silent, in a ring, or says more than it was asked for:
//! the bus keeps its word to everybody else.
//!
//! The daemon is the built one. Behind it stands a real Tor without a network wherever Tor's own
//! behaviour counts, and a played one ([`fake`]) where Tor must do what it never does.

mod deadline;
mod descriptors;
mod explicit;
mod facts;
mod fake;
mod filter;
mod forged;
mod gone;
mod lying;
mod names;
mod ring;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/tor.rs"]
mod tor;
#[allow(dead_code, reason = "the tests of the relay need more of it")]
#[path = "../relay/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{Controller, Daemon, Place, Start};

/// A second, and four more for a busy machine. The daemon waits for Tor much longer.
const SOON: Duration = Duration::from_secs(5);

/// A daemon that waits for Tor no longer than this.
const TWO_SECONDS: &str = "BusTorTimeout 2 seconds";

/// A daemon that is about to be started before the Tor at `socket`.
fn before(place: &Place, socket: &Path) -> Start {
    place
        .serve()
        .looked_into()
        .set(&format!("BusTor unix:{}", socket.display()))
}

/// How many descriptors a daemon has open.
fn descriptors(daemon: &Daemon) -> usize {
    let directory = format!("/proc/{}/fd", daemon.pid());
    fs::read_dir(directory).expect("it runs").count()
}

/// Reads lines until one contains `part`, and returns that one.
#[track_caller]
fn hears(controller: &mut Controller, part: &str) -> String {
    loop {
        let line = controller.line();
        if line.contains(part) {
            return line;
        }
    }
}
