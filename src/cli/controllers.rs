//! `onionbus controllers`: the connected controllers, one name in a line.

use std::io::Write;

use super::args::Bus;
use super::client::Client;
use super::info::print_value;

pub fn run(bus: &Bus, out: &mut dyn Write) -> anyhow::Result<()> {
    let reply = Client::connect(bus)?.ask_bus(b"GETINFO list-controllers")?;
    for entry in reply.entries() {
        print_value(&entry, out)?;
    }
    Ok(())
}
