//! onionbus-bridge: joins the buses of several machines over NATS. See onionbus-bridge(8).
//!
//! ```text
//!   bus here -> local: a listener for each connection -> ledger: what goes out, once
//!            -> outgoing: published in order, again until the stream has it
//!   stream   -> incoming: in order, by position: each once -> local: a poster for each source
//!   leases   -> neighbours -> presence: who is there -> local: connections with their names
//! ```
//!
//! [`names`], [`parcel`], [`presence`], [`ledger`], [`position`] and [`count`] decide, and touch no
//! socket, file or clock. [`bus`] and [`nats`] are one connection each, [`state`] is the directory;
//! [`bridge`] runs it all.

mod args;
mod bridge;
mod bus;
mod count;
mod incoming;
mod ledger;
mod local;
mod names;
mod nats;
mod neighbours;
mod outgoing;
mod parcel;
mod position;
mod presence;
mod state;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::Arguments;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.log);
    let done = if arguments.create_only {
        bridge::create(&arguments).await
    } else {
        bridge::run(arguments).await
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error; the journal has times of its own.
fn start_logging(level: log::LevelFilter) {
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    env_logger::Builder::new()
        .filter_module("onionbus_bridge", level)
        .format(move |out, record| {
            let severity = record.level().as_str().to_ascii_lowercase();
            if !in_journal {
                let time = out.timestamp_millis();
                write!(out, "{time} ")?;
            }
            writeln!(out, "[{severity}] {}", record.args())
        })
        .init();
}
