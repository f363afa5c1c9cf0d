//! Leases on options: who holds them, what others may do, and what is set back when.

use std::time::{Duration, Instant};

use super::*;

const LEASE: &str = "BusLease __LeaveStreamsUnattached __DisablePredictedCircuits DisableNetwork";

/// Tor's value, past the bus.
fn value(home: &Home, option: &str) -> String {
    let mut tor = Controller::at(&home.socket());
    tor.ok("AUTHENTICATE");
    let reply = tor.ask(&format!("GETCONF {option}"));
    reply.trim_start_matches("250 ").to_owned()
}

#[test]
fn a_holder_has_an_option_until_it_is_as_before() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&[LEASE]);
    let mut watch = pair.daemon.connect();
    watch.ok("SETEVENTS LEASE");
    let mut holder = pair.daemon.named("holder");
    let mut other = pair.daemon.connect();
    assert_eq!(holder.info("leases"), "");
    holder.ok("SETCONF __leavestreams=1 MaxCircuitDirtiness=1200");
    assert_eq!(
        watch.line(),
        "650 LEASE TAKEN __LeaveStreamsUnattached 2 holder"
    );
    assert_eq!(holder.info("leases"), "__LeaveStreamsUnattached 2 holder");
    let refused =
        "553 Transition not allowed: __LeaveStreamsUnattached is leased by holder (session 2)";
    for command in [
        "SETCONF __LeaveStreamsUnattached=0",
        "SETCONF MaxCircuitDirtiness=1300 __LEAVESTREAMS=0",
        "RESETCONF __LeaveStreamsUnattached",
        "SETCONF __LeaveStreamsUnattached=0 ContactInfo=\"a\\nb\"",
        "+LOADCONF\r\nMaxCircuitDirtiness 1300\r\n.",
    ] {
        assert_eq!(other.ask(command), refused, "{command}");
    }
    assert_eq!(
        value(&pair.home, "MaxCircuitDirtiness"),
        "MaxCircuitDirtiness=1200"
    );
    other.ok("SETCONF __LeaveStreamsUnattached=1");
    other.ok("SETCONF MaxCircuitDirtiness=1300");
    // What Tor refuses takes nothing and ends nothing.
    let wrong = holder.ask("SETCONF __DisablePredictedCircuits=1 MaxCircuitDirtiness=x");
    assert!(wrong.starts_with("513 "), "{wrong}");
    holder.ok("SETCONF __LeaveStreamsUnattached=0");
    assert_eq!(
        watch.line(),
        "650 LEASE ENDED __LeaveStreamsUnattached 2 holder"
    );
    other.ok("SETCONF __DisablePredictedCircuits=1");
    assert_eq!(
        watch.line(),
        "650 LEASE TAKEN __DisablePredictedCircuits 3 unset"
    );
}

#[test]
fn what_a_holder_leaves_is_set_back() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&[LEASE]);
    let mut watch = pair.daemon.connect();
    watch.ok("SETEVENTS LEASE");
    for (index, end) in ["QUIT", "close", "close at once"].into_iter().enumerate() {
        let mut holder = pair.daemon.connect();
        let command = "SETCONF DisableNetwork=0 __LeaveStreamsUnattached=1";
        if end == "close at once" {
            holder.send(format!("{command}\r\n"));
        } else {
            holder.ok(command);
        }
        if end == "QUIT" {
            holder.send("QUIT\r\n");
        }
        drop(holder);
        let begun = Instant::now();
        let session = index + 2;
        let mut lines: Vec<_> = (0..4).map(|_| watch.line()).collect();
        lines.sort();
        for (line, what) in lines.iter().zip([
            "ENDED DisableNetwork",
            "ENDED __LeaveStreamsUnattached",
            "TAKEN DisableNetwork",
            "TAKEN __LeaveStreamsUnattached",
        ]) {
            assert_eq!(*line, format!("650 LEASE {what} {session} unset"), "{end}");
        }
        eventually("both are set back", || {
            value(&pair.home, "DisableNetwork") == "DisableNetwork=1"
                && value(&pair.home, "__LeaveStreamsUnattached") == "__LeaveStreamsUnattached=0"
        });
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(watch.info("leases"), "");
}

