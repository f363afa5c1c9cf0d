//! What users of two joined buses see.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::{Bridge, Bus, Nats, Place, has_nats};

const OPTIONS: &[&str] = &["BusHistory 1000"];

/// Two buses, joined.
fn two(place: &Place) -> (Nats, [Bus; 2], [Bridge; 2]) {
    let nats = place.nats("");
    let buses = ["one", "two"].map(|host| place.bus(host, OPTIONS));
    let bridges = ["one", "two"].map(|host| place.bridge(host, &nats.url(), &[]).started());
    (nats, buses, bridges)
}

#[test]
fn controllers_find_and_message_each_other() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [mut first, mut second]) = two(&place);
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    alice.ask("SETEVENTS POSTMESSAGE");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    two.wait_for("alice_at_one", true);

    let text = b" 8 bits \x01\x7F\x80\xFF, blanks at both ends ";
    alice.send(&[b"POSTMESSAGE @bob_at_two ", &text[..], b"\r\n"].concat());
    assert_eq!(alice.reply(), "250 OK");
    assert_eq!(
        bob.message(),
        ("alice_at_one".into(), "@bob".into(), text.to_vec())
    );
    assert_eq!(bob.ask("POSTMESSAGE @alice_at_one back"), "250 OK");
    assert_eq!(
        alice.message(),
        ("bob_at_two".into(), "@alice".into(), b"back".to_vec())
    );

    // To all of the group, once each, in the order of the one to a name; and nothing comes back.
    assert_eq!(alice.ask("POSTMESSAGE @all to everybody"), "250 OK");
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two and then"), "250 OK");
    assert_eq!(alice.message().2, b"to everybody");
    assert_eq!(
        bob.message(),
        (
            "alice_at_one".into(),
            "@all".into(),
            b"to everybody".to_vec()
        )
    );
    assert_eq!(bob.message().2, b"and then");
    assert_eq!(bob.ask("POSTMESSAGE @all heard"), "250 OK");
    assert_eq!(bob.message().2, b"heard");
    assert_eq!(
        alice.message(),
        ("bob_at_two".into(), "@all".into(), b"heard".to_vec())
    );

    // Whoever has no name can be heard too.
    let mut nobody = one.controller("");
    assert_eq!(nobody.ask("POSTMESSAGE @bob_at_two boo"), "250 OK");
    assert_eq!(
        bob.message(),
        ("unset_at_one".into(), "@bob".into(), b"boo".to_vec())
    );

    // Who is not there cannot be posted to, and who goes is gone.
    let gone = "552 Invalid destination controller name";
    assert_eq!(alice.ask("POSTMESSAGE @carol_at_two x"), gone);
    assert_eq!(bob.ask("CONTROLLERNAME robert"), "250 OK");
    one.wait_for("robert_at_two", true);
    one.wait_for("bob_at_two", false);
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two x"), gone);
    drop(bob);
    one.wait_for("robert_at_two", false);

    for bridge in [&mut first, &mut second] {
        let log = bridge.log().text();
        assert!(!log.contains("everybody"), "a text is in the log: {log}");
        assert_eq!(bridge.stop().lost(), 0);
    }
    let list = one.controller("").ask("GETINFO list-controllers");
    let names: BTreeSet<_> = list.lines().collect();
    assert!(!names.contains("bridge_test"), "{list}");
}

#[test]
fn lengths_are_those_of_the_buses_and_of_nats() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let nats = place.nats("max_payload: 100000");
    let one = place.bus("one", &["BusMaxMessageLength 200000"]);
    let two = place.bus("two", &["BusMaxMessageLength 90000"]);
    let mut first = place.bridge("one", &nats.url(), &[]).started();
    let mut second = place.bridge("two", &nats.url(), &[]).started();
    first.log().wait("the bus takes messages of 200000 octets");
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    for (length, arrives) in [(90_000, true), (90_001, false), (100_000, false), (3, true)] {
        let text = "x".repeat(length);
        assert_eq!(
            alice.ask(&format!("POSTMESSAGE @bob_at_two {text}")),
            "250 OK"
        );
        if arrives {
            assert_eq!(bob.message().2, text.as_bytes());
        }
    }
    assert_eq!(first.stop().of("too-long-for-nats"), 1);
    assert_eq!(second.stop().of("too-long"), 1);
}

#[test]
fn a_machine_that_was_away_gets_what_it_missed() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [_first, mut second]) = two(&place);
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    let carol = two.controller("carol");
    one.wait_for("bob_at_two", true);
    one.wait_for("carol_at_two", true);
    second.kill();
    for number in 0..300 {
        assert_eq!(alice.ask(&format!("POSTMESSAGE @all {number}")), "250 OK");
        assert_eq!(
            alice.ask(&format!("POSTMESSAGE @bob_at_two to bob {number}")),
            "250 OK"
        );
    }
    assert_eq!(alice.ask("POSTMESSAGE @carol_at_two too late"), "250 OK");
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two the last"), "250 OK");
    // Both are gone when the bridge comes back: carol for good, alice has said what she has said.
    drop((carol, alice));
    two.wait_for("carol", false);
    second.start();
    for number in 0..300 {
        let text = number.to_string().into_bytes();
        assert_eq!(bob.message(), ("alice_at_one".into(), "@all".into(), text));
        assert_eq!(bob.message().2, format!("to bob {number}").as_bytes());
    }
    assert_eq!(bob.message().2, b"the last");
    two.wait_for("alice_at_one", false);
    assert_eq!(second.stop().of("gone"), 1);
}

