//! Tor comes and goes; the bus stays.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::{Controller, Place, eventually};
use crate::tor::{Home, Pair, has_tor, is_connected, serve};
use crate::wire::{Stop, Wire, tail};

/// Whether Tor answers a controller of the bus.
fn reaches_tor(controller: &mut Controller) -> bool {
    let said = controller.ask("GETINFO accounting/enabled");
    let up = said == "250-accounting/enabled=0\n250 OK";
    assert!(
        up || said.starts_with("551 Tor is not reachable: "),
        "{said}"
    );
    up
}

/// Waits for the event that says so, and takes no notice of others.
fn hears(controller: &mut Controller, event: &str) {
    while controller.line() != event {}
}

#[test]
fn absent_at_the_start_it_is_found_when_it_appears() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let daemon = serve(&place, &home).ready();
    let mut controller = daemon.named("me");
    assert!(!reaches_tor(&mut controller));
    for command in [
        "GETCONF Log",
        "FOO",
        "ADD_ONION NEW:BEST Port=80",
        "SIGNAL NEWNYM",
    ] {
        let said = controller.ask(command);
        assert!(
            said.starts_with("551 Tor is not reachable: "),
            "{command}: {said}"
        );
    }
    // The bus's own go on, in their order.
    controller.send("FOO\r\nGETINFO list-controllers\r\nBAR\r\nGETCONF BusHistory\r\n");
    assert!(controller.reply().starts_with("551 "));
    assert_eq!(controller.reply(), "250-list-controllers=me\n250 OK");
    assert!(controller.reply().starts_with("551 "));
    assert_eq!(controller.reply(), "250 BusHistory=100");
    let said = controller.ask("SETEVENTS BW POSTMESSAGE");
    assert!(said.starts_with("551 Tor is not reachable: "), "{said}");
    controller.ok("SETEVENTS TOR POSTMESSAGE");
    controller.ok("POSTMESSAGE @me hello");
    assert_eq!(controller.next_message().1, "me @me hello");

    let _tor = home.start();
    hears(&mut controller, "650 TOR UP");
    assert!(reaches_tor(&mut controller));
    controller.ok("SETEVENTS SIGNAL");
    controller.ok("SIGNAL CLEARDNSCACHE");
    hears(&mut controller, "650 SIGNAL CLEARDNSCACHE");
}

#[test]
fn who_used_it_is_disconnected_when_it_goes_and_nobody_else() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::start();
    let mut user = Wire::at(&pair.place.socket());
    user.ask("GETINFO version");
    let mut subscriber = Wire::at(&pair.place.socket());
    assert_eq!(subscriber.first_line("SETEVENTS SIGNAL"), "250 OK");
    let mut both = Wire::at(&pair.place.socket());
    both.ask("SETEVENTS SIGNAL");
    let mut plain = pair.daemon.named("plain");
    plain.ok("SETEVENTS TOR");
    pair.tor.kill();
    for (who, wire) in [
        ("user", &mut user),
        ("subscriber", &mut subscriber),
        ("both", &mut both),
    ] {
        wire.about = who.into();
        wire.take();
        wire.until_closed();
        assert_eq!(wire.received, b"");
    }
    hears(&mut plain, "650 TOR DOWN");
    plain.ok("SETEVENTS TOR POSTMESSAGE");
    assert!(!reaches_tor(&mut plain));
    plain.ok("POSTMESSAGE @all still here");
    assert_eq!(plain.next_message().1, "plain @all still here");
    assert_eq!(plain.info("list-controllers"), "plain");

    let _tor = pair.home.start();
    hears(&mut plain, "650 TOR UP");
    assert!(reaches_tor(&mut plain));
}

/// Tor says its last words before it goes, and they come through.
#[test]
fn what_it_still_said_is_delivered() {
    if !has_tor() {
        return;
    }
    for round in 0..10 {
        let mut pair = Pair::start();
        let mut user = Wire::at(&pair.place.socket());
        user.ask("SETEVENTS SIGNAL");
        user.send(b"FOO\r\nSIGNAL HALT\r\nGETINFO version\r\n");
        user.until_closed();
        let got = String::from_utf8(user.take()).expect("ASCII");
        let replies = "510 Unrecognized command \"FOO\"\r\n250 OK\r\n";
        assert!(got.starts_with(replies), "round {round}: {got}");
        pair.tor.ends();
    }
}

