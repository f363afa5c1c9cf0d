//! Attribution: each change is told with who made it, and written down, and no secret is in any of
//! that.

#[path = "../faults/fake.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod fake;
mod log;
#[path = "../policy/people.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod people;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/tor.rs"]
mod tor;

use std::process::Command;
use std::sync::{Arc, Mutex};

use support::{Controller, Place};
use tor::{Home, Pair, has_tor};

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";
const CLIENT: &str = "x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=";

/// The next event without its number and its controller's, which must be these.
#[track_caller]
fn action(watcher: &mut Controller, number: u64, id: u64) -> String {
    let line = watcher.reply();
    let start = format!("650 ACTION {number} ID={id} NAME=");
    let rest = line.strip_prefix(&start);
    rest.unwrap_or_else(|| panic!("{start}: {line}")).to_owned()
}

/// The user and process of whoever tests, as an event names them.
fn me() -> String {
    let uid = nix::unistd::geteuid();
    format!("UID={uid} PID={}", std::process::id())
}

#[test]
fn each_command_that_changes_something_at_tor_is_told_by_its_names() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut watcher = pair.daemon.connect();
    watcher.ok("SETEVENTS ACTION");
    let mut alice = pair.daemon.named("alice");
    let mut number = 0;
    let mut told = |command: &str, args: &str, status: u16| {
        let reply = alice.ask(command);
        assert!(reply.contains(&format!("{status} ")), "{command}: {reply}");
        number += 1;
        let line = action(&mut watcher, number, 2);
        let verb = command.split([' ', '\r']).next().expect("a keyword");
        let verb = verb.trim_start_matches('+').to_ascii_uppercase();
        let service = reply.split("ServiceID=").nth(1);
        let service = service.and_then(|rest| rest.split('\n').next());
        let args = args.replace("{service}", service.unwrap_or_default());
        let me = me();
        assert_eq!(
            line,
            format!("alice {me} COMMAND={verb} ARGS={args} STATUS={status}"),
            "{command}"
        );
        args
    };
    let key = "aGhoaGho".repeat(10) + "aGhoaA==";
    let given = format!("ADD_ONION ED25519-V3:{key} Port=80,8080 Flags=Detach");
    for (command, args, status) in [
        (
            "setconf maxcircuitdirt=700 NumEntryGuards=3",
            "MaxCircuitDirtiness,NumEntryGuards",
            250,
        ),
        ("SETCONF ResolvConf=/nowhere", "ResolvConf", 250),
        ("SETCONF ", "", 250),
        (
            "SETCONF Nickname=x BusHistory=50",
            "Nickname,BusHistory",
            250,
        ),
        ("RESETCONF nickname", "Nickname", 250),
        ("SIGNAL newnym", "NEWNYM", 250),
        ("SIGNAL USR1", "DUMP", 250),
        ("MAPADDRESS a.example=b.example", "a.example", 250),
        (&given, "{service}", 250),
        (&format!("HSFETCH {ONION}"), "", 250),
        (
            &format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT} ClientName=bob"),
            ONION,
            250,
        ),
        (&format!("ONION_CLIENT_AUTH_REMOVE {ONION}"), ONION, 250),
        (&format!("ONION_CLIENT_AUTH_REMOVE {ONION}"), ONION, 251),
        ("RESOLVE host.example", "", 250),
        ("DROPGUARDS", "", 250),
        ("DROPTIMEOUTS", "", 250),
        ("TAKEOWNERSHIP", "", 250),
        ("DROPOWNERSHIP", "", 250),
        ("SAVECONF", "", 250),
    ] {
        told(command, args, status);
    }
    let service = told(
        "ADD_ONION NEW:BEST Port=80,localhost:8080",
        "{service}",
        250,
    );
    assert_eq!(service.len(), ONION.len());
    told(&format!("DEL_ONION {service}"), &service, 250);
    // What was refused or only asked is not told.
    for command in [
        "SETCONF MaxCircuitDirtiness=x",
        "GETINFO version",
        "SETEVENTS",
        "CLOSECIRCUIT 77",
        "SIGNAL NOTHING",
        "FOO",
    ] {
        alice.ask(command);
    }
    alice.ok("SIGNAL HEARTBEAT");
    assert!(action(&mut watcher, 22, 2).contains(" ARGS=HEARTBEAT "));
    let recent = watcher.ask("GETINFO recent-actions");
    assert_eq!(
        recent
            .lines()
            .filter(|line| line.starts_with("650 ACTION "))
            .count(),
        22
    );
}

