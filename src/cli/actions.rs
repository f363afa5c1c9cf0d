//! `onionbus actions`: who has changed what, and from now on if that is wanted.

use std::io::Write;

use super::args::Actions;
use super::client::Client;

pub fn run(arguments: &Actions, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut client = Client::connect(&arguments.bus)?;
    if arguments.follow {
        // Before the last ones are asked for, so that none falls between.
        client.ask(b"SETEVENTS ACTION DENIED")?;
    }
    let reply = client.ask_bus(b"GETINFO recent-actions")?;
    let mut last = 0;
    for entry in reply.entries() {
        let lines = entry.data.unwrap_or_default();
        for line in lines.split_inclusive(|&octet| octet == b'\n') {
            last = number(line).unwrap_or(last);
        }
        out.write_all(&lines)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    loop {
        if client.must_wait() {
            out.flush()?;
        }
        let event = client.event()?.raw();
        if number(&event).is_none_or(|number| number > last) {
            out.write_all(&event)?;
        }
    }
}

/// The number of an event: the word behind its name.
fn number(line: &[u8]) -> Option<u64> {
    let word = line.split(|&octet| octet == b' ').nth(2)?;
    str::from_utf8(word).ok()?.parse().ok()
}
