//! `onionbus recent`: the messages that the daemon remembers, as `watch` would have printed them.

use std::io::Write;

use super::args::Plain;
use super::client::Client;
use super::json::{self, Object};
use super::reply::Entry;

pub fn run(arguments: &Plain, out: &mut dyn Write) -> anyhow::Result<()> {
    let reply = Client::connect(&arguments.bus)?.ask_bus(b"GETINFO recent-messages")?;
    for entry in reply.entries() {
        // Without a message there is no data, and nothing to print either.
        let messages = entry.data.unwrap_or_default();
        if !arguments.form.json {
            out.write_all(&messages)?;
            continue;
        }
        for line in messages.split_inclusive(|&octet| octet == b'\n') {
            json::event(Object::default(), &[Entry::of_line(line)]).print(out)?;
        }
    }
    Ok(())
}