#[test]
fn the_bus_tells_of_its_own_and_it_follows_the_reply_in_each_dialect() {
    let place = Place::new();
    let daemon = place.configured("BusHistory 3\n").ready();
    let mut alice = daemon.named("alice");
    alice.ok("SETEVENTS ACTION CONF_CHANGED");
    let me = me();
    let line = |number, args, command, id, name| {
        format!(
            "650 ACTION {number} ID={id} NAME={name} {me} COMMAND={command} ARGS={args} STATUS=250"
        )
    };
    alice.send("SETCONF bushistory=2\r\nSIGNAL BUSRELOAD\r\nTAKEOWNERSHIP\r\nDROPOWNERSHIP\r\n");
    let said: Vec<_> = (0..10).map(|_| alice.reply()).collect();
    let after = |reply: usize, text: &str| {
        let place = said.iter().position(|line| line == text);
        assert!(
            place.is_some_and(|place| place > reply),
            "{text}: {said:#?}"
        );
    };
    assert_eq!(said[0], "250 OK");
    for (number, args, command) in [
        (1, "BusHistory", "SETCONF"),
        (2, "BUSRELOAD", "SIGNAL"),
        (3, "", "TAKEOWNERSHIP"),
        (4, "", "DROPOWNERSHIP"),
    ] {
        after(0, &line(number, args, command, 1, "alice"));
    }
    let mut frames = daemon.connect();
    frames.send_frame(0x0002, b"BusHistory\x002\0");
    assert_eq!(frames.frame().0, 0x0001);
    assert_eq!(alice.reply(), "650-CONF_CHANGED\n650-BusHistory=2\n650 OK");
    assert_eq!(alice.reply(), line(5, "BusHistory", "SETCONF", 2, "unset"));
    let recent = alice.ask("GETINFO recent-actions");
    let expected = [
        line(4, "", "DROPOWNERSHIP", 1, "alice"),
        line(5, "BusHistory", "SETCONF", 2, "unset"),
    ];
    assert_eq!(
        recent,
        format!("250+recent-actions=\n{}\n.\n250 OK", expected.join("\n"))
    );
    alice.ok("SETCONF BusHistory=0");
    alice.reply();
    alice.reply();
    assert_eq!(alice.info("recent-actions"), "");
}

#[test]
fn frames_of_the_last_version_are_told_as_the_commands_they_become() {
    let Some((home, _tor)) = home() else { return };
    let place = Place::new();
    let v0 = place.path("v0");
    let options = format!(
        "BusSocket {}\nBusSocket {} Protocol=v0\nBusTor {}\n",
        place.socket().display(),
        v0.display(),
        home.address()
    );
    let daemon = place.configured(&options).ready();
    tor::is_connected(&daemon);
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS ACTION");
    let mut old = Controller::at(&v0);
    let me = me();
    for (number, kind, body, told) in [
        (
            1,
            0x0002,
            &b"maxcircuitdirt 700\nBusHistory 5\n"[..],
            "SETCONF ARGS=MaxCircuitDirtiness,BusHistory",
        ),
        (2, 0x0009, b"\x0A", "SIGNAL ARGS=DUMP"),
        (
            3,
            0x000A,
            b"a.example b.example\n",
            "MAPADDRESS ARGS=a.example",
        ),
        (4, 0x0008, b"", "SAVECONF ARGS="),
    ] {
        old.send_frame(kind, body);
        assert_eq!(old.frame().0, 0x0001, "{told}");
        let line = format!("unset {me} COMMAND={told} STATUS=250");
        assert_eq!(action(&mut watcher, number, 2), line);
    }
    // A circuit that there is not.
    old.send_frame(0x0014, b"\0\0\0\x07\0");
    assert_eq!(old.frame().0, 0x0000);
    watcher.ok("SIGNAL HEARTBEAT");
    assert!(action(&mut watcher, 5, 1).contains(" ARGS=HEARTBEAT "));
}

