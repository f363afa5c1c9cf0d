//! Buses behind each other: a chain works, a ring is refused with words.

use crate::support::{Controller, Daemon, Place};
use crate::tor::{Pair, has_tor, is_connected};
use crate::wire::Wire;
use crate::{before, descriptors};

/// The most descriptors of a daemon that serves a handful of controllers.
const MOST: usize = 100;

/// Asks for what only a Tor knows, among what only the bus knows: one reply to each.
#[track_caller]
fn asks_a_tor(controller: &mut Controller) {
    let count = 20;
    let some = "GETINFO info/names\r\nPOSTMESSAGE @nobody x\r\nSETCONF ContactInfo=x\r\n";
    controller.send(some.repeat(count));
    for _ in 0..count {
        let reply = controller.reply();
        assert!(reply.starts_with("551 ") && reply.len() > 10, "{reply}");
        assert_eq!(
            controller.reply(),
            "552 Invalid destination controller name"
        );
        let reply = controller.reply();
        assert!(reply.starts_with("551 ") && reply.len() > 10, "{reply}");
    }
}

/// Whether the log has words for it.
fn has_words(daemon: &Daemon) -> bool {
    let log = daemon.log().to_lowercase();
    ["itself", "ring", "loop", "circle"]
        .iter()
        .any(|word| log.contains(&format!(" {word}")))
}

#[test]
fn a_bus_behind_itself_is_refused() {
    let place = Place::new();
    let daemon = before(&place, &place.socket()).ready();
    // Each, since somebody could be lucky while the daemon begins.
    for _ in 0..5 {
        let mut controller = daemon.connect();
        asks_a_tor(&mut controller);
        assert!(descriptors(&daemon) < MOST, "{}", descriptors(&daemon));
    }
    assert!(has_words(&daemon), "{}", daemon.log());
}

#[test]
fn a_ring_of_two_is_refused() {
    let (first, second) = (Place::new(), Place::new());
    let daemons = [
        before(&first, &second.socket()).ready(),
        before(&second, &first.socket()).ready(),
    ];
    for _ in 0..5 {
        for daemon in &daemons {
            let mut controller = daemon.connect();
            asks_a_tor(&mut controller);
        }
        for daemon in &daemons {
            assert!(descriptors(daemon) < MOST, "{}", descriptors(daemon));
        }
    }
    let logs = daemons.each_ref().map(Daemon::log);
    assert!(daemons.iter().any(has_words), "{logs:?}");
}

#[test]
fn a_chain_works() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let place = Place::new();
    let outer = before(&place, &pair.place.socket()).ready();
    is_connected(&outer);

    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let version = direct.ask("GETINFO version");
    let mut controller = Wire::at(&place.socket());
    assert_eq!(controller.ask("GETINFO version"), version);

    let mut subscriber = outer.connect();
    subscriber.ok("SETEVENTS CONF_CHANGED SIGNAL POSTMESSAGE");
    assert_eq!(controller.ask("SETCONF ContactInfo=chain"), "250 OK\r\n");
    let change = "650-CONF_CHANGED\n650-ContactInfo=chain\n650 OK";
    assert_eq!(subscriber.reply(), change);
    let contact = "250 ContactInfo=chain\r\n";
    assert_eq!(direct.ask("GETCONF ContactInfo"), contact);
    controller.ask("SIGNAL CLEARDNSCACHE");
    assert_eq!(subscriber.reply(), "650 SIGNAL CLEARDNSCACHE");

    let count = 200;
    let some = "GETINFO version\r\nPOSTMESSAGE @all x\r\nGETCONF ContactInfo BusHistory\r\n\
                POSTMESSAGE @nobody x\r\n";
    controller.send(some.repeat(count).as_bytes());
    assert!(controller.fence());
    let both = "250-ContactInfo=chain\r\n250 BusHistory=100\r\n";
    let nobody = "552 Invalid destination controller name\r\n";
    let expected = format!("{version}250 OK\r\n{both}{nobody}").repeat(count);
    let said = String::from_utf8(controller.take()).expect("ASCII");
    assert!(said == expected, "{said}");
    for _ in 0..count {
        assert!(subscriber.reply().ends_with(" unset @all x"));
    }
}
