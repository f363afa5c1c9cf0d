//! Tor's events: fetched once, fanned out to those who asked, whole, and never within a reply.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{PATIENCE, Place};
use crate::tor::{Home, Pair, has_tor, serve};
use crate::wire::{Stop, Wire, tail};

/// How many events of 2000 may stand elsewhere among the replies than at Tor: they come on another
/// connection, and when both have something to read nobody knows what Tor said first.
const RARELY: usize = 40;

const SIGNAL: &[u8] = b"650 SIGNAL CLEARDNSCACHE\r\n";

#[test]
fn who_comes_before_the_daemon_has_logged_in_waits() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let _tor = home.start();
    let daemon = serve(&place, &home).spawn();
    daemon.logs("listening at");
    let mut controller = Wire::at(&place.socket());
    assert_eq!(controller.first_line("SETEVENTS SIGNAL"), "250 OK");
}

#[test]
fn each_gets_what_it_asked_for_and_tor_sees_one_subscriber() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let before = pair.tor.descriptors();
    let wanted = [
        "CONF_CHANGED",
        "SIGNAL",
        "",
        "SIGNAL CONF_CHANGED",
        "EXTENDED signal",
    ];
    let mut controllers: Vec<_> = wanted
        .iter()
        .map(|events| {
            let mut controller = Wire::at(&pair.place.socket());
            let subscribe = format!("SETEVENTS POSTMESSAGE {events}");
            assert_eq!(controller.first_line(&subscribe), "250 OK");
            controller
        })
        .collect();
    // What Tor has is the daemon's connection, which was there before or not yet.
    assert!(pair.tor.descriptors() <= before + 1);

    let mut busy = Wire::at(&pair.place.socket());
    for round in 0..20 {
        busy.ask(&format!("SETCONF ContactInfo={round}"));
        busy.ask("SIGNAL CLEARDNSCACHE");
    }
    // The last event has been handed over when one has it, and what is posted then is behind it.
    let last = SIGNAL;
    for _ in 0..20 {
        assert!(controllers[3].until(last));
    }
    assert_eq!(busy.first_line("POSTMESSAGE @all end"), "250 OK");
    let message = b"650 POSTMESSAGE 1 unset @all end\r\n";
    for (events, controller) in wanted.iter().zip(&mut controllers) {
        assert!(controller.until(message));
        let mut expected = String::from("250 OK\r\n");
        for round in 0..20 {
            if events.contains("CONF_CHANGED") {
                expected += "650-CONF_CHANGED\r\n650-ContactInfo=";
                let _ = write!(expected, "{round}\r\n650 OK\r\n");
            }
            if events.to_ascii_uppercase().contains("SIGNAL") {
                expected += "650 SIGNAL CLEARDNSCACHE\r\n";
            }
        }
        expected += "650 POSTMESSAGE 1 unset @all end\r\n";
        let got = String::from_utf8(controller.take()).expect("ASCII");
        assert_eq!(got, expected, "{events:?}");
    }
}

/// Signals Tor again and again, which raises an event each time, while `body` runs.
fn flooded(pair: &Pair, body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    thread::scope(|scope| {
        scope.spawn(|| {
            let many = ["SIGNAL CLEARDNSCACHE"; 20].join("\r\n");
            while !stop.load(Ordering::Relaxed) {
                direct.ask(&many);
            }
        });
        let _stops = Stop(&stop);
        body();
    });
}

#[test]
fn none_stands_inside_a_reply() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    let command = "GETINFO config/names info/names";
    let mixed = "GETINFO new-messages info/names";
    let replies = [controller.ask(command), controller.ask(mixed)];
    let count = 150;
    controller.ask("SETEVENTS SIGNAL");
    flooded(&pair, || {
        // So that the flood has begun.
        assert!(controller.until(SIGNAL));
        controller.send(format!("{command}\r\n{mixed}\r\n").repeat(count).as_bytes());
        controller.fence();
    });
    let all = controller.take();
    let mut rest = &all[..];
    let mut events = 0;
    let mut got = 0;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(SIGNAL) {
            rest = behind;
            events += 1;
            continue;
        }
        let reply = replies[got % 2].as_bytes();
        let Some(behind) = rest.strip_prefix(reply) else {
            let same = rest.iter().zip(reply).take_while(|(a, b)| a == b).count();
            let end = rest.len().min(same + 100);
            panic!(
                "reply {got} goes on with {} after {same} octets",
                rest[same.saturating_sub(40)..end].escape_ascii()
            );
        };
        rest = behind;
        got += 1;
    }
    assert_eq!(got, 2 * count);
    assert!(events > 100, "a flood has more than {events} events");
}

#[test]
fn none_comes_after_the_ok_that_unsubscribed() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    // Another one who stays subscribed: Tor goes on with sending.
    let mut other = Wire::at(&pair.place.socket());
    other.ask("SETEVENTS SIGNAL CONF_CHANGED");
    flooded(&pair, || {
        for round in 0..100 {
            let mut controller = Wire::at(&pair.place.socket());
            assert_eq!(controller.first_line("SETEVENTS SIGNAL"), "250 OK");
            assert!(controller.until(SIGNAL));
            controller.take();
            controller.send(b"SETEVENTS\r\nUNKNOWN\r\n");
            // A way around: through Tor, and then over the fan-out thread.
            let message = format!(
                "SETEVENTS POSTMESSAGE\r\nCONTROLLERNAME me{round}\r\nPOSTMESSAGE @me{round} end\r\n"
            );
            controller.send(message.as_bytes());
            assert!(controller.until(b" end\r\n"));
            let all = String::from_utf8(controller.take()).expect("ASCII");
            let (_, behind) = all.split_once("250 OK\r\n").expect("it is there");
            assert!(!behind.contains("SIGNAL"), "round {round}: {all}");
            assert!(
                behind.starts_with("510 Unrecognized command \"UNKNOWN\""),
                "{all}"
            );
            other.take();
        }
    });
}

