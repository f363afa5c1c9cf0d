//! Everything that one controller can make the daemon keep, by many at once, and to the limit: all
//! of it is charged, and it takes no more memory than onionbus(8) says.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use nix::sys::signal::Signal;

use support::{Controller, Daemon, Place, Start, eventually};

/// How many do all of it.
const GREEDY: u64 = 40;

/// `BusMaxQueue`, in octets.
const QUEUE: u64 = 1 << 20;

/// The longest command, in octets.
const COMMAND: u64 = 1 << 20;

/// `BusMaxMessageLength`, in octets.
const MESSAGE: u64 = 32 << 10;

/// Messages to a name that are kept for its holder.
const MAIL: u64 = 10;

/// `BusHistory`.
const HISTORY: u64 = 50;

/// The most that each takes without a Tor.
const EACH: u64 = QUEUE + COMMAND + MAIL * MESSAGE;

/// The most that each takes besides with one.
const EACH_WITH_TOR: u64 = QUEUE / 2 + 2 * COMMAND;

fn limited(place: &Place) -> Start {
    place
        .serve()
        .set(&format!("BusMaxQueue {QUEUE}"))
        .set(&format!("BusMaxMessageLength {MESSAGE}"))
        .set(&format!("BusHistory {HISTORY}"))
        .set("BusMaxMemory 1 GB")
}

/// Those who do all of it, with mail to their names and as much history as there can be.
fn with_mail(daemon: &Daemon, poster: &mut Controller) -> Vec<Controller> {
    let text = "x".repeat(octets(MESSAGE));
    let greedy = (0..GREEDY)
        .map(|number| {
            let name = format!("greedy{number}");
            let controller = daemon.named(&name);
            for _ in 0..MAIL {
                poster.ok(&format!("POSTMESSAGE @{name} {text}"));
            }
            controller
        })
        .collect();
    for _ in 0..HISTORY {
        poster.ok(&format!("POSTMESSAGE @all {text}"));
    }
    greedy
}

/// One who makes events for whoever has subscribed to CONTROLLER, and one who reads them, so that
/// none is on its way any more.
struct Renamer {
    poster: Controller,
    reader: Controller,
}

impl Renamer {
    fn of(daemon: &Daemon) -> Self {
        let mut reader = daemon.connect();
        reader.ok("SETEVENTS CONTROLLER");
        let poster = daemon.connect();
        Self { poster, reader }
    }

    fn rename(&mut self, times: usize) {
        let names = ["a", "b"].map(|end| format!("CONTROLLERNAME {end:_>60}\r\n"));
        self.poster.send(names.concat().repeat(times));
        for _ in 0..2 * times {
            assert_eq!(self.poster.reply(), "250 OK");
            while !self.reader.line().contains("____") {}
        }
    }

    /// Until the one with this name is cut off.
    fn drown(&mut self, name: &str) {
        eventually("it is cut off", || {
            self.rename(25);
            let there = self.poster.ask("GETINFO list-controllers");
            !there.contains(name)
        });
    }
}

/// It was really filled, nobody was cut off, and the memory that it takes is what is charged.
fn is_filled(daemon: &Daemon, before: u64, each: u64) {
    let held = daemon.memory() * 1024 - before;
    let most = GREEDY * each + HISTORY * MESSAGE;
    assert!(held > most / 4 * 3, "only {held} of {most} octets");
    let names = daemon.connect().ask("GETINFO list-controllers");
    assert_eq!(names.matches("greedy").count() as u64, GREEDY);
    let kept = kept(daemon);
    // What the allocator needs, and what is on its way.
    let beside = kept / 20 + (4 << 20);
    assert!(held < kept + beside, "{held} octets, {kept} charged");
    assert!(kept < most + most / 4, "{kept} octets charged");
}

/// The octets that are charged.
fn kept(daemon: &Daemon) -> u64 {
    daemon.signal(Signal::SIGUSR1);
    let line = daemon.logs("octets are kept for controllers");
    let (_, kept) = line.rsplit_once("; ").expect("it is the last part");
    let kept = kept.split(' ').next().and_then(|kept| kept.parse().ok());
    kept.expect("it is a number")
}