#[test]
fn a_new_cookie_is_read_for_the_new_one() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::with("CookieAuthentication 1"), Place::new());
    let mut tor = home.start();
    let daemon = serve(&place, &home).ready();
    is_connected(&daemon);
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS TOR");
    for _ in 0..3 {
        let mut user = daemon.connect();
        assert!(reaches_tor(&mut user));
        tor.kill();
        hears(&mut watcher, "650 TOR DOWN");
        user.rest();
        tor = home.start();
        hears(&mut watcher, "650 TOR UP");
    }
    assert!(reaches_tor(&mut watcher));
}

#[test]
fn with_bus_keep_controllers_they_stay() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&["BusKeepControllers 1"]);
    let mut watcher = pair.daemon.named("watcher");
    watcher.ok("SETEVENTS TOR SIGNAL");
    let mut user = pair.daemon.named("user");
    assert!(reaches_tor(&mut user));
    user.ok("SETCONF ContactInfo=old");
    for _ in 0..3 {
        pair.tor.kill();
        hears(&mut watcher, "650 TOR DOWN");
        assert!(!reaches_tor(&mut user));
        assert!(
            user.ask("GETINFO list-controllers")
                .contains("watcher\nuser\n")
        );
        pair.tor = pair.home.start();
        hears(&mut watcher, "650 TOR UP");
        assert!(reaches_tor(&mut user));
        // It is the new Tor, and it sends the events that were asked of the old one.
        assert_eq!(user.ask("GETCONF ContactInfo"), "250 ContactInfo");
        user.ok("SETCONF ContactInfo=old");
        user.ok("SIGNAL CLEARDNSCACHE");
        hears(&mut watcher, "650 SIGNAL CLEARDNSCACHE");
    }
}

/// Commands that are on their way when Tor goes are answered, each of them, or it is plain that
/// they are not: nothing is answered in the wrong place.
#[test]
fn commands_on_their_way_when_it_goes_get_no_wrong_replies() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&["BusKeepControllers 1"]);
    for round in 0..5 {
        let mut user = Wire::at(&pair.place.socket());
        user.ask("GETINFO version");
        let count = 2000;
        let mut commands = String::new();
        for number in 0..count {
            let _ = write!(commands, "UNKNOWN{number}\r\nGETINFO list-controllers\r\n");
        }
        user.send(commands.as_bytes());
        user.until(b"\"UNKNOWN20\"");
        pair.tor.kill();
        // What ends the batch is the bus's to say.
        user.send(b"POSTMESSAGE\r\n");
        let at_end = user.until(b"512 Bad arguments to POSTMESSAGE");
        assert!(at_end, "it is kept: {}", tail(&user.received));
        let got = String::from_utf8(user.take()).expect("ASCII");
        let mut lines = got.lines().peekable();
        for number in 0..count {
            let line = lines.next().expect("a reply for each");
            let by_tor = line == format!("510 Unrecognized command \"UNKNOWN{number}\"");
            let by_bus = line.starts_with("551 Tor is not reachable: ");
            assert!(by_tor || by_bus, "round {round}, {number}: {line}");
            let line = lines.next().expect("a reply for each");
            assert_eq!(
                line, "250-list-controllers=unset",
                "round {round}, {number}"
            );
            assert_eq!(lines.next(), Some("250 OK"));
        }
        pair.tor = pair.home.start();
        let mut watcher = pair.daemon.connect();
        eventually("Tor is reached", || reaches_tor(&mut watcher));
    }
}

