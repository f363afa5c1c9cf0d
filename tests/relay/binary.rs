//! Binary controllers and Tor: what they ask becomes Tor's, and its answer theirs, each in its
//! place.

use std::io::Write;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onionbus::wire::binary::{Fragments, Gathered, kind};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::{Controller, Daemon, Place, eventually, frame};
use crate::tor::{Home, Tor, has_tor, is_connected};
use crate::wire::Wire;

/// A Tor, and a daemon in front of it with a socket for the last binary protocol.
struct Trio {
    daemon: Daemon,
    tor: Tor,
    home: Home,
    place: Place,
}

impl Trio {
    fn start(option: &str) -> Self {
        let home = Home::new();
        let tor = home.start();
        let place = Place::new();
        let (text, v0) = (place.socket(), place.path("v0"));
        let (text, v0) = (text.display(), v0.display());
        let options = format!(
            "BusSocket {text}\nBusSocket {v0} Protocol=v0\nBusTor {}\n{option}\n",
            home.address()
        );
        let daemon = place.configured(&options).ready();
        is_connected(&daemon);
        Self {
            daemon,
            tor,
            home,
            place,
        }
    }

    fn v0(&self) -> Controller {
        Controller::at(&self.place.path("v0"))
    }
}

fn error(code: u16, text: &str) -> Vec<u8> {
    frame(
        kind::ERROR,
        &[&code.to_be_bytes()[..], text.as_bytes()].concat(),
    )
}

fn done() -> Vec<u8> {
    frame(kind::DONE, b"")
}

/// Requests, and what must be the answers.
type Known = (Vec<u8>, Vec<u8>);

fn any_known() -> impl Strategy<Value = Known> {
    any::<u16>().prop_flat_map(|n| {
        let history = n % 100;
        let key = format!("none/{n}");
        let lines = format!("BusHistory {history}\nContactInfo {n}\n");
        let contact = format!("ContactInfo {n}");
        let (head, rest) = contact.as_bytes().split_at(5);
        let total = u32::try_from(contact.len()).unwrap().to_be_bytes();
        let first = [&kind::SETCONF.to_be_bytes()[..], &total, head].concat();
        let conf = format!("{contact}\n");
        let info = b"new-messages\0\0accounting/enabled\x000\0";
        let circuit = [&u32::from(n).to_be_bytes()[..], &[1]].concat();
        prop_oneof![
            Just((
                frame(kind::GETINFO, key.as_bytes()),
                error(4, &format!("Unrecognized key \"{key}\""))
            )),
            Just((
                [
                    frame(kind::SETCONF, contact.as_bytes()),
                    frame(kind::GETCONF, b"ContactInfo")
                ]
                .concat(),
                [done(), frame(kind::CONFVALUE, conf.as_bytes())].concat(),
            )),
            Just((
                [
                    frame(kind::FRAGMENTHEADER, &first),
                    frame(kind::FRAGMENT, rest),
                    frame(kind::GETCONF, b"ContactInfo\n")
                ]
                .concat(),
                [done(), frame(kind::CONFVALUE, conf.as_bytes())].concat(),
            )),
            Just((
                [
                    frame(kind::SETCONF, lines.as_bytes()),
                    frame(kind::GETCONF, b"BusHistory\nContactInfo\n")
                ]
                .concat(),
                [done(), frame(kind::CONFVALUE, lines.as_bytes())].concat(),
            )),
            Just((
                frame(kind::SETCONF, b"ORPort x\n"),
                error(5, "Unacceptable option value: Invalid ORPort configuration")
            )),
            Just((
                frame(kind::GETINFO, b"new-messages\naccounting/enabled\n"),
                frame(kind::INFOVALUE, info)
            )),
            Just((
                frame(kind::CLOSECIRCUIT, &circuit),
                error(0xB, &format!("Unknown circuit \"{n}\""))
            )),
            Just((
                frame(kind::GETCONF, b"BusMaxQueue"),
                frame(kind::CONFVALUE, b"BusMaxQueue 16777216\n")
            )),
            Just((
                frame(0xF00E, b"x"),
                error(2, "Unrecognized message type 0xF00E")
            )),
            Just((
                frame(kind::POSTMESSAGE, b"nobody\0x\0"),
                error(0xF002, "Invalid destination controller name")
            )),
            Just((
                [
                    frame(kind::SETEVENTS, b"\0\x01"),
                    frame(kind::SETEVENTS, b"")
                ]
                .concat(),
                [done(), done()].concat(),
            )),
        ]
    })
}

