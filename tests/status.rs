//! `GETINFO status` and `onionbus status`: how the daemon is, and what it has done.

mod support;

use std::process::Command;

use support::{Controller, Place, eventually, run};

/// The values of a name in `GETINFO status`.
#[track_caller]
fn all(controller: &mut Controller, name: &str) -> Vec<String> {
    let status = controller.ask("GETINFO status");
    let lines = status.strip_prefix("250+status=\n");
    let lines = lines.and_then(|lines| lines.strip_suffix("\n.\n250 OK"));
    let lines = lines.unwrap_or_else(|| panic!("{status}")).lines();
    let values = lines.filter_map(|line| line.strip_prefix(&format!("{name}=")));
    values.map(str::to_owned).collect()
}

/// The one value of a name.
#[track_caller]
fn one(controller: &mut Controller, name: &str) -> String {
    let values = all(controller, name);
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].clone()
}

#[track_caller]
fn number(controller: &mut Controller, name: &str) -> u64 {
    let value = one(controller, name);
    value.parse().unwrap_or_else(|_| panic!("{name}={value}"))
}

#[test]
fn it_says_what_the_daemon_is() {
    let place = Place::new();
    let other = place.path("other");
    let text = format!(
        "BusSocket {}\nBusSocket {}\nBusMaxControllers 7\n",
        place.socket().display(),
        other.display()
    );
    let daemon = place.configured(&text).ready();
    let mut alice = daemon.connect();
    let _guest = Controller::at(&other);
    assert_eq!(one(&mut alice, "VERSION"), env!("CARGO_PKG_VERSION"));
    assert_eq!(one(&mut alice, "PID"), daemon.pid().to_string());
    assert_eq!(one(&mut alice, "TOR"), "none");
    assert!(all(&mut alice, "TOR_ADDRESS").is_empty());
    let sockets = [place.socket(), other].map(|path| format!("\"{}\"", path.display()));
    assert_eq!(all(&mut alice, "SOCKET"), sockets);
    assert_eq!(number(&mut alice, "PLACES"), 7);
    eventually("the guest is there", || {
        number(&mut alice, "CONTROLLERS") == 2
    });
    assert_eq!(number(&mut alice, "CONNECTIONS"), 2);
    let started = one(&mut alice, "STARTED");
    let now = alice.info("current-time/utc");
    assert!(
        started.ends_with('Z') && started[..19] <= now[..],
        "{started}"
    );
    assert!(number(&mut alice, "READ") > 0 && number(&mut alice, "WRITTEN") > 0);
    // Both that the loop makes, in one answer.
    let both = alice.ask("GETINFO status uptime controllers/detail");
    assert!(both.contains("\nPLACES=7\n") && both.contains("\n250-uptime="));
    assert!(both.contains(" NAME=unset "), "{both}");
}

#[test]
fn it_counts_what_becomes_of_messages() {
    let place = Place::new();
    // The second daemon goes on with the MessageIDs of the first, and counts anew.
    for _ in 0..2 {
        let mut daemon = place.daemon();
        let mut alice = daemon.named("alice");
        let mut bob = daemon.connect();
        let mut carol = daemon.named("carol");
        let mut dora = daemon.connect();
        alice.ok("SETEVENTS POSTMESSAGE");
        dora.ok("SETEVENTS POSTMESSAGE");
        for text in ["@all 1", "@alice 2", "@all 3"] {
            bob.ok(&format!("POSTMESSAGE {text}"));
        }
        assert_eq!(
            bob.ask("POSTMESSAGE @nobody 4"),
            "552 Invalid destination controller name"
        );
        for _ in 0..3 {
            alice.next_message();
        }
        let counts = |asker: &mut Controller| {
            ["POSTED", "DELIVERED", "DROPPED"].map(|name| number(asker, name))
        };
        assert_eq!(counts(&mut alice), [3, 5, 0]);
        // The eleventh takes the place of the first, and reading them delivers them.
        for _ in 0..11 {
            bob.ok("POSTMESSAGE @carol x");
        }
        assert_eq!(counts(&mut alice), [14, 5, 1]);
        carol.ok("GETINFO new-messages");
        assert_eq!(counts(&mut alice), [14, 15, 1]);
        // Both unread, and one as the other an event that was not awaited.
        bob.ok("POSTMESSAGE @carol x");
        carol.ok("SETEVENTS POSTMESSAGE");
        carol.next_message();
        assert_eq!(counts(&mut alice), [15, 16, 1]);
        carol.ok("SETEVENTS");
        bob.ok("POSTMESSAGE @carol x");
        drop(carol);
        eventually("what carol has not read is dropped", || {
            counts(&mut alice) == [16, 16, 2]
        });
        daemon.stop();
    }
}

#[test]
fn it_tells_of_the_highest_queue_and_of_who_was_cut_off() {
    let place = Place::new();
    let daemon = place.serve().set("BusMaxQueue 1 MB").ready();
    let mut alice = daemon.connect();
    let mut lazy = daemon.connect();
    lazy.ok("SETEVENTS POSTMESSAGE");
    let text = format!("POSTMESSAGE @all {}", "x".repeat(10_000));
    let mut waiting = 0;
    eventually("something waits", || {
        alice.ok(&text);
        waiting = number(&mut alice, "WAITING");
        waiting > 0
    });
    assert_eq!(number(&mut alice, "CUT_OFF"), 0);
    let now = number(&mut alice, "HIGHEST_QUEUE");
    assert!(now >= waiting && now <= number(&mut alice, "HIGHEST_QUEUE_EVER"));
    eventually("it is cut off", || {
        alice.ok(&text);
        number(&mut alice, "CUT_OFF") == 1
    });
    assert_eq!(number(&mut alice, "WAITING"), 0);
    assert_eq!(number(&mut alice, "HIGHEST_QUEUE"), 0);
    assert!(number(&mut alice, "HIGHEST_QUEUE_EVER") > 900_000);
}

#[test]
fn a_tor_that_is_not_there_is_down() {
    let place = Place::new();
    let tor = place.path("no-tor");
    let daemon = place
        .serve()
        .set(&format!("BusTor unix:{}", tor.display()))
        .ready();
    let mut alice = daemon.connect();
    assert_eq!(one(&mut alice, "TOR"), "down");
    let address = format!("\"unix:{}\"", tor.display());
    assert_eq!(one(&mut alice, "TOR_ADDRESS"), address);
    assert!(all(&mut alice, "TOR_VERSION").is_empty());
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    let printed = run(command.arg("status").arg("--socket").arg(place.socket()));
    let line = format!("tor          not reachable at unix:{}\n", tor.display());
    assert!(printed.contains(&line), "{printed}");
}
