//! A Tor that ends and comes again, in every way.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// The key of a client, and the service that it is for.
pub const CLIENT: &str = "x25519:aPDX0zMYPlkNGdC+Zxnvl1T3pFmqVRdnTRBSJCMkvEg=";

/// Waits for the event that says so, and takes no notice of others.
fn hears(controller: &mut Controller, event: &str) {
    while controller.line() != event {}
}

pub fn keys(home: &Home) -> String {
    let mut tor = Controller::at(&home.socket());
    tor.ok("AUTHENTICATE");
    tor.ask("ONION_CLIENT_AUTH_VIEW")
}

#[test]
fn everything_is_there_before_the_first_command() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&["BusKeepOnions 600", "BusKeepControllers 1"]);
    let mut owner = pair.daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    owner.ok(&format!(
        "ONION_CLIENT_AUTH_ADD {ONION} {CLIENT} ClientName=me"
    ));
    let chosen = owner.ask("MAPADDRESS 0.0.0.0=torproject.org");
    let chosen = chosen["250 ".len()..].split('=').next().unwrap().to_owned();
    owner.ok("SETEVENTS TOR RESTORE");
    for round in 0..5 {
        match round % 3 {
            0 => pair.tor.kill(),
            1 => {
                kill(Pid::from_raw(pair.tor.pid().cast_signed()), Signal::SIGTERM).unwrap();
                pair.tor.ends();
            }
            _ => {
                let mut tor = Controller::at(&pair.home.socket());
                tor.ok("AUTHENTICATE");
                tor.send("SIGNAL HALT\r\n");
                pair.tor.ends();
            }
        }
        hears(&mut owner, "650 TOR DOWN");
        let away = owner.ask("GETINFO version status/circuit-established");
        assert!(away.starts_with("551 Tor is not reachable: "), "{away}");
        let away = owner.ask(&add("Port=80"));
        assert!(away.starts_with("551 Tor is not reachable: "), "{away}");
        pair.tor = pair.home.start();
        // Whatever comes first finds everything.
        let mut reply = owner.ask("ONION_CLIENT_AUTH_VIEW");
        while !reply.starts_with("250-") {
            if !reply.starts_with("650 ") {
                assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
                owner.send("ONION_CLIENT_AUTH_VIEW\r\n");
            }
            reply = owner.reply();
        }
        assert!(
            reply.contains(&format!("\n250-CLIENT {ONION} {CLIENT} ClientName=me\n")),
            "{reply}"
        );
        let mapped = owner.ask("GETINFO address-mappings/control");
        assert!(
            mapped.contains(&format!("{chosen} torproject.org")),
            "{mapped}"
        );
        assert!(tor_has(&pair.home));
        assert_eq!(lists(&mut owner), (vec![ONION.to_owned()], Vec::new()));
    }
}

#[test]
fn it_is_told_whose_is_there_again() {
    if !has_tor() || !has_people() {
        return;
    }
    let mut scene = Scene::with("BusKeepOnions 600\nBusKeepControllers 1");
    let (mut alice, mut bob) = (scene.user(ALICE), scene.user(BOB));
    assert_eq!(alice.ask(&add("Port=80")), MADE);
    assert_eq!(
        alice.ask("MAPADDRESS a.example=b.example"),
        "250 a.example=b.example"
    );
    for controller in [&mut alice, &mut bob] {
        controller.ok("SETEVENTS TOR RESTORE");
    }
    scene.tor.kill();
    for controller in [&mut alice, &mut bob] {
        assert_eq!(controller.line(), "650 TOR DOWN");
    }
    // Somebody takes what is hers before the bus is there.
    let tor = scene.home.start();
    for expected in [
        "650 TOR UP",
        "650 RESTORE MAP a.example OK",
        &format!("650 RESTORE ONION {ONION} OK"),
        "650 RESTORE DONE KEPT=2 FAILED=0",
    ] {
        assert_eq!(alice.line(), expected);
    }
    assert_eq!(bob.line(), "650 TOR UP");
    bob.ok("SETEVENTS");
    drop(tor);
}

#[test]
fn without_keeping_controllers_they_come_again_and_find_their_services() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&["BusKeepOnions 600"]);
    let mut owner = pair.daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    pair.tor.kill();
    assert_eq!(owner.rest(), b"", "it used Tor");
    pair.tor = pair.home.start();
    let mut owner = pair.daemon.connect();
    let mut reply = owner.ask(&add("Port=80"));
    while reply.starts_with("551 Tor is not reachable: ") {
        reply = owner.ask(&add("Port=80"));
    }
    assert_eq!(reply, MADE);
    assert_eq!(lists(&mut owner).0, [ONION]);
}

#[test]
fn what_deletes_keys_silently_does_not() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut owner = pair.daemon.connect();
    owner.ok(&format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT}"));
    let mut other = pair.daemon.connect();
    for command in [
        "SETCONF MaxCircuitDirtiness=1200",
        "SETCONF MaxCircuitDirtiness=1200",
        "RESETCONF MaxCircuitDirtiness",
        "SETCONF ",
        "SIGNAL RELOAD",
    ] {
        other.ok(command);
        eventually(command, || keys(&pair.home).contains(CLIENT));
    }
    // A change from outside the bus shows by an event.
    let mut tor = Controller::at(&pair.home.socket());
    tor.ok("AUTHENTICATE");
    tor.ok("SETCONF NumEntryGuards=3");
    eventually("outside", || keys(&pair.home).contains(CLIENT));
    // What is removed stays removed.
    other.ok(&format!("ONION_CLIENT_AUTH_REMOVE {ONION}"));
    other.ok("SETCONF NumEntryGuards=4");
    assert!(!keys(&pair.home).contains(CLIENT));
}

#[test]
fn the_keepers_connection_alone_is_made_anew() {
    if !has_tor() || !support::is_root() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut owner = pair.daemon.connect();
    owner.ok("SETEVENTS TOR RESTORE");
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    // The newest connection to Tor is the keeper's.
    let begun = Instant::now();
    let ended = end_newest_link(&pair);
    assert!(ended, "a descriptor of the daemon's");
    eventually("it is there again", || tor_has(&pair.home));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(owner.ask(&add("Port=80")), COLLIDES);
    assert_eq!(lists(&mut owner).0, [ONION]);
}

/// Ends the daemon's newest connection to Tor, with a descriptor of it that root can have.
fn end_newest_link(pair: &Pair) -> bool {
    let script = "import ctypes, os, socket, sys\n\
        pid = int(sys.argv[1])\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        own = libc.syscall(434, pid, 0)\n\
        names = {n: os.readlink(f'/proc/{pid}/fd/{n}') for n in os.listdir(f'/proc/{pid}/fd')}\n\
        sockets = sorted(int(n) for n, to in names.items() if to.startswith('socket:'))\n\
        for n in reversed(sockets):\n\
        \x20   fd = libc.syscall(438, own, n, 0)\n\
        \x20   s = socket.socket(fileno=fd)\n\
        \x20   try:\n\
        \x20       if s.getpeername() == sys.argv[2]:\n\
        \x20           s.shutdown(socket.SHUT_RDWR); print('ended'); break\n\
        \x20   except OSError: pass\n";
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", script])
        .arg(pair.daemon.pid().to_string())
        .arg(pair.home.socket());
    support::run(&mut command).contains("ended")
}