#[test]
fn binary_replies_stand_in_the_order_of_the_requests() {
    if !has_tor() {
        return;
    }
    let trio = Trio::start("");
    let strategy = (vec(any_known(), 1..40), vec(1..500_usize, 0..6));
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let told = TestRunner::new(config).run(&strategy, |(all, cuts)| {
        let (requests, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let (requests, expected) = (requests.concat(), expected.concat());
        let mut controller = trio.v0();
        let mut rest = &requests[..];
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            controller.send(piece);
            rest = others;
        }
        controller.send(rest);
        let mut got = vec![0; expected.len()];
        controller.read_exact(&mut got);
        if got == expected {
            return Ok(());
        }
        let (got, expected) = (got.escape_ascii(), expected.escape_ascii());
        Err(TestCaseError::fail(format!("{got}\nis not\n{expected}")))
    });
    told.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_value_over_65535_octets_comes_whole() {
    if !has_tor() {
        return;
    }
    let trio = Trio::start("");
    let mut direct = Wire::at(&trio.home.socket());
    direct.ask("AUTHENTICATE");
    let one = direct.ask("GETINFO features/names");
    let one = one
        .strip_prefix("250-features/names=")
        .and_then(|said| said.strip_suffix("\r\n250 OK\r\n"))
        .expect("one line");
    let mut controller = trio.v0();
    let keys = "features/names\n".repeat(999);
    controller.send_frame(kind::GETINFO, keys.as_bytes());
    let (of_kind, body) = controller.frame();
    assert_eq!(of_kind, kind::INFOVALUE);
    assert_eq!(
        body,
        format!("features/names\0{one}\0").repeat(999).as_bytes()
    );

    let defaults = direct.ask("GETINFO config/defaults");
    let keys = "config/defaults\n".repeat(12);
    controller.send_frame(kind::GETINFO, keys.as_bytes());
    let mut octets = Vec::new();
    let body = loop {
        let (kind, body) = controller.frame();
        octets.extend_from_slice(&frame(kind, &body));
        match Fragments::default().next(&octets) {
            Gathered::Message { kind, body, .. } => {
                assert_eq!(kind, kind::INFOVALUE);
                break body;
            }
            Gathered::Incomplete => {}
            other => panic!("{other:?}"),
        }
    };
    let lines = defaults.lines().filter(|line| line.contains(' ')).count() - 1;
    assert!(body.len() > 65535, "{}", body.len());
    assert_eq!(memchr::memchr_iter(0, &body).count(), 24);
    let newlines = memchr::memchr_iter(b'\n', &body).count();
    assert!(newlines >= 12 * lines, "{newlines} of 12 * {lines}");
}

/// Stops Tor and waits until a request is with it.
fn ask_a_stopped_tor(trio: &Trio, controller: &mut Controller) {
    // Its connection to Tor is there by now.
    controller.send_frame(kind::GETINFO, b"accounting/enabled");
    controller.frame();
    let pid = Pid::from_raw(trio.tor.pid().try_into().expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("it is our child");
    controller.send_frame(kind::GETINFO, b"accounting/enabled");
    // The bus answers others: it has had its turn by then.
    trio.daemon.connect().ask("GETINFO list-controllers");
}

#[test]
fn tor_goes_while_a_binary_controller_waits_and_it_is_closed() {
    if !has_tor() {
        return;
    }
    let mut trio = Trio::start("");
    let mut controller = trio.v0();
    ask_a_stopped_tor(&trio, &mut controller);
    trio.tor.kill();
    assert_eq!(controller.rest(), b"");
}

#[test]
fn tor_goes_while_a_binary_controller_waits_and_it_is_told() {
    if !has_tor() {
        return;
    }
    let mut trio = Trio::start("BusKeepControllers 1");
    let mut controller = trio.v0();
    ask_a_stopped_tor(&trio, &mut controller);
    trio.tor.kill();
    let (of_kind, body) = controller.frame();
    assert_eq!(
        (of_kind, &body[..2]),
        (kind::ERROR, &[0, 1][..]),
        "{body:?}"
    );
    // And the next one, once there is a Tor again.
    trio.tor = trio.home.start();
    eventually("Tor answers again", || {
        controller.send_frame(kind::GETINFO, b"accounting/enabled");
        controller.frame().0 == kind::INFOVALUE
    });
}

#[test]
fn a_binary_controller_that_leaves_leaves_nothing_at_tor() {
    if !has_tor() {
        return;
    }
    let trio = Trio::start("");
    let before = trio.tor.descriptors();
    for _ in 0..20 {
        let mut controller = trio.v0();
        let requests = frame(kind::GETINFO, b"config-text").repeat(30);
        controller.stream().write_all(&requests).expect("it reads");
        controller.frame();
    }
    eventually("only the daemon's own connections are left", || {
        trio.tor.descriptors() <= before + 1
    });
}
