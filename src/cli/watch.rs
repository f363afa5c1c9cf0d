//! `onionbus watch`: events, as they come.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use onionbus::command::Owner;
use onionbus::wire::event::EventKind;

use super::args::Watch;
use super::client::{self, Client};
use super::json::{self, Object};

/// The events of Tor's that a daemon without a Tor raises itself.
const OF_DAEMON: &[EventKind] = &[
    EventKind::Bandwidth,
    EventKind::Debug,
    EventKind::Info,
    EventKind::Notice,
    EventKind::Warn,
    EventKind::Err,
    EventKind::ConfChanged,
    EventKind::Signal,
];

pub fn run(arguments: &Watch, out: &mut dyn Write) -> anyhow::Result<()> {
    let subscribe = client::line("SETEVENTS", &arguments.events)?;
    let mut client = Client::connect(&arguments.bus)?;
    client.ask(&subscribe)?;
    tell_of_no_tor(&mut client, &arguments.events)?;
    let mut left = arguments.count;
    while left != Some(0) {
        if client.must_wait() {
            out.flush()?;
        }
        let event = client.event()?;
        if arguments.form.json {
            json::event(Object::default(), &event.entries()).print(out)?;
        } else {
            out.write_all(&event.raw())?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Says so if events are asked for that only a Tor has, and none is behind the bus.
fn tell_of_no_tor(client: &mut Client, events: &[OsString]) -> anyhow::Result<()> {
    let is_tors = |event: &&OsString| {
        let kind = EventKind::parse(event.as_bytes());
        kind.is_some_and(|kind| kind.owner() == Owner::Tor && !OF_DAEMON.contains(&kind))
    };
    let Some(event) = events.iter().find(is_tors) else {
        return Ok(());
    };
    client.send(b"GETCONF BusTor\r\n")?;
    if client.reply()?.raw() == b"250 BusTor=none\n" {
        let event = event.display();
        // Nobody can be told that standard error is gone.
        let _ = writeln!(
            io::stderr(),
            "onionbus: no Tor is behind this bus, so no {event} will come"
        );
    }
    Ok(())
}