#[test]
fn fifty_restarts_lose_no_message() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::start();
    let mut watcher = pair.daemon.connect();
    watcher.ok("SETEVENTS TOR");
    let mut listener = pair.daemon.named("listener");
    listener.ok("SETEVENTS POSTMESSAGE");
    let mut poster = pair.daemon.named("poster");
    let socket = pair.place.socket();
    let stop = AtomicBool::new(false);
    let (count, heard, asked) = thread::scope(|scope| {
        let posting = scope.spawn(|| {
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                poster.ok(&format!("POSTMESSAGE @all {count}"));
                count += 1;
            }
            poster.ok("POSTMESSAGE @all end");
            count
        });
        let hearing = scope.spawn(|| {
            let mut next = 0_u64;
            loop {
                let (id, text) = listener.next_message();
                assert_eq!(id, next + 1, "ids have no gap");
                if text.ends_with(" end") {
                    return next;
                }
                assert_eq!(text, format!("poster @all {next}"));
                next += 1;
            }
        });
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                // Each is disconnected sooner or later, and another one comes.
                let mut user = Wire::at(&socket);
                user.send(b"SETEVENTS SIGNAL BW\r\n");
                while !stop.load(Ordering::Relaxed)
                    && user.send(b"GETINFO info/names\r\n")
                    && user.until(b"\r\n")
                {
                    asked += 1;
                    user.take();
                }
            }
            asked
        });
        let stops = Stop(&stop);
        for _ in 0..50 {
            pair.tor.kill();
            hears(&mut watcher, "650 TOR DOWN");
            pair.tor = pair.home.start();
            hears(&mut watcher, "650 TOR UP");
        }
        drop(stops);
        let count = posting.join().expect("no panic");
        let heard = hearing.join().expect("no panic");
        (count, heard, asking.join().expect("no panic"))
    });
    assert_eq!(heard, count);
    assert!(count > 500, "only {count} messages were posted meanwhile");
    assert!(asked > 50, "Tor was asked {asked} times only");
    assert!(reaches_tor(&mut watcher));
    watcher.ok("SETEVENTS SIGNAL");
    watcher.ok("SIGNAL CLEARDNSCACHE");
    hears(&mut watcher, "650 SIGNAL CLEARDNSCACHE");
    // Nothing is left of those who were disconnected.
    eventually("Tor has only the connections that are in use", || {
        pair.tor.descriptors() < 30
    });
}

/// Answers as a Tor would that has no login, until the other end closes.
fn plays_tor(stream: UnixStream, breaks_off: &Barrier) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        let answer = match line.trim_end() {
            "PROTOCOLINFO 1" => "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
                 250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
                .to_owned(),
            fence if fence.starts_with("ONIONBUS") => {
                format!("510 Unrecognized command \"{fence}\"\r\n")
            }
            "GETINFO ns/all" => "250+ns/all=\r\nr a\r\n".to_owned(),
            _ => "250 OK\r\n".to_owned(),
        };
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
        if answer.starts_with("250+") {
            breaks_off.wait();
            return;
        }
        line.clear();
    }
}

#[test]
fn no_event_follows_a_reply_that_breaks_off() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    let breaks_off = Arc::new(Barrier::new(2));
    let theirs = Arc::clone(&breaks_off);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let theirs = Arc::clone(&theirs);
            thread::spawn(move || plays_tor(stream.expect("a connection"), &theirs));
        }
    });
    let option = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = place.serve().set(&option).ready();
    is_connected(&daemon);
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS POSTMESSAGE");
    controller.send("GETINFO ns/all\r\n");
    assert_eq!(controller.line(), "250+ns/all=");
    daemon.connect().ok("POSTMESSAGE @all hello");
    breaks_off.wait();
    assert_eq!(String::from_utf8_lossy(&controller.rest()), "r a\r\n");
}

/// One that lets in no more than it must is asked for a connection to spare once, not at every answer.
#[test]
fn what_cannot_be_had_to_spare_is_tried_once() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The daemon's own, and one controller's.
            if counted.fetch_add(1, Ordering::SeqCst) < 2 {
                thread::spawn(|| plays_tor(stream.expect("a connection"), &Barrier::new(2)));
            }
        }
    });
    let option = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = place.serve().set(&option).ready();
    is_connected(&daemon);
    let mut controller = daemon.connect();
    for _ in 0..100 {
        controller.ok("GETINFO version");
    }
    eventually("one to spare is tried", || came.load(Ordering::SeqCst) > 2);
    for _ in 0..100 {
        controller.ok("GETINFO version");
    }
    assert_eq!(came.load(Ordering::SeqCst), 3);
}
