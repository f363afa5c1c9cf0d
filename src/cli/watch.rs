//! `onionbus watch`: events, as they come.

use std::io::Write;

use super::args::Watch;
use super::client::{self, Client};

pub fn run(arguments: &Watch, out: &mut dyn Write) -> anyhow::Result<()> {
    let subscribe = client::line("SETEVENTS", &arguments.events)?;
    let mut client = Client::connect(&arguments.bus)?;
    client.ask(&subscribe)?;
    let mut left = arguments.count;
    while left != Some(0) {
        if client.must_wait() {
            out.flush()?;
        }
        out.write_all(&client.event()?.raw())?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}