#[test]
fn what_was_posted_while_its_own_bridge_was_away_is_sent_later() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [mut first, _second]) = two(&place);
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    assert_eq!(alice.ask("POSTMESSAGE @all before"), "250 OK");
    assert_eq!(bob.message().2, b"before");
    first.kill();
    assert_eq!(alice.ask("POSTMESSAGE @all meanwhile"), "250 OK");
    first.start();
    assert_eq!(
        bob.message(),
        ("alice_at_one".into(), "@all".into(), b"meanwhile".to_vec())
    );

    // More than the history holds is missed, and told.
    first.kill();
    for number in 0..1200 {
        assert_eq!(alice.ask(&format!("POSTMESSAGE @all {number}")), "250 OK");
    }
    first.start();
    let mut next = bob.message().2;
    let begin: u64 = String::from_utf8(next.clone()).unwrap().parse().unwrap();
    for number in begin..1200 {
        assert_eq!(next, number.to_string().as_bytes());
        if number < 1199 {
            next = bob.message().2;
        }
    }
    first.log().wait("which had left the history of the bus");
    // Those that the bridge has sent to itself count too: in three starts, of two connections, twice
    // each at most, since it may have been killed before it had noted them.
    let missed = first.stop().of("missed");
    assert!((begin..=begin + 12).contains(&missed), "{begin} {missed}");
}

#[test]
fn a_dead_host_is_gone_within_ten_seconds() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [_first, mut second]) = two(&place);
    let _bob = two.controller("bob");
    one.wait_for("bob_at_two", true);
    second.kill();
    let took = one.wait_for("bob_at_two", false);
    assert!(took < Duration::from_secs(10), "{took:?}");
    second.start();
    one.wait_for("bob_at_two", true);
}

#[test]
fn a_cut_off_connection_loses_nothing_that_is_not_counted() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let mut nats = place.nats("");
    let one = place.bus("one", &["BusHistory 5"]);
    let two = place.bus("two", OPTIONS);
    let mut first = place.bridge("one", &nats.url(), &[]).started();
    let mut second = place.bridge("two", &nats.url(), &[]).started();
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    let _carol = two.controller("carol");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    one.wait_for("carol_at_two", true);
    two.wait_for("alice_at_one", true);
    nats.kill();
    // Until the bus has cut the connection off.
    let padding = "x".repeat(60_000);
    let accepted = (0..1000).take_while(|number| {
        alice.ask(&format!("POSTMESSAGE @bob_at_two {number} {padding}")) == "250 OK"
    });
    let accepted = accepted.count();
    assert!((300..1000).contains(&accepted), "{accepted}");
    // Without NATS nobody is known to be there; they come again with it.
    one.wait_for("carol_at_two", false);
    two.wait_for("alice_at_one", false);
    nats.start();
    two.wait_for("alice_at_one", true);
    one.wait_for("carol_at_two", true);
    one.wait_for("bob_at_two", true);
    while alice.ask("POSTMESSAGE @bob_at_two end") != "250 OK" {
        one.wait_for("bob_at_two", true);
    }
    let mut arrived = Vec::new();
    loop {
        let text = String::from_utf8(bob.message().2).unwrap();
        if text == "end" {
            break;
        }
        let number: usize = text.split(' ').next().unwrap().parse().unwrap();
        arrived.push(number);
    }
    assert!(arrived.is_sorted_by(|one, next| one < next), "{arrived:?}");
    assert_eq!(arrived.last(), Some(&(accepted - 1)), "the history has it");
    let lost = (accepted - arrived.len()) as u64;
    // Those that the bridge has sent to itself count too.
    let (missed, dropped) = (lost..lost + 8, first.stop());
    assert!(
        lost > 0 && missed.contains(&dropped.of("missed")),
        "{missed:?} of {accepted}:{}",
        dropped.shown()
    );
    assert_eq!(dropped.lost(), dropped.of("missed"));
    assert_eq!(second.stop().lost(), 0);
}

#[test]
fn a_bus_that_starts_again_is_joined_again() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [first, _second]) = two(&place);
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    one.kill();
    one.start();
    first.log().wait("the bus has started again");
    one.wait_for("bob_at_two", true);
    let mut alice = one.controller("alice");
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two again"), "250 OK");
    assert_eq!(bob.message().2, b"again");
}

#[test]
fn a_full_disk_ends_a_bridge_and_loses_nothing() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let (_nats, [one, two], [mut first, mut second]) = two(&place);
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    first.kill();
    first.launch_with_little_room().log.wait("on the bus");
    one.wait_for("bob_at_two", true);
    let lines = (0..200).map(|number| format!("POSTMESSAGE @all {number}\r\n"));
    alice.send(lines.collect::<String>().as_bytes());
    for _ in 0..200 {
        assert_eq!(alice.reply(), "250 OK");
    }
    first.log().wait("one.bridge/notes: File too large");
    assert!(!first.end().success());
    first.start();
    for number in 0..200 {
        assert_eq!(bob.message().2, number.to_string().as_bytes());
    }
    assert_eq!(alice.ask("POSTMESSAGE @all end"), "250 OK");
    assert_eq!(bob.message().2, b"end");
    assert_eq!(first.stop().shown(), " none");
    assert_eq!(second.stop().shown(), " none");
}

#[test]
fn of_two_bridges_with_one_name_the_second_ends() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let nats = place.nats("");
    let _buses = ["one", "two"].map(|host| place.bus(host, OPTIONS));
    let first = place.bridge("one", &nats.url(), &[]).started();
    let mut second = place.bridge("two", &nats.url(), &[]);
    second.set("--host", "one");
    let process = second.launch();
    assert!(!process.end().success());
    process
        .log
        .wait("another bridge of this group calls itself one");
    first.signal(Signal::SIGUSR1);
    first.log().wait("[info] dropped:");
}
