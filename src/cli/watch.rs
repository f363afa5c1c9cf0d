//! `onionbus watch`: events, as they come.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::Duration;

use onionbus::command::Owner;
use onionbus::sys::clock;
use onionbus::wire::event::EventKind;

use super::Stop;
use super::args::Watch;
use super::client::{self, Client};
use super::json::{self, Object};
use super::names;
use super::terminal;

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

/// The time before the first attempt to connect again, which doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(100);

const LONGEST: Duration = Duration::from_secs(5);

pub fn run(arguments: &Watch, out: &mut dyn Write) -> anyhow::Result<()> {
    let subscribe = client::line("SETEVENTS", &arguments.events)?;
    let mut client = Client::connect(&arguments.bus)?;
    // Before it subscribes: an event that came with the answer to this would not be printed.
    let missed = missed(&mut client, &arguments.events)?;
    let mut client = subscribed(client, arguments, &subscribe)?;
    if let Some(event) = missed {
        let event = event.display();
        tell(&format!(
            "no Tor is behind this bus, so no {event} will come"
        ));
    }
    let mut left = arguments.count;
    loop {
        match print_events(arguments, &mut client, &mut left, out) {
            Err(why) if arguments.reconnect && may_pass(&why) => {
                out.flush()?;
                tell(&format!("{why:#}\nonionbus: trying again until it answers"));
                client = subscribed_again(arguments, &subscribe)?;
                tell("connected again");
            }
            done => return done,
        }
    }
}

fn subscribed(mut client: Client, arguments: &Watch, subscribe: &[u8]) -> anyhow::Result<Client> {
    client.send(&[subscribe, b"\r\n"].concat())?;
    let reply = client.reply()?;
    if reply.is_success() {
        return Ok(client);
    }
    let text = client::wording(&reply);
    let mut own = arguments.events.iter().filter(|event| {
        let kind = EventKind::parse(event.as_bytes());
        kind.is_some_and(EventKind::is_own)
    });
    if own.any(|event| text.contains(&*event.to_string_lossy())) {
        return Err(client.explained(Stop::Refused(text).into()));
    }
    Err(names::refusal(&mut client, &reply))
}

fn subscribed_again(arguments: &Watch, subscribe: &[u8]) -> anyhow::Result<Client> {
    let mut pause = SHORTEST;
    loop {
        thread::sleep(pause);
        let connected = Client::connect(&arguments.bus);
        match connected.and_then(|client| subscribed(client, arguments, subscribe)) {
            Err(why) if may_pass(&why) => pause = LONGEST.min(pause * 2),
            done => return done,
        }
    }
}

/// Whether it may be otherwise later: nobody answers, or the daemon's Tor does not.
fn may_pass(why: &anyhow::Error) -> bool {
    match why.downcast_ref() {
        Some(Stop::NoDaemon(_)) => true,
        Some(Stop::Refused(text)) => text.starts_with("551"),
        _ => false,
    }
}

/// Prints events until `left` of them have come, if that is a number.
fn print_events(
    arguments: &Watch,
    client: &mut Client,
    left: &mut Option<u64>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    while *left != Some(0) {
        if client.must_wait() {
            out.flush()?;
        }
        let event = client.event()?;
        let time = arguments.time.then(clock::stamp);
        if arguments.form.json {
            let object = Object::default();
            let object = match time {
                Some(time) => object.with("time", time),
                None => object,
            };
            json::event(object, &event.entries()).print(out)?;
        } else {
            if let Some(time) = time {
                write!(out, "{time} ")?;
            }
            out.write_all(&event.raw())?;
        }
        *left = left.map(|left| left - 1);
    }
    Ok(())
}

/// The first event that only a Tor has, if none is behind the bus.
fn missed<'a>(client: &mut Client, events: &'a [OsString]) -> anyhow::Result<Option<&'a OsString>> {
    let is_tors = |event: &&OsString| {
        let kind = EventKind::parse(event.as_bytes());
        kind.is_some_and(|kind| kind.owner() == Owner::Tor && !OF_DAEMON.contains(&kind))
    };
    let Some(event) = events.iter().find(is_tors) else {
        return Ok(None);
    };
    client.send(b"GETCONF BusTor\r\n")?;
    let reply = client.reply()?;
    Ok((reply.raw() == b"250 BusTor=none\n").then_some(event))
}

fn tell(text: &str) {
    let text = terminal::for_standard_error(&format!("onionbus: {text}"));
    // Nobody can be told that standard error is gone.
    let _ = writeln!(io::stderr(), "{text}");
}
