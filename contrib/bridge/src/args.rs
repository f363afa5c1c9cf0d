//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::names::{Group, Host};

/// Joins the bus of this machine with those of others over NATS: see onionbus-bridge(8).
#[derive(Clone, Debug, Parser)]
#[command(name = "onionbus-bridge", version, max_term_width = 100)]
pub struct Arguments {
    /// The socket of the bus here; it must speak text or tell by itself
    #[arg(long, value_name = "PATH", default_value = "/run/onionbus/control")]
    pub socket: PathBuf,
    /// The NATS server: nats://HOST:PORT, or tls://HOST:PORT; more than one with commas between.
    /// A password in it can be seen by others unless it is given in the environment
    #[arg(
        long,
        value_name = "URL",
        env = "ONIONBUS_BRIDGE_NATS",
        hide_env_values = true
    )]
    pub nats: String,
    /// The group of buses: letters, digits and _
    #[arg(long, value_name = "NAME")]
    pub group: Group,
    /// The name of this machine in the group: letters and digits
    #[arg(long, value_name = "NAME")]
    pub host: Host,
    /// Where it is kept how far the bridge has come
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/onionbus-bridge"
    )]
    pub state: PathBuf,
    /// A file with NATS credentials, as nsc makes them
    #[arg(long, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// A file with the seed of an NKey
    #[arg(long, value_name = "FILE", conflicts_with = "creds")]
    pub nkey: Option<PathBuf>,
    /// Certificates, in PEM, one of which the server's must be signed by; TLS is required then
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The cookie of a bus with `BusCookieAuthentication 1`
    #[arg(long, value_name = "FILE")]
    pub cookie: Option<PathBuf>,
    /// How long messages are kept for a machine that is away, if this makes the stream
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub max_age: Duration,
    /// How many messages are kept, if this makes the stream
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub max_messages: i64,
    /// On how many servers of a cluster stream and bucket lie, if this makes them
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// How many controllers of other machines are shown here
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_controllers: u16,
    /// Only makes stream, bucket and consumer of this host where they are missing
    #[arg(long)]
    pub create_only: bool,
    /// The least severity that is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: log::LevelFilter,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 60..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("it takes 60 to 31536000 seconds".into()),
    }
}