fn octets(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

#[test]
fn it_is_no_more_than_the_options_allow() {
    let place = Place::new();
    let daemon = limited(&place).ready();
    let mut renamer = Renamer::of(&daemon);
    let before = daemon.memory() * 1024;
    let mut greedy = with_mail(&daemon, &mut renamer.poster);
    // The beginning of a command.
    let command = vec![b'x'; octets(COMMAND) - 1];
    for controller in &mut greedy {
        controller.ok("SETEVENTS CONTROLLER");
        controller.send(&command);
    }
    // Events that they do not read, until one is cut off that has not read its replies either: more
    // than the kernel takes, so that it is well ahead of the others.
    let mut first = daemon.named("first");
    first.ok("SETEVENTS CONTROLLER");
    first.send("GETINFO info/names\r\n".repeat(250));
    renamer.drown("first");
    is_filled(&daemon, before, EACH);
}

/// The answer of a Tor that lets everybody in, and does what it is told.
fn of_tor(line: &str) -> String {
    match line {
        "PROTOCOLINFO 1" => "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
             250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
            .into(),
        fence if fence.starts_with("ONIONBUS_FENCE_") => {
            format!("510 Unrecognized command \"{fence}\"\r\n")
        }
        _ => "250 OK\r\n".into(),
    }
}

/// Plays a Tor that stops in the middle of its replies.
fn stops(stream: UnixStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        // Of a long command it reads no more than this.
        let begun = stream.fill_buf()?;
        let is_long = begun.starts_with(b"GETINFO info/names ");
        let answer = if is_long {
            format!("250-{}\r\n", "x".repeat(octets(QUEUE) / 2 - 1024))
        } else {
            line.clear();
            stream.read_line(&mut line)?;
            match line.trim_end() {
                "GETINFO ns/all" => "250+ns/all=\r\n".into(),
                "+FOO" => "250+FOO=\r\n".into(),
                line => of_tor(line),
            }
        };
        stream.get_mut().write_all(answer.as_bytes())?;
        while is_long || answer.starts_with("250+") {
            thread::park();
        }
    }
}

#[test]
fn a_tor_that_stops_makes_it_no_more_either() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // It ends with the daemon.
            thread::spawn(|| stops(stream.expect("a connection")));
        }
    });
    let tor = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = limited(&place).set(&tor).ready();
    let mut renamer = Renamer::of(&daemon);
    let before = daemon.memory() * 1024;
    let mut first = daemon.named("first");
    let mut greedy = with_mail(&daemon, &mut renamer.poster);
    // The first is ahead of the others.
    first.ok("SETEVENTS CONTROLLER");
    first.send("GETINFO ns/all\r\n");
    assert_eq!(first.line(), "250+ns/all=");
    renamer.rename(500);
    let (half, others) = greedy.split_at_mut(octets(GREEDY / 2));
    // A command that this Tor does not take and begins to reply to, so that events wait for the end
    // of the reply; and the beginning of one more.
    let command = vec![b'x'; octets(COMMAND) - 100];
    for controller in half {
        controller.ok("SETEVENTS CONTROLLER");
        controller.send([b"+FOO\r\n", &command[..], b"\r\n.\r\n", &command[..]].concat());
        assert_eq!(controller.line(), "250+FOO=");
    }
    // Half of the reply to a command of both, which is kept, and as much as can be of the command.
    let key = format!(" {}", "k".repeat(1000));
    let both = format!("GETINFO info/names{}\r\n", key.repeat(999));
    for controller in others {
        controller.ok("SETEVENTS CONTROLLER");
        controller.send([both.as_bytes(), &command[..]].concat());
    }
    renamer.drown("first");
    is_filled(&daemon, before, EACH + EACH_WITH_TOR);
}

/// The most octets of an event of Tor's.
const EVENT: usize = 8 << 20;

/// Plays a Tor that sends the longest events that there may be, and then one more.
fn sends_long_events(listener: &UnixListener) -> std::io::Result<()> {
    let (stream, _) = listener.accept()?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let answer = of_tor(line.trim_end());
        stream.get_mut().write_all(answer.as_bytes())?;
        if line.starts_with("SETEVENTS ") {
            let text = "x".repeat(EVENT - 20);
            for _ in 0..3 {
                write!(stream.get_mut(), "650 NEWCONSENSUS {text}\r\n")?;
            }
            // Until the daemon has asked again, once it has read them.
            stream.read_line(&mut line)?;
            write!(stream.get_mut(), "250 OK\r\n650+NEWCONSENSUS {text}{text}")?;
        }
        line.clear();
    }
    Ok(())
}

#[test]
fn the_longest_events_of_a_tor_take_little_and_leave_nothing() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    thread::spawn(move || sends_long_events(&listener));
    let tor = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = place.serve().set(&tor).ready();
    let before = daemon.memory();
    let mut reader = daemon.connect();
    reader.ok("SETEVENTS NEWCONSENSUS");
    for _ in 0..3 {
        assert!(reader.line().len() > EVENT - 10);
    }
    eventually("nothing is kept of them", || {
        daemon.memory() < before + 4096
    });
    reader.ok("SETEVENTS NEWCONSENSUS CIRC");
    daemon.logs("it sent an event that has no end");
    let peak = daemon.peak() - before;
    assert!(peak < 48 * 1024, "{peak} KiB");
}

