//! Events that only Tor knows: it is asked, and its word counts.

use std::fmt::Write as _;

use crate::before;
use crate::fake::Fake;
use crate::support::{Daemon, Place};
use crate::tor::{Pair, has_tor, is_connected};

#[test]
fn an_event_without_a_place_in_the_table_is_accepted_as_tor_does() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = pair.daemon.connect();
    controller.ok("SETEVENTS AUTHDIR_NEWDESCS");
    controller.ok("SETEVENTS authdir_newdescs SIGNAL POSTMESSAGE");
    controller.ok("SIGNAL CLEARDNSCACHE");
    assert_eq!(controller.reply(), "650 SIGNAL CLEARDNSCACHE");
    let reply = controller.ask("SETEVENTS AUTHDIR_NEWDESCS NEITHERTORNORBUS");
    assert_eq!(reply, "552 Unrecognized event \"NEITHERTORNORBUS\"");
}

/// A daemon before a Tor that answers SETEVENTS as `answer` does.
fn newer<A>(place: &Place, answer: A) -> (Fake, Daemon)
where
    A: Fn(&str) -> Option<String> + Send + Sync + 'static,
{
    let fake = Fake::at(&place.path("tor"), move |_, command| {
        let events = command.strip_prefix("SETEVENTS")?;
        answer(events)
    });
    let daemon = before(place, &place.path("tor")).ready();
    is_connected(&daemon);
    (fake, daemon)
}

#[test]
fn events_of_a_newer_tor_are_delivered_by_name() {
    let place = Place::new();
    let (fake, daemon) = newer(&place, |_| None);
    let mut first = daemon.connect();
    first.ok("SETEVENTS NEWTHING BW");
    fake.hears("SETEVENTS");
    let mut second = daemon.connect();
    second.ok("SETEVENTS OTHER_THING");
    let watcher = fake.hears("SETEVENTS");
    let mut third = daemon.connect();
    third.ok("SETEVENTS BW");
    let events: [&[u8]; 5] = [
        b"650 NEWTHING a b=\"c d\"\r\n",
        b"650-NEWTHING\r\n650-a=b\r\n650 OK\r\n",
        b"650+NEWTHING x\r\n250 data\r\n..\r\n650 BW 9 9\r\n.\r\n650 OK\r\n",
        b"650 OTHER_THING y\r\n",
        b"650 BW 1 2\r\n",
    ];
    fake.say(watcher, &events.concat());
    assert_eq!(first.reply(), "650 NEWTHING a b=\"c d\"");
    assert_eq!(first.reply(), "650-NEWTHING\n650-a=b\n650 OK");
    let data = "650+NEWTHING x\n250 data\n..\n650 BW 9 9\n.\n650 OK";
    assert_eq!(first.reply(), data);
    assert_eq!(first.reply(), "650 BW 1 2");
    assert_eq!(second.reply(), "650 OTHER_THING y");
    assert_eq!(third.reply(), "650 BW 1 2");
    // After an unsubscription no more of it comes.
    first.ok("SETEVENTS BW");
    fake.say(watcher, b"650 NEWTHING late\r\n650 BW 3 4\r\n");
    assert_eq!(first.reply(), "650 BW 3 4");
    assert_eq!(third.reply(), "650 BW 3 4");
}

#[test]
fn an_event_that_tor_refuses_is_refused_in_its_words() {
    let place = Place::new();
    let (fake, daemon) = newer(&place, |events| {
        let is_known = !events.contains("NOBODY");
        (!is_known).then(|| "552 Never heard of \"NOBODY\", sorry\r\n".to_owned())
    });
    let mut other = daemon.connect();
    other.ok("SETEVENTS BW NEWTHING");
    let watcher = fake.hears("SETEVENTS");
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS NEWTHING");
    for _ in 0..3 {
        let reply = controller.ask("SETEVENTS BW NOBODY");
        assert_eq!(reply, "552 Never heard of \"NOBODY\", sorry");
    }
    // It keeps what it had, and so does everybody else.
    fake.say(watcher, b"650 BW 1 2\r\n650 NEWTHING x\r\n");
    assert_eq!(controller.reply(), "650 NEWTHING x");
    assert_eq!(other.reply(), "650 BW 1 2");
    assert_eq!(other.reply(), "650 NEWTHING x");
    other.ok("SETEVENTS SIGNAL");
}

#[test]
fn many_unknown_names_are_bounded() {
    let place = Place::new();
    let (_fake, daemon) = newer(&place, |_| None);
    let mut controller = daemon.connect();
    let round = |controller: &mut crate::support::Controller, round: usize| {
        let mut command = "SETEVENTS BW".to_owned();
        for number in 0..5000 {
            let _ = write!(command, " EVENT_{round}_{number}_{}", "X".repeat(100));
        }
        let reply = controller.ask(&command);
        let is_one = reply.starts_with("250 ") || reply.starts_with('5');
        assert!(is_one && !reply.contains('\n'), "{reply}");
    };
    for number in 0..10 {
        round(&mut controller, number);
    }
    let before = daemon.memory();
    for number in 10..60 {
        round(&mut controller, number);
        // Others may ask for as much.
        round(&mut daemon.connect(), number + 1000);
    }
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 16 * 1024, "it grew by {grown} KiB");
    controller.ok("SETEVENTS BW");
    assert!(controller.ask("POSTMESSAGE @nobody x").starts_with("552 "));
}
