//! `onionbus recent`: the messages that the daemon remembers, as `watch` would have printed them.

use std::io::Write;

use super::args::Bus;
use super::client::Client;

pub fn run(bus: &Bus, out: &mut dyn Write) -> anyhow::Result<()> {
    let reply = Client::connect(bus)?.ask_bus(b"GETINFO recent-messages")?;
    for entry in reply.entries() {
        // Without a message there is no data, and nothing to print either.
        out.write_all(&entry.data.unwrap_or_default())?;
    }
    Ok(())
}