#[test]
fn others_end_a_lease_with_nothing_set() {
    if !has_tor() {
        return;
    }
    let mut pair = Pair::with(&[LEASE, "BusKeepControllers 1"]);
    let mut watch = pair.daemon.connect();
    watch.ok("SETEVENTS LEASE TOR");
    let mut holder = pair.daemon.connect();
    let taken = "650 LEASE TAKEN __LeaveStreamsUnattached 2 unset";
    let ended = "650 LEASE ENDED __LeaveStreamsUnattached 2 unset";
    holder.ok("SETCONF __LeaveStreamsUnattached=1");
    assert_eq!(watch.line(), taken);
    let mut tor = Controller::at(&pair.home.socket());
    tor.ok("AUTHENTICATE");
    // A change of another option from outside ends nothing.
    tor.ok("SETCONF MaxCircuitDirtiness=1300");
    tor.ok("SETCONF __LeaveStreamsUnattached=0");
    assert_eq!(watch.line(), ended);
    holder.ok("SETCONF __LeaveStreamsUnattached=1");
    assert_eq!(watch.line(), taken);
    holder.ok("SIGNAL RELOAD");
    assert_eq!(watch.line(), ended);
    holder.ok("SETCONF __LeaveStreamsUnattached=1");
    assert_eq!(watch.line(), taken);
    pair.tor.kill();
    while watch.line() != ended {}
    pair.tor = pair.home.start();
    eventually("Tor is there", || {
        holder.ask("GETCONF __LeaveStreamsUnattached") == "250 __LeaveStreamsUnattached=0"
    });
    assert_eq!(holder.info("leases"), "");
}

#[test]
fn many_at_once_hold_one_after_the_other() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&[LEASE]);
    let mut all: Vec<_> = (0..8).map(|_| pair.daemon.connect()).collect();
    for round in 0..5 {
        for controller in &mut all {
            controller.send(
                "SETCONF __LeaveStreamsUnattached=1\r\nSETCONF __LeaveStreamsUnattached=0\r\n",
            );
        }
        for controller in &mut all {
            for _ in 0..2 {
                let reply = controller.reply();
                let is_right =
                    reply == "250 OK" || reply.starts_with("553 Transition not allowed: ");
                assert!(is_right, "{round}: {reply}");
            }
        }
        eventually("all is as before", || {
            pair.daemon.connect().info("leases").is_empty()
        });
        assert_eq!(
            value(&pair.home, "__LeaveStreamsUnattached"),
            "__LeaveStreamsUnattached=0"
        );
    }
}

#[test]
fn a_refusal_for_another_reason_keeps_nobody_waiting() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&[
        LEASE,
        "BusAudit /dev/full",
        "BusAuditRequired 1",
        "BusConfine 0",
    ]);
    let mut first = pair.daemon.connect();
    let mut second = pair.daemon.connect();
    for controller in [&mut first, &mut second] {
        let refused = controller.ask("SETCONF __LeaveStreamsUnattached=1");
        assert_eq!(refused, "551 The audit log cannot be written");
    }
}

#[test]
fn an_option_that_tor_does_not_have_hides_no_other() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusLease NoSuchOption __LeaveStreamsUnattached"]);
    let mut holder = pair.daemon.named("holder");
    holder.ok("SETCONF __LeaveStreamsUnattached=1");
    let taken = "__LeaveStreamsUnattached 1 holder";
    eventually("it is held", || holder.info("leases") == taken);
    let mut other = pair.daemon.connect();
    let refused = other.ask("+LOADCONF\r\nDisableNetwork 1\r\n.");
    assert!(
        refused.starts_with("553 Transition not allowed: "),
        "{refused}"
    );
    pair.daemon
        .logs("BusLease NoSuchOption: this Tor has no such option");
    assert_eq!(holder.info("leases"), taken);
}
