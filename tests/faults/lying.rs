//! The peer at `BusTor` speaks for Tor, and only when asked: never for the bus.

use crate::before;
use crate::fake::Fake;
use crate::support::{Controller, Daemon, Place};
use crate::tor::is_connected;

/// Lines that no Tor says.
const LIES: [&str; 12] = [
    "650 POSTMESSAGE 7 admin @victim forged\r\n",
    "650 postmessage 8 admin @all forged\r\n",
    "650-POSTMESSAGE 9 admin @victim forged\r\n650 OK\r\n",
    "650+POSTMESSAGE 10 admin @victim forged\r\nforged\r\n.\r\n650 OK\r\n",
    "650 CONTROLLER CONNECTED 99 admin UID=0 PID=1\r\n",
    "650 TOR DOWN\r\n",
    "650 TOR UP\r\n",
    "650 tor DOWN\r\n",
    // Events that nobody has asked for.
    "650 SIGNAL RELOAD\r\n",
    "650-CONF_CHANGED\r\n650-ContactInfo=forged\r\n650 OK\r\n",
    "650+NS\r\nr forged\r\n.\r\n650 OK\r\n",
    "650 \r\n",
];

/// A daemon before a Tor that says what a test wants.
fn lied_to(place: &Place) -> (Fake, Daemon) {
    let fake = Fake::at(&place.path("tor"), |_, command| {
        let names = "250+ns/all=\r\n650 POSTMESSAGE 7 a @b x\r\n.\r\n250 OK\r\n";
        (command == "GETINFO ns/all").then(|| names.to_owned())
    });
    let daemon = before(place, &place.path("tor")).ready();
    is_connected(&daemon);
    (fake, daemon)
}

/// A controller that is there before others hear who comes.
fn helper(daemon: &Daemon) -> Controller {
    let mut helper = daemon.connect();
    helper.ok("GETINFO new-messages");
    helper
}

/// Says `octets` piece by piece; the daemon has read each piece before the next.
fn say_in(fake: &Fake, connection: usize, octets: &str, size: usize, helper: &mut Controller) {
    for piece in octets.as_bytes().chunks(size) {
        fake.say(connection, piece);
        // The loop went round, and the piece was there before the command.
        helper.ok("GETINFO new-messages");
    }
}

#[test]
fn nothing_of_the_bus_comes_from_its_watcher() {
    let place = Place::new();
    let (fake, daemon) = lied_to(&place);
    let mut victim = daemon.named("victim");
    let mut helper = helper(&daemon);
    victim.ok("SETEVENTS POSTMESSAGE CONTROLLER TOR BW");
    let watcher = fake.hears("SETEVENTS BW");
    let all = LIES.concat();
    for size in [all.len(), 1, 2, 7, 50] {
        say_in(&fake, watcher, &all, size, &mut helper);
        fake.say(watcher, b"650 BW 1 2\r\n");
        assert_eq!(victim.reply(), "650 BW 1 2", "cut in {size}");
    }
    helper.ok("POSTMESSAGE @victim true");
    assert_eq!(victim.reply(), "650 POSTMESSAGE 1 unset @victim true");
}

#[test]
fn nothing_of_the_bus_comes_from_its_watcher_before_anybody_subscribes() {
    let place = Place::new();
    let (fake, daemon) = lied_to(&place);
    let mut victim = daemon.named("victim");
    let mut helper = helper(&daemon);
    victim.ok("SETEVENTS POSTMESSAGE CONTROLLER TOR");
    // The daemon's own connection is the first.
    say_in(&fake, 0, &LIES.concat(), usize::MAX, &mut helper);
    helper.ok("POSTMESSAGE @victim true");
    assert_eq!(victim.reply(), "650 POSTMESSAGE 1 unset @victim true");
}

#[test]
fn nothing_that_was_not_asked_for_comes_from_tor() {
    let place = Place::new();
    let (fake, daemon) = lied_to(&place);
    let mut helper = helper(&daemon);
    let mut victim = daemon.connect();
    victim.ok("SETEVENTS POSTMESSAGE BW");
    victim.ok("GETINFO version");
    let leg = fake.hears("GETINFO version");
    let replies = "250 OK\r\n250-version=forged\r\n250 OK\r\n250+x=\r\nforged\r\n.\r\n250 OK\r\n";
    let all = LIES.concat() + replies + "forged\r\n";
    for size in [all.len(), 1, 3, 20] {
        say_in(&fake, leg, &all, size, &mut helper);
        let reply = victim.ask("GETINFO version");
        assert_eq!(reply, "250-version=0.4.9.11\n250 OK", "cut in {size}");
        let reply = victim.ask("GETINFO none");
        assert_eq!(reply, "552 Unrecognized key \"none\"", "cut in {size}");
        let reply = victim.ask("POSTMESSAGE @nobody x");
        assert_eq!(reply, "552 Invalid destination controller name");
        let reply = victim.ask("NOBODY");
        assert_eq!(reply, "510 Unrecognized command \"NOBODY\"");
    }
    // In a reply it is data.
    let reply = victim.ask("GETINFO ns/all");
    let data = "250+ns/all=\n650 POSTMESSAGE 7 a @b x\n.\n250 OK";
    assert_eq!(reply, data);
}

/// Events on the way of replies, where they are not subscribed.
#[test]
fn an_event_before_a_reply_is_no_reply() {
    let place = Place::new();
    let lie = "650 POSTMESSAGE 7 admin @all forged\r\n650-BW\r\n650 OK\r\n";
    let _fake = Fake::at(&place.path("tor"), move |number, command| {
        // Only on the ways of controllers.
        (number > 0 && command == "GETINFO version")
            .then(|| format!("{lie}250-version=true\r\n250 OK\r\n{lie}"))
    });
    let daemon = before(&place, &place.path("tor")).ready();
    is_connected(&daemon);
    let mut victim = daemon.connect();
    victim.ok("SETEVENTS POSTMESSAGE BW");
    victim.send("GETINFO version\r\nNOBODY\r\n".repeat(50));
    for _ in 0..50 {
        assert_eq!(victim.reply(), "250-version=true\n250 OK");
        assert_eq!(victim.reply(), "510 Unrecognized command \"NOBODY\"");
    }
}
