//! What one controller causes is bounded, and the others go on: time, places.

mod support;

use std::fs;
use std::io::{ErrorKind, Read as _};

use nix::sys::signal::Signal;
use support::{Controller, Daemon, Place, eventually};

/// How many replies have come that nobody has read yet.
fn replies_by_now(controller: &mut Controller) -> usize {
    let mut stream = controller.stream();
    stream.set_nonblocking(true).expect("it is open");
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).expect_err("it stays open");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("it is open");
    String::from_utf8_lossy(&read).matches("250 OK\r\n").count()
}

#[test]
fn a_turn_ends_by_the_work_that_it_makes() {
    let place = Place::new();
    let long = "# a line\n".repeat(5000);
    let daemon = place.configured(&(long + "BusHistory 7\n")).ready();
    for (command, count) in [
        ("SAVECONF\r\n", 300),
        ("SIGNAL RELOAD\r\n", 300),
        ("+LOADCONF\r\nBusHistory 5\r\n.\r\n", 300),
        ("SETCONF BusHistory=4\r\n", 2000),
        ("RESETCONF BusHistory\r\n", 2000),
    ] {
        let mut senders: Vec<_> = (0..6).map(|_| daemon.connect()).collect();
        let mut other = daemon.connect();
        other.ok("GETINFO version");
        for sender in &mut senders {
            sender.send(command.repeat(count));
        }
        other.ok("GETINFO version");
        let mut done: Vec<_> = senders.iter_mut().map(replies_by_now).collect();
        assert!(
            done.iter().sum::<usize>() < 3 * count,
            "{command}: the other waited for {done:?} of them"
        );
        for (sender, done) in senders.iter_mut().zip(&mut done) {
            while *done < count {
                assert_eq!(sender.reply(), "250 OK", "{command}");
                *done += 1;
            }
        }
    }
}

#[test]
fn work_keeps_the_order_of_the_commands() {
    let place = Place::new();
    let daemon = place.configured("BusHistory 7\n").ready();
    let file = place.path("onionbus.conf");
    let mut controller = daemon.connect();
    controller.send(
        "SETCONF BusHistory=8\r\nSAVECONF\r\nSETCONF BusHistory=9\r\nGETCONF BusHistory\r\n\
         SIGNAL RELOAD\r\nGETCONF BusHistory\r\n+LOADCONF\r\nBusHistory 10\r\n.\r\n\
         GETCONF BusHistory\r\nSAVECONF\r\nSAVECONF FORCE\r\nQUIT\r\n",
    );
    for reply in [
        "250 OK",
        "250 OK",
        "250 OK",
        "250 BusHistory=9",
        "250 OK",
        "250 BusHistory=8",
        "250 OK",
        "250 BusHistory=10",
        "250 OK",
        "250 OK",
        "250 closing connection",
    ] {
        assert_eq!(controller.reply(), reply);
    }
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(text.starts_with("BusHistory 10\n"), "{text}");
    // Nobody reads the replies of this one.
    let mut gone = daemon.connect();
    gone.send("SETCONF BusHistory=11\r\nSAVECONF\r\nSETCONF BusHistory=12\r\nSAVECONF\r\n");
    drop(gone);
    eventually("what the gone one asked is done", || {
        fs::read_to_string(&file).is_ok_and(|text| text.starts_with("BusHistory 12\n"))
    });
}

#[test]
fn a_file_that_is_being_written_is_finished_at_the_end() {
    let place = Place::new();
    let mut daemon = place.configured("BusHistory 7\n").ready();
    let mut controller = daemon.connect();
    controller.ok("SETCONF BusHistory=8");
    controller.send("SAVECONF\r\n");
    daemon.connect().ok("SIGNAL SHUTDOWN");
    assert_eq!(controller.reply(), "250 OK");
    daemon.ends(0);
    let text = fs::read_to_string(place.path("onionbus.conf")).expect("it is there");
    assert!(text.starts_with("BusHistory 8\n"), "{text}");
}

/// A daemon that wants its cookie within a second.
fn impatient(place: &Place) -> Daemon {
    let sockets = format!(
        "BusSocket {}\nBusSocket {} Protocol=tc\n",
        place.socket().display(),
        place.path("tc").display()
    );
    let options = format!("{sockets}BusCookieAuthentication 1\nBusLoginTimeout 1\n");
    place.configured(&options).ready()
}

/// A controller that has proved that it knows the cookie.
fn with_cookie(place: &Place) -> Controller {
    let cookie = fs::read(place.path("state/control_auth_cookie")).expect("it is there");
    let mut controller = Controller::at(&place.socket());
    controller.ok(&format!("AUTHENTICATE {}", hex::encode(cookie)));
    controller
}

#[test]
fn who_does_not_log_in_in_time_is_told_and_closed() {
    let place = Place::new();
    let daemon = impatient(&place);
    let mut logged_in = with_cookie(&place);
    for _ in 0..2 {
        let mut silent = Controller::at(&place.socket());
        let mut begun = Controller::at(&place.socket());
        begun.send("PROTOCOLINFO\r\nAUTHENT");
        let mut frames = Controller::at(&place.path("tc"));
        assert_eq!(silent.rest(), b"514 Authentication required.\r\n");
        let told = String::from_utf8(begun.rest()).expect("ASCII");
        assert!(
            told.ends_with("250 OK\r\n514 Authentication required.\r\n"),
            "{told}"
        );
        let (kind, body) = frames.frame();
        assert_eq!((kind, &body[..2]), (0x0000, &[0, 5][..]));
        assert!(frames.rest().is_empty());
    }
    // More than a second has passed.
    logged_in.ok("GETINFO version");
    daemon.logs("has not logged in in time");
}

#[test]
fn who_has_logged_in_while_the_daemon_stood_still_is_let_in() {
    let (place, clock) = (Place::new(), Place::new());
    let daemon = impatient(&place);
    let _another = impatient(&clock);
    let cookie = fs::read(place.path("state/control_auth_cookie")).expect("it is there");
    let mut silent = Controller::at(&place.socket());
    let mut in_time = Controller::at(&place.socket());
    assert!(in_time.ask("PROTOCOLINFO").ends_with("250 OK"));
    daemon.signal(Signal::SIGSTOP);
    in_time.send(format!("AUTHENTICATE {}\r\n", hex::encode(cookie)));
    // The same time is over there.
    assert!(!Controller::at(&clock.socket()).rest().is_empty());
    daemon.signal(Signal::SIGCONT);
    assert_eq!(in_time.reply(), "250 OK");
    in_time.ok("GETINFO version");
    assert_eq!(silent.rest(), b"514 Authentication required.\r\n");
}

#[test]
fn who_must_log_in_has_less_than_8_kib_for_a_command() {
    let place = Place::new();
    let daemon = impatient(&place);
    let long = " ".repeat(8 << 10);
    let mut stranger = Controller::at(&place.socket());
    stranger.send(&long);
    let told = String::from_utf8(stranger.rest()).expect("ASCII");
    assert!(told.starts_with("500 Line too long."), "{told}");
    let mut stranger = Controller::at(&place.path("tc"));
    stranger.send([&[0xFF, 0xFF, 0, 7][..], long.as_bytes()].concat());
    assert_eq!(stranger.frame().0, 0x0000);
    assert!(stranger.rest().is_empty());
    with_cookie(&place).ok(&format!("GETINFO {long} version"));
    // Where none is needed, there is no such bound.
    drop(daemon);
    let daemon = place.daemon();
    daemon.connect().ok(&format!("GETINFO {long} version"));
}
