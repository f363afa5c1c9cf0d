//! `onionbus onions`: the onion services that are kept, one in a line.

use std::io::Write;

use super::args::Bus;
use super::client::Client;
use super::info::print_value;

pub fn run(bus: &Bus, out: &mut dyn Write) -> anyhow::Result<()> {
    let reply = Client::connect(bus)?.ask_bus(b"GETINFO kept-onions")?;
    for entry in reply.entries() {
        let is_empty = entry.data.is_none() && entry.text.ends_with(b"=");
        if !is_empty {
            print_value(&entry, out)?;
        }
    }
    Ok(())
}
