//! A Tor that does not say which options and listeners it has, by which a policy judges: nobody
//! waits for that in vain, and whoever needs nothing of it does not wait. Also a Tor that is slow to
//! say whose an event is.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::fake::Fake;
use crate::gone::leaves_behind;
use crate::support::{Controller, Daemon, PATIENCE, Place, Start};
use crate::tor::is_connected;
use crate::{TWO_SECONDS, before, hears};

/// The answers by which a policy judges.
fn facts(command: &str) -> Option<String> {
    match command.strip_prefix("GETINFO ")? {
        "config/names" => Some("250+config/names=\r\nLog LineList\r\n.\r\n250 OK\r\n".into()),
        "net/listeners/control" => Some("250-net/listeners/control=\r\n250 OK\r\n".into()),
        _ => None,
    }
}

/// A daemon before the Tor at `tor`, and everybody restricted.
fn restricted(place: &Place, tor: &str) -> Start {
    let policy = "Profile p\nMatch any\nAllow getinfo version\nAllow name *\nAllow post @all\n\
                  Allow read @all\nAllow list\nAllow setconf Log\nAllow add_onion ports=80\nAllow events HS_DESC:own BW\n";
    let policy = place.file("own.policy", policy);
    before(place, &place.path(tor)).set(&format!("BusPolicy {}", policy.display()))
}

/// Does what needs nothing of Tor.
#[track_caller]
fn is_served(controller: &mut Controller) {
    for (command, start) in [
        ("PROTOCOLINFO 1", "250-PROTOCOLINFO 1"),
        ("GETINFO whoami policy", "250-whoami=ID="),
        ("CONTROLLERNAME x", "250 OK"),
        ("POSTMESSAGE @all x", "250 OK"),
        ("POLICYCHECK GETINFO version", "250 OK"),
        ("SIGNAL HALT", "552 Unrecognized signal code"),
        ("SAVECONF", "510 Command filtered (p)"),
        ("SETEVENTS POLICY", "250 OK"),
        ("QUIT", "250 closing connection"),
    ] {
        let reply = controller.ask(command);
        assert!(reply.starts_with(start), "{command}: {reply}");
    }
}

/// Is refused what is judged by what Tor has not said.
#[track_caller]
fn is_refused(daemon: &Daemon, with: &str) {
    for command in [
        "SETCONF Log=x",
        "GETCONF Log",
        "ADD_ONION NEW:BEST Port=80",
        "POLICYCHECK SETCONF Log=x",
    ] {
        let reply = daemon.connect().ask(command);
        assert!(reply.starts_with(with), "{command}: {reply}");
    }
}

#[test]
fn a_tor_that_does_not_answer_keeps_nobody() {
    let place = Place::new();
    let tor = Fake::at(&place.path("tor"), |_, command| {
        command.starts_with("GETINFO config/").then(String::new)
    });
    let daemon = restricted(&place, "tor").set(TWO_SECONDS).ready();
    tor.hears("GETINFO config/names");
    let mut waits = daemon.connect();
    waits.send("SETCONF Log=x\r\nGETINFO whoami\r\n");
    is_served(&mut daemon.connect());
    let reply = waits.reply();
    assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
    assert!(waits.reply().starts_with("250-whoami="));
}

#[test]
fn a_filter_that_does_not_tell_keeps_nobody() {
    let place = Place::new();
    let _filter = Fake::at(&place.path("tor"), |_, command| {
        let is_filtered = command.starts_with("GETINFO config/")
            || command.starts_with("GETINFO net/")
            || command.starts_with("ONIONBUS");
        is_filtered.then(|| "510 Command filtered\r\n".into())
    });
    let daemon = restricted(&place, "tor").ready();
    daemon.logs("Tor does not say which options and listeners it has");
    let version = daemon.connect().ask("GETINFO version");
    assert!(version.starts_with("250-version=0."), "{version}");
    is_served(&mut daemon.connect());
    is_refused(&daemon, "551 Tor does not say which options");
}

#[test]
fn a_login_that_hangs_keeps_nobody() {
    let place = Place::new();
    let tor = Fake::at(&place.path("tor"), |_, _| Some(String::new()));
    let daemon = restricted(&place, "tor").set(TWO_SECONDS).ready();
    tor.hears("PROTOCOLINFO");
    let mut waits = daemon.connect();
    waits.send("SETCONF Log=x\r\n");
    is_served(&mut daemon.connect());
    let reply = waits.reply();
    assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
}

#[test]
fn a_bus_behind_itself_is_found_out_with_a_policy_too() {
    let place = Place::new();
    let daemon = restricted(&place, "control").ready();
    daemon.logs("the bus would be behind itself");
    let version = daemon.connect().ask("GETINFO version");
    assert!(
        version.starts_with("551 Tor is not reachable: "),
        "{version}"
    );
    is_served(&mut daemon.connect());
}

#[test]
fn what_was_written_before_the_end_is_done_once_tor_has_answered() {
    let place = Place::new();
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let tor = Fake::at(&place.path("tor"), move |_, command| {
        if command == "GETINFO config/names" {
            // It fails if the test has failed.
            let _ = gate.lock().expect("no panic").recv();
        }
        facts(command)
    });
    let daemon = restricted(&place, "tor").ready();
    is_connected(&daemon);
    let mut other = daemon.connect();
    other.ok("SETEVENTS POSTMESSAGE CONTROLLER");
    leaves_behind(
        &place,
        b"POSTMESSAGE @all before\r\nSETCONF Log=x\r\nPOSTMESSAGE @all after\r\n",
    );
    hears(&mut other, "before");
    hears(&mut other, "CONTROLLER DISCONNECTED ");
    go.send(()).expect("the Tor waits");
    tor.hears("SETCONF Log=");
    hears(&mut other, "after");
}

#[test]
fn an_event_that_has_waited_is_not_for_who_has_unsubscribed() {
    let place = Place::new();
    let onion = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";
    let ((asked, is_asked), (go, gate)) = (channel(), channel::<()>());
    let gate = Mutex::new(gate);
    let tor = Fake::at(&place.path("tor"), move |_, command| {
        if !command.starts_with("ADD_ONION ") {
            return facts(command);
        }
        // Both fail if the test has failed.
        let _ = asked.send(());
        let _ = gate.lock().expect("no panic").recv();
        Some(format!("250-ServiceID={onion}\r\n250 OK\r\n"))
    });
    let daemon = restricted(&place, "tor").ready();
    is_connected(&daemon);
    let (mut stays, mut leaves) = (daemon.connect(), daemon.connect());
    for controller in [&mut stays, &mut leaves] {
        controller.ok("SETEVENTS HS_DESC BW");
    }
    let mut maker = daemon.connect();
    maker.send("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17601\r\n");
    is_asked.recv_timeout(PATIENCE).expect("Tor is asked");
    let watcher = tor.hears("SETEVENTS");
    let event = format!("650 HS_DESC CREATED {onion} UNKNOWN UNKNOWN x");
    tor.say(watcher, format!("{event}\r\n650 BW 1 2\r\n").as_bytes());
    // The first one waits.
    for controller in [&mut stays, &mut leaves] {
        assert_eq!(controller.line(), "650 BW 1 2");
    }
    leaves.ok("SETEVENTS");
    go.send(()).expect("the Tor waits");
    assert_eq!(maker.reply(), format!("250-ServiceID={onion}\n250 OK"));
    assert_eq!(stays.line(), event);
    let version = leaves.ask("GETINFO version");
    assert!(version.starts_with("250-version=0."), "{version}");
}
