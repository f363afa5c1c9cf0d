//! `onionbus metrics`: what `onionbus status` says, as Prometheus reads it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use atomic_write_file::AtomicWriteFile;
use atomic_write_file::unix::OpenOptionsExt as _;
use onionbus::sys::clock;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Stop;
use super::args::Metrics;
use super::client::Client;
use super::fields::Fields;
use super::{controllers, status};

/// The metrics that count: the name of the value in `GETINFO status`, that of the metric, and the
/// help. Prometheus adds `_total`.
const COUNTERS: [(&str, &str, &str); 6] = [
    (
        "CONNECTIONS",
        "connections",
        "Controllers that have connected",
    ),
    ("POSTED", "messages_posted", "Messages that were posted"),
    (
        "DELIVERED",
        "messages_delivered",
        "Messages that were sent to or read by a controller, once for each controller",
    ),
    (
        "DROPPED",
        "messages_dropped",
        "Messages to a name that nobody can read any more",
    ),
    (
        "CUT_OFF",
        "controllers_cut_off",
        "Controllers that were cut off since too much waited for them",
    ),
    (
        "LOG_LOST",
        "log_lines_lost",
        "Lines of the log that nobody took",
    ),
];

/// The metrics that count octets.
const BYTE_COUNTERS: [(&str, &str, &str); 2] = [
    ("READ", "read", "Octets read from controllers"),
    ("WRITTEN", "written", "Octets written to controllers"),
];

/// The metrics that go up and down.
const GAUGES: [(&str, &str, &str); 2] = [
    (
        "CONTROLLERS",
        "controllers",
        "Controllers that are connected",
    ),
    ("PLACES", "places", "Controllers that can be connected"),
];

/// The metrics of octets that go up and down.
const BYTE_GAUGES: [(&str, &str, &str); 4] = [
    (
        "WAITING",
        "waiting",
        "Octets that wait to be read by controllers",
    ),
    (
        "HIGHEST_QUEUE",
        "queue_highest",
        "Octets that wait for the controller for which most do",
    ),
    (
        "HIGHEST_QUEUE_EVER",
        "queue_peak",
        "The most octets that have waited for one controller",
    ),
    (
        "KEPT",
        "memory_kept",
        "Octets of memory that are kept for controllers",
    ),
];

/// The metrics of each user's controllers: the word of `GETINFO controllers/detail` that is added
/// up, if it is not one for each; the name, and the help.
const OF_USERS: [(Option<&str>, &str, &str); 3] = [
    (
        None,
        "controllers",
        "Controllers of this user that are logged in",
    ),
    (
        Some("UNSENT"),
        "waiting_bytes",
        "Octets that wait to be read by controllers of this user",
    ),
    (
        Some("TOR"),
        "tor_connections",
        "Connections to Tor for controllers of this user",
    ),
];

pub fn run(arguments: &Metrics, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut client = Client::connect(&arguments.bus)?;
    let mut metrics = registry(&status::ask(&mut client)?)?;
    match controllers::ask(&mut client) {
        Ok(controllers) => register_users(&mut metrics, &controllers),
        // A policy may grant the one and not the other.
        Err(error) if matches!(error.downcast_ref(), Some(Stop::Refused(_))) => {}
        Err(error) => return Err(error),
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, &metrics)?;
    match &arguments.output {
        Some(file) => write_file(file, &text)
            .with_context(|| format!("the metrics cannot be written to {}", file.display())),
        None => Ok(out.write_all(text.as_bytes())?),
    }
}

/// Puts a file in the place of another, so that nobody reads half of it. Anything else, as
/// `/dev/null` or a link to it, stays.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        let text = "only a file can be replaced, and this is none: without --output they are \
                    printed";
        return Err(io::Error::other(text));
    }
    // To give root's file the owner of the one before it takes a privilege that the unit has given up.
    let mut file = AtomicWriteFile::options()
        .preserve_owner(false)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.commit()
}

fn registry(status: &Fields) -> anyhow::Result<Registry> {
    let mut metrics = Registry::with_prefix("onionbus");
    let version = Info::new(vec![("version", status.text("VERSION"))]);
    metrics.register("build", "The daemon's version", version);
    let started = status.text("STARTED");
    let started = clock::seconds(&started)
        .with_context(|| format!("the daemon says that it was started at {started:?}"))?;
    metrics.register_with_unit(
        "start_time",
        "When the daemon was started, since 1970",
        Unit::Seconds,
        ConstGauge::new(started),
    );
    let tor = status.text("TOR");
    if tor != "none" {
        let is_up = ConstGauge::new(u64::from(tor == "up"));
        metrics.register(
            "tor_up",
            "Whether the Tor behind the bus is reachable",
            is_up,
        );
    }
    for (value, name, help) in GAUGES {
        metrics.register(name, help, ConstGauge::new(status.number(value)));
    }
    for (value, name, help) in BYTE_GAUGES {
        let gauge = ConstGauge::new(status.number(value));
        metrics.register_with_unit(name, help, Unit::Bytes, gauge);
    }
    for (value, name, help) in COUNTERS {
        metrics.register(name, help, ConstCounter::new(status.number(value)));
    }
    for (value, name, help) in BYTE_COUNTERS {
        let counter = ConstCounter::new(status.number(value));
        metrics.register_with_unit(name, help, Unit::Bytes, counter);
    }
    Ok(metrics)
}

/// Adds what is told of each controller up for each user: numbers of controllers, of which every
/// one is new, would make Prometheus keep a series for each.
fn register_users(metrics: &mut Registry, controllers: &[Fields]) {
    for (word, name, help) in OF_USERS {
        let of_users = Family::<[(&str, String); 1], Gauge<u64, AtomicU64>>::default();
        for controller in controllers {
            let value = word.map_or(1, |word| controller.number(word));
            let user = controllers::user(controller).unwrap_or_else(|| "unknown".into());
            of_users.get_or_create(&[("user", user)]).inc_by(value);
        }
        metrics.register(format!("user_{name}"), help, of_users);
    }
}
