//! The log: as events in their place, and written without anybody waiting for its reader.

mod support;

use std::process::{Command, Stdio};

use support::{Controller, Place, eventually};

#[test]
fn lines_come_behind_the_replies_of_the_commands_that_caused_them() {
    let daemon = Place::new();
    let daemon = daemon.daemon();
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS NOTICE");
    let questions = 200;
    controller.send("SIGNAL HEARTBEAT\r\n".to_owned() + &"GETCONF BusLog\r\n".repeat(questions));
    assert_eq!(controller.reply(), "250 OK");
    for _ in 0..questions {
        assert_eq!(controller.reply(), "250 BusLog=notice");
    }
    assert!(controller.reply().starts_with("650 NOTICE "));
}

/// A pipe holds 64 KiB: a thousand lines fill it.
#[test]
fn nobody_waits_for_a_log_that_is_not_read() {
    let place = Place::new();
    let mut unread = Command::new(env!("CARGO_BIN_EXE_onionbus"))
        .arg("serve")
        .arg("--socket")
        .arg(place.socket())
        .arg("--state")
        .arg(place.path("state"))
        .args(["--set", "BusLog debug"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    eventually("the daemon listens", || {
        Controller::try_at(&place.socket()).is_ok()
    });
    let mut noisy = Controller::at(&place.socket());
    for _ in 0..20_000 {
        assert_eq!(
            noisy.ask("NONSENSE"),
            "510 Unrecognized command \"NONSENSE\""
        );
    }
    Controller::at(&place.socket()).ok("GETINFO version");
    noisy.ok("SIGNAL SHUTDOWN");
    // Its own end waits a moment for the reader, and no longer.
    assert!(unread.wait().expect("it is our child").success());
}
