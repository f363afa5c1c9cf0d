//! A Tor that is away, silent or slow, and what is asked of it meanwhile.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::restarts::{CLIENT, keys};
use super::*;

/// The restarts in a row.
const ROUNDS: usize = 40;

/// The resident memory in KiB and the descriptors of a daemon.
fn holds(daemon: &support::Daemon) -> (u64, usize) {
    let directory = format!("/proc/{}/fd", daemon.pid());
    let descriptors = std::fs::read_dir(directory).expect("it runs").count();
    (daemon.memory(), descriptors)
}

#[test]
fn many_restarts_in_a_row_leave_everything_and_let_nothing_grow() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&["BusKeepOnions 600", "BusKeepControllers 1"]);
    let mut owner = pair.daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    owner.ok(&format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT}"));
    assert_eq!(owner.ask("MAPADDRESS a.test=b.test"), "250 a.test=b.test");
    owner.ok("SETEVENTS TOR RESTORE");
    let mut first = None;
    for round in 0..ROUNDS {
        pair.tor.kill();
        pair.tor = pair.home.start();
        for expected in [
            "650 TOR DOWN",
            "650 TOR UP",
            "650 RESTORE MAP a.test OK",
            &format!("650 RESTORE CLIENTAUTH {ONION} OK"),
            &format!("650 RESTORE ONION {ONION} OK"),
            "650 RESTORE DONE KEPT=3 FAILED=0",
        ] {
            assert_eq!(owner.line(), expected, "{round}");
        }
        // What it takes at first, it has by then.
        if round == ROUNDS / 2 {
            first = Some(holds(&pair.daemon));
        }
    }
    assert!(tor_has(&pair.home));
    assert!(keys(&pair.home).contains(CLIENT));
    assert_eq!(lists(&mut owner).0, [ONION]);
    let (memory, descriptors) = first.expect("there were some");
    let (memory_now, descriptors_now) = holds(&pair.daemon);
    assert!(memory_now <= memory + 256, "{memory} and {memory_now} KiB");
    // The owner has a connection to Tor since it has asked for its list.
    assert!(descriptors_now <= descriptors + 2, "{descriptors_now}");
}

#[test]
fn nobody_waits_for_a_tor_that_is_away() {
    if !has_tor() || !has_people() {
        return;
    }
    let mut scene = Scene::with("BusKeepOnions 600\nBusKeepControllers 1");
    let (mut alice, mut bob) = (scene.user(ALICE), scene.user(BOB));
    let away = |controller: &mut Controller| {
        for command in [
            &add("Port=80"),
            "ADD_ONION NEW:BEST Port=80",
            &format!("DEL_ONION {ONION}"),
        ] {
            let reply = controller.ask(command);
            assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
        }
    };
    for is_kept in [false, true] {
        if is_kept {
            assert_eq!(alice.ask(&add("Port=80")), MADE);
        }
        alice.ok("SETEVENTS TOR");
        scene.tor.kill();
        assert_eq!(alice.line(), "650 TOR DOWN");
        away(&mut alice);
        away(&mut bob);
        scene.tor = scene.home.start();
        assert_eq!(alice.line(), "650 TOR UP");
    }
    assert_eq!(bob.ask(&add("Port=80")), COLLIDES);
    assert_eq!(lists(&mut alice).0, [ONION]);
}

#[test]
fn a_key_that_is_removed_right_behind_a_change_stays_removed() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut owner = pair.daemon.connect();
    let add = format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT}\r\n");
    let remove = format!("ONION_CLIENT_AUTH_REMOVE {ONION}\r\n");
    for round in 0..20 {
        // Before anything of it is answered.
        owner.send(format!("{add}SETCONF NumEntryGuards=3\r\n"));
        assert_eq!(owner.reply(), "250 OK");
        assert_eq!(owner.reply(), "250 OK");
        eventually("it is there again", || keys(&pair.home).contains(CLIENT));
        owner.send(format!("SETCONF NumEntryGuards=3\r\n{remove}"));
        assert_eq!(owner.reply(), "250 OK");
        let removed = owner.reply();
        assert!(
            removed.starts_with("25"),
            "the change has dropped it: {removed}"
        );
        // The bus has heard of it, and sends Tor nothing about it after this.
        owner.ok("GETINFO onions/current");
        eventually("it is gone", || !keys(&pair.home).contains(CLIENT));
        owner.ok("SETCONF NumEntryGuards=3");
        assert!(!keys(&pair.home).contains(CLIENT), "{round}");
    }
}

#[test]
fn commands_of_who_is_gone_are_carried_out_in_their_order() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut other = pair.daemon.connect();
    for _ in 0..10 {
        let mut owner = pair.daemon.connect();
        let made = add("Port=80 Flags=Detach");
        owner.send(format!("{made}\r\nDEL_ONION {ONION}\r\n"));
        drop(owner);
        // Whoever comes later finds nothing of it.
        eventually("both are done", || {
            other.info("kept-onions").is_empty() && !tor_has(&pair.home)
        });
    }
    // More than one user may have.
    let mut owner = pair.daemon.connect();
    owner.send("ADD_ONION NEW:BEST Port=80 Flags=Detach\r\n".repeat(300));
    drop(owner);
    eventually("as many as one may have", || {
        other.ask("GETINFO kept-onions").matches("STATE=").count() == 32
    });
    assert_eq!(
        other.ask("ADD_ONION NEW:BEST Port=80"),
        "551 Too many onion services of this user"
    );
}

#[test]
fn a_silent_tor_is_waited_for_only_so_long() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&[
        "BusKeepOnions 600",
        "BusKeepControllers 1",
        "BusTorTimeout 1",
    ]);
    let pid = Pid::from_raw(pair.tor.pid().cast_signed());
    let mut owner = pair.daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    kill(pid, Signal::SIGSTOP).unwrap();
    let reply = owner.ask("ADD_ONION NEW:BEST Port=80");
    assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
    kill(pid, Signal::SIGCONT).unwrap();
    eventually("it is there again", || {
        let kept = owner.ask("GETINFO kept-onions");
        kept.contains(&format!("{ONION} ")) && kept.contains(" STATE=THERE ")
    });
    assert!(tor_has(&pair.home));
    assert_eq!(lists(&mut owner).0, [ONION]);
    // One that comes and says nothing is none.
    pair.tor.kill();
    pair.tor = pair.home.start();
    let pid = Pid::from_raw(pair.tor.pid().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut reply = owner.ask(&add("Port=80"));
    if reply == COLLIDES {
        // It was quicker.
        reply = owner.ask("ADD_ONION NEW:BEST Port=80");
    }
    assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
}

#[test]
fn what_is_kept_can_be_taken_up_after_keeping_has_ended() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut owner = pair.daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    drop(owner);
    let mut owner = pair.daemon.connect();
    eventually("it waits", || lists(&mut owner).1 == [ONION]);
    owner.ok("SETCONF BusKeepOnions=0");
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    drop(owner);
    eventually("it ends as Tor's do", || !tor_has(&pair.home));
}
