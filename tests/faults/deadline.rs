//! A Tor that lets the daemon wait: it is given up after `BusTorTimeout`, and tried again.

use crate::fake::Fake;
use crate::support::{Controller, Place, eventually};
use crate::tor::is_connected;
use crate::{TWO_SECONDS, before, hears};

/// A Tor at the same path that answers everything.
fn good(place: &Place) -> Fake {
    Fake::at(&place.path("tor"), |_, _| None)
}

#[track_caller]
fn is_refused(controller: &mut Controller) {
    let reply = controller.reply();
    assert!(reply.starts_with("551 "), "{reply}");
}

#[test]
fn a_subscription_that_tor_never_answers_is_refused() {
    let place = Place::new();
    let silent = |_, command: &str| command.starts_with("SETEVENTS").then(String::new);
    let hangs = Fake::at(&place.path("tor"), silent);
    let daemon = before(&place, &place.path("tor")).set(TWO_SECONDS).ready();
    is_connected(&daemon);
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS TOR");
    let mut first = daemon.connect();
    first.send("SETEVENTS BW\r\n");
    hangs.hears("SETEVENTS BW");
    // It waits behind the first one.
    let mut second = daemon.connect();
    second.send("SETEVENTS SIGNAL\r\n");
    let _good = good(&place);
    is_refused(&mut first);
    is_refused(&mut second);
    hears(&mut watcher, "650 TOR UP");
    for controller in [&mut first, &mut second] {
        controller.ok("SETEVENTS BW SIGNAL");
    }
}

#[test]
fn a_login_that_tor_never_answers_is_given_up() {
    let place = Place::new();
    let hangs = Fake::at(&place.path("tor"), |_, _| Some(String::new()));
    let daemon = before(&place, &place.path("tor")).set(TWO_SECONDS).ready();
    hangs.hears("PROTOCOLINFO");
    let mut controllers = [daemon.connect(), daemon.connect()];
    for (controller, command) in controllers
        .iter_mut()
        .zip(["GETINFO version\r\n", "SETEVENTS BW\r\n"])
    {
        controller.send(command);
        is_refused(controller);
    }
    let _good = good(&place);
    is_connected(&daemon);
    for controller in &mut controllers {
        controller.ok("GETINFO version");
        controller.ok("SETEVENTS BW");
    }
}

/// The daemon's own connection is let in, that of a controller is not.
#[test]
fn a_controller_whose_login_tor_never_answers_is_told() {
    let place = Place::new();
    let _hangs = Fake::at(&place.path("tor"), |number, _| {
        (number > 0).then(String::new)
    });
    let daemon = before(&place, &place.path("tor")).set(TWO_SECONDS).ready();
    is_connected(&daemon);
    let mut controller = daemon.connect();
    controller.send("GETINFO version\r\n");
    is_refused(&mut controller);
    let _good = good(&place);
    eventually("it reaches the Tor that answers", || {
        controller.ask("GETINFO version").ends_with("250 OK")
    });
}