#[test]
fn what_the_keeper_does_for_a_controller_is_the_controllers() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut watcher = pair.daemon.connect();
    watcher.ok("SETEVENTS ACTION");
    let mut alice = pair.daemon.named("alice");
    let made = alice.ask("ADD_ONION NEW:BEST Port=80,8080");
    let service = made
        .split("ServiceID=")
        .nth(1)
        .and_then(|rest| rest.split('\n').next());
    let service = service.unwrap_or_else(|| panic!("{made}"));
    let me = me();
    let line =
        |command: &str, args: &str| format!("alice {me} COMMAND={command} ARGS={args} STATUS=250");
    assert_eq!(action(&mut watcher, 1, 2), line("ADD_ONION", service));
    alice.ok(&format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT}"));
    assert_eq!(
        action(&mut watcher, 2, 2),
        line("ONION_CLIENT_AUTH_ADD", ONION)
    );
    alice.ok("SETCONF MaxCircuitDirtiness=700");
    assert_eq!(
        action(&mut watcher, 3, 2),
        line("SETCONF", "MaxCircuitDirtiness")
    );
    alice.ask("MAPADDRESS a.example=b.example");
    assert_eq!(action(&mut watcher, 4, 2), line("MAPADDRESS", "a.example"));
    alice.ok(&format!("DEL_ONION {service}"));
    assert_eq!(action(&mut watcher, 5, 2), line("DEL_ONION", service));
    assert!(
        alice
            .ask(&format!("DEL_ONION {service}"))
            .starts_with("552 ")
    );
    alice.ok("SIGNAL DUMP");
    assert_eq!(action(&mut watcher, 6, 2), line("SIGNAL", "DUMP"));
    // Whoever leaves has done it all the same.
    let mut bob = pair.daemon.connect();
    bob.send("ADD_ONION NEW:BEST Port=80 Flags=Detach\r\nSIGNAL DUMP\r\n");
    drop(bob);
    let told = action(&mut watcher, 7, 3);
    assert!(told.contains(" COMMAND=ADD_ONION ARGS="), "{told}");
    assert!(action(&mut watcher, 8, 3).contains(" COMMAND=SIGNAL ARGS=DUMP "));
}

#[test]
fn what_nobody_on_the_bus_explains_came_from_outside() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut watcher = pair.daemon.connect();
    let mut direct = Controller::at(&pair.home.socket());
    direct.ok("AUTHENTICATE");
    direct.ok("SETCONF ContactInfo=before");
    watcher.ok("SETEVENTS ACTION");
    let outside = |number: u64, command, args| {
        format!(
            "650 ACTION {number} ID=0 NAME=outside UID= PID= COMMAND={command} ARGS={args} STATUS="
        )
    };
    direct.ok("SETCONF MaxCircuitDirtiness=700 NumEntryGuards=4");
    assert_eq!(
        watcher.reply(),
        outside(1, "CONF_CHANGED", "MaxCircuitDirtiness,NumEntryGuards")
    );
    direct.ok("SIGNAL CLEARDNSCACHE");
    assert_eq!(watcher.reply(), outside(2, "SIGNAL", "CLEARDNSCACHE"));
    // What comes of commands through the bus is told once.
    let mut alice = pair.daemon.connect();
    for (number, command) in [
        (3, "SETCONF MaxCircuitDirt=800"),
        (
            4,
            "SETCONF HashedControlPassword=\"16:872860B76453A77D60CA2BB8C1A7042072093276A3D701AD684053EC4C\"",
        ),
        (5, "SETCONF ResolvConf=/nowhere"),
        (6, "SIGNAL CLEARDNSCACHE"),
        (7, "SIGNAL RELOAD"),
    ] {
        alice.ok(command);
        let line = watcher.reply();
        assert!(
            line.starts_with(&format!("650 ACTION {number} ID=2 ")),
            "{line}"
        );
    }
    // An event that Tor sends behind all of these.
    watcher.ok("SETEVENTS ACTION SIGNAL");
    alice.ok("SIGNAL DUMP");
    let mut line = watcher.reply();
    while line.starts_with("650 SIGNAL") {
        line = watcher.reply();
    }
    assert!(line.starts_with("650 ACTION 8 ID=2 "), "{line}");
}