/// What a controller's own command causes comes behind the reply to it, as at Tor.
#[test]
fn an_event_does_not_overtake_the_reply_to_its_cause() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    controller.ask("SETEVENTS SIGNAL");
    let mut overtaken = 0;
    for _ in 0..2000 {
        controller.send(b"SIGNAL CLEARDNSCACHE\r\n");
        assert!(controller.until(SIGNAL));
        let begun = controller.received.starts_with(b"250 OK\r\n");
        overtaken += usize::from(!begun);
        controller.fence();
        controller.take();
    }
    assert!(overtaken < RARELY, "{overtaken} of 2000");
}

/// And it comes before the reply to whatever is asked next, as at Tor.
#[test]
fn an_event_is_there_before_the_next_reply() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    controller.ask("SETEVENTS SIGNAL");
    let mut late = 0;
    for _ in 0..2000 {
        assert_eq!(controller.first_line("SIGNAL CLEARDNSCACHE"), "250 OK");
        controller.fence();
        let all = controller.take();
        if !all.ends_with(SIGNAL) {
            late += 1;
            assert!(controller.until(SIGNAL));
            controller.take();
        }
    }
    assert!(late < RARELY, "{late} of 2000");
}

/// Says what no Tor without a network says, to a daemon, and what it is told in between.
fn feed(subscribe: &str, octets: &[u8], size: usize) -> Vec<u8> {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    let option = format!("BusTor unix:{}", place.path("tor").display());
    let _daemon = place.serve().set(&option).ready();
    let (stream, _) = listener.accept().expect("it connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut stream = BufReader::new(stream);
    hear(&mut stream, "PROTOCOLINFO 1");
    say(
        &mut stream,
        b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n",
    );
    say(&mut stream, b"250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n");
    hear(&mut stream, "AUTHENTICATE");
    say(&mut stream, b"250 OK\r\n");
    hear(&mut stream, "GETINFO bus/chain");
    say(&mut stream, b"552 Unrecognized key \"bus/chain\"\r\n");
    let mut fence = String::new();
    stream.read_line(&mut fence).expect("it goes on");
    let fence = fence.trim_end();
    let unknown = format!("510 Unrecognized command \"{fence}\"\r\n");
    say(&mut stream, unknown.as_bytes());
    let mut controller = Wire::at(&place.socket());
    controller.send(format!("SETEVENTS POSTMESSAGE {subscribe}\r\n").as_bytes());
    hear(&mut stream, &format!("SETEVENTS {subscribe}"));
    say(&mut stream, b"250 OK\r\n");
    assert_eq!(controller.line(), "250 OK");
    controller.take();
    for piece in octets.chunks(size) {
        say(&mut stream, piece);
    }
    assert!(controller.until(b"650 BW 4 2\r\n"));
    controller.take()
}

fn hear(stream: &mut BufReader<UnixStream>, expected: &str) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("it goes on");
    assert_eq!(line.trim_end(), expected);
}

fn say(stream: &mut BufReader<UnixStream>, octets: &[u8]) {
    stream.get_mut().write_all(octets).expect("it listens");
}

/// Forms that a Tor without a network never sends, cut anywhere.
#[test]
fn events_of_several_lines_arrive_whole() {
    let wanted: &[u8] = b"650+NS\r\nr a b\r\n..\r\n..dot\r\n650 OK\r\n250 OK\r\n.\r\n650 OK\r\n\
        650+HS_DESC_CONTENT a b c\r\nx\xff\x80\0\r\n650 BW 9 9\r\n.\r\n650 OK\r\n\
        650-CONF_CHANGED\r\n650-ContactInfo=\xe4\r\n650-ORPort\r\n650 OK\r\n\
        650 BW 4 2\r\n";
    let unwanted: &[u8] = b"650 SIGNAL RELOAD\r\n650+NEWCONSENSUS\r\n650 BW 1 1\r\n.\r\n650 OK\r\n\
        650 NO_SUCH_EVENT x\r\n";
    let octets = [unwanted, wanted].concat();
    for size in [octets.len(), 1, 7] {
        let got = feed("BW NS CONF_CHANGED HS_DESC_CONTENT", &octets, size);
        assert_eq!(
            got.escape_ascii().to_string(),
            wanted.escape_ascii().to_string()
        );
    }
}

/// The longest event there is, NEWCONSENSUS, has some megabytes.
#[test]
fn a_very_long_event_arrives_whole() {
    let line = [b"r ", &[b'x'; 200][..], b"\r\n"].concat();
    let body = line.repeat(15_000);
    let event = [
        b"650+NEWCONSENSUS\r\n",
        &body[..],
        b".\r\n650 OK\r\n650 BW 4 2\r\n",
    ]
    .concat();
    let got = feed("BW NEWCONSENSUS", &event, event.len());
    assert!(
        got == event,
        "{} of {} octets: {}",
        got.len(),
        event.len(),
        tail(&got)
    );
}