#[test]
fn an_answer_of_bus_and_tor_that_was_read_is_not_kept() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| answers_at_length(stream.expect("a connection")));
        }
    });
    let tor = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = place.serve().set(&tor).ready();
    let controllers: Vec<_> = (0..100)
        .map(|_| {
            let mut controller = daemon.connect();
            let answer = controller.ask("GETINFO info/names long");
            assert!(answer.len() > 100_000 && answer.contains("list-controllers"));
            controller
        })
        .collect();
    let kept = kept(&daemon);
    assert!(kept < 100_000, "{kept} octets of {}", controllers.len());
}

/// Plays a Tor that knows a long value.
fn answers_at_length(stream: UnixStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let answer = match line.trim_end() {
            "GETINFO info/names long" => {
                let long = "x".repeat(100_000);
                format!("250+info/names=\r\na -- b\r\n.\r\n250-long={long}\r\n250 OK\r\n")
            }
            line => of_tor(line),
        };
        stream.get_mut().write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// Silent subscribers of one user, and the messages that they do not read.
fn storm(daemon: &Daemon) {
    let subscribers: Vec<_> = (0..250)
        .map(|_| {
            let mut subscriber = daemon.connect();
            subscriber.ok("SETEVENTS POSTMESSAGE");
            subscriber
        })
        .collect();
    let mut poster = daemon.connect();
    let text = "x".repeat(65_000);
    for _ in 0..172 {
        poster.ok(&format!("POSTMESSAGE @all {text}"));
    }
    drop(subscribers);
    let only_it = || {
        poster
            .ask("GETINFO list-controllers")
            .matches("unset")
            .count()
            == 1
    };
    eventually("the others have left", only_it);
}

#[test]
fn a_storm_ends_nobody_and_leaves_nothing() {
    let place = Place::new();
    // The octets of memory that there are: those of BusMaxMemory, and 96 MB for the program.
    let limit = format!("--as={}", (256 + 96) << 20);
    let daemon = place.serve().under(&["prlimit", &limit, "--"]).ready();
    storm(&daemon);
    let after_one = daemon.memory();
    for _ in 1..10 {
        storm(&daemon);
    }
    let mut other = daemon.connect();
    other.ok("SETEVENTS POSTMESSAGE");
    eventually("what is freed is given back", || {
        // While there is something to do, for the loop and for whoever delivers: each gives back what
        // it took, and a daemon that rests gives back nothing more.
        other.send("GETINFO version\r\nPOSTMESSAGE @all x\r\n".repeat(200));
        for _ in 0..3 * 200 {
            other.reply();
        }
        let after_ten = daemon.memory();
        // The history, and little else.
        after_ten < (after_one + 8 * 1024).min(32 * 1024)
    });
    daemon.logs("was dropped: its user keeps more than BusMaxMemoryPerUser 134217728 octets");
}

#[test]
fn the_oldest_messages_of_a_user_go_before_anything_else_if_they_are_the_most() {
    let place = Place::new();
    let daemon = place
        .serve()
        .set("BusMaxMemory 4 MB")
        .set("BusHistory 1000")
        .ready();
    let mut poster = daemon.named("poster");
    let text = "x".repeat(60_000);
    for number in 0..60 {
        poster.ok(&format!("POSTMESSAGE @all {number}_{text}"));
    }
    daemon.logs("messages are most of it");
    // So that the reply does not take the place of the messages.
    poster.ok("SETCONF BusMaxMemory=\"64 MB\"");
    let recent = poster.ask("GETINFO recent-messages");
    assert!(!recent.contains(" 0_") && recent.contains(" 59_"));
    let kept = recent.matches("_x").count();
    assert!((25..36).contains(&kept), "{kept}");
}

#[test]
fn a_long_command_of_short_words_takes_no_more_than_is_said() {
    for (command, word, end) in [
        ("GETCONF", " a", "\r\n"),
        ("GETINFO", " a", "\r\n"),
        ("GETCONF", " BusLog", "\r\n"),
        ("SETCONF", " a", "\r\n"),
        ("SETCONF", " BusLog", "\r\n"),
        ("+LOADCONF\r\n", "BusLog\n", ".\r\n"),
        ("SETEVENTS", " A", "\r\n"),
    ] {
        let place = Place::new();
        let daemon = place.daemon();
        let words = word.repeat(1_000_000 / word.len());
        let mut controller = daemon.connect();
        controller.ask(&format!("{command}{words}{}", &end[..end.len() - 2]));
        let peak = daemon.peak();
        assert!(peak < 64 * 1024, "{peak} KiB for {command}{word}");
    }
}