#[test]
fn a_signal_to_the_daemon_came_from_outside() {
    let place = Place::new();
    let mut daemon = place.configured("BusHistory 100\n").ready();
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS ACTION");
    place.file("onionbus.conf", "BusHistory 50\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.notified("RELOADING=1");
    let outside = "ID=0 NAME=outside UID= PID= COMMAND=";
    assert_eq!(
        watcher.reply(),
        format!("650 ACTION 1 {outside}SIGNAL ARGS=RELOAD STATUS=")
    );
    assert_eq!(
        watcher.reply(),
        format!("650 ACTION 2 {outside}CONF_CHANGED ARGS=BusHistory STATUS=")
    );
}

#[test]
fn with_nobody_who_wants_to_know_nothing_is_told() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusHistory 0"]);
    let mut alice = pair.daemon.connect();
    alice.ok("SETCONF MaxCircuitDirtiness=700");
    alice.ok("SETEVENTS ACTION");
    alice.ok("SETCONF MaxCircuitDirtiness=800");
    assert!(action(&mut alice, 1, 1).starts_with("unset "));
    assert_eq!(alice.info("recent-actions"), "");
}

#[test]
fn tor_gets_commands_as_they_came_and_is_asked_for_events_only_while_they_are_needed() {
    let place = Place::new();
    let path = place.path("tor");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let fake = fake::Fake::at(&path, move |_, command| {
        all.lock().expect("no panic").push(command.to_owned());
        None
    });
    let daemon = place
        .serve()
        .set(&format!("BusTor unix:{}", path.display()))
        .ready();
    tor::is_connected(&daemon);
    let mut alice = daemon.connect();
    let odd = "sEtCoNf   nickname=\"x\\x20\"  ContactInfo";
    alice.ok(odd);
    alice.ok("SIGNAL newnym");
    let heard = heard.lock().expect("no panic").clone();
    assert!(heard.contains(&odd.to_owned()) && heard.contains(&"SIGNAL newnym".to_owned()));
    let is_asked =
        |command: &String| command.starts_with("SETEVENTS") || command.contains("config/names");
    assert!(!heard.iter().any(is_asked), "{heard:?}");
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS ACTION");
    fake.hears("GETINFO config/names");
    fake.hears("SETEVENTS SIGNAL CONF_CHANGED");
    alice.ok("SIGNAL newnym");
    assert!(watcher.reply().starts_with("650 ACTION 3 "));
    watcher.ok("SETEVENTS");
    fake.hears("SETEVENTS");
}

#[test]
fn the_program_prints_actions() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut alice = daemon.named("alice");
    alice.ok("SETCONF BusHistory=20");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
        command.arg("--socket").arg(place.socket()).args(arguments);
        command
    };
    let me = me();
    let line =
        format!("650 ACTION 1 ID=1 NAME=alice {me} COMMAND=SETCONF ARGS=BusHistory STATUS=250\n");
    assert_eq!(support::run(&mut run(&["actions"])), line);
    let mut following = run(&["actions", "--follow"]);
    let mut child = following
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    let mut next = || lines.next().expect("a line").expect("text") + "\n";
    assert_eq!(next(), line);
    alice.ok("SIGNAL HEARTBEAT");
    assert!(next().contains(" COMMAND=SIGNAL ARGS=HEARTBEAT "));
    child.kill().expect("it runs");
    child.wait().expect("it ran");
}

/// A Tor and a home for it, for tests that need another daemon than [`Pair`]'s.
fn home() -> Option<(Home, tor::Tor)> {
    let home = has_tor().then(Home::new)?;
    let tor = home.start();
    Some((home, tor))
}
