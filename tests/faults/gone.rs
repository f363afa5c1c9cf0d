//! Controllers that write and close without reading: all that they wrote is carried out.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread;

use crate::support::{Controller, Place};
use crate::tor::{Pair, has_tor};

/// Writes, and closes without having read anything.
pub fn leaves_behind(place: &Place, octets: &[u8]) {
    let mut stream = UnixStream::connect(place.socket()).expect("it listens");
    stream.write_all(octets).expect("the daemon takes it");
}

/// A controller of Tor itself that hears of each change.
fn hears_changes(pair: &Pair) -> Controller {
    let mut direct = Controller::at(&pair.home.socket());
    direct.ok("AUTHENTICATE");
    direct.ok("SETEVENTS CONF_CHANGED");
    direct
}

#[test]
fn what_was_set_before_the_end_is_set() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = hears_changes(&pair);
    let mut expected = Vec::new();
    for number in 0..50 {
        let set = format!("AUTHENTICATE\r\nSETCONF ContactInfo={number}\r\n");
        leaves_behind(&pair.place, set.as_bytes());
        expected.push(format!(
            "650-CONF_CHANGED\n650-ContactInfo={number}\n650 OK"
        ));
    }
    let mut changes: Vec<_> = expected.iter().map(|_| direct.reply()).collect();
    // They are different controllers: nobody said in which order.
    changes.sort();
    expected.sort();
    assert_eq!(changes, expected);
}

#[test]
fn more_than_tor_is_asked_for_at_a_time_is_carried_out_too() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = hears_changes(&pair);
    let count = 500;
    let set = |number| format!("SETCONF ContactInfo={number}\r\n");
    let all: String = (0..count).map(set).collect();
    leaves_behind(&pair.place, all.as_bytes());
    for number in 0..count {
        let change = direct.reply();
        assert!(
            change.contains(&format!("ContactInfo={number}\n")),
            "{change}"
        );
    }
}

#[test]
fn what_was_posted_before_the_end_is_delivered() {
    let (clients, messages) = (20, 5_000);
    let place = Place::new();
    let daemon = place.daemon();
    let mut subscriber = daemon.connect();
    subscriber.ok("SETEVENTS POSTMESSAGE");
    thread::scope(|scope| {
        for client in 0..clients {
            let place = &place;
            scope.spawn(move || {
                let post = |number| format!("POSTMESSAGE @all {client} {number}\r\n");
                let all: String = (0..messages).map(post).collect();
                leaves_behind(place, all.as_bytes());
            });
        }
        let mut next = vec![0; clients];
        for id in 1..=(clients * messages) as u64 {
            let (got, text) = subscriber.next_message();
            assert_eq!(got, id);
            let mut words = text.split(' ').skip(2).map(str::parse::<usize>);
            let (Some(Ok(client)), Some(Ok(number))) = (words.next(), words.next()) else {
                panic!("{text}");
            };
            assert_eq!(number, next[client], "of client {client}");
            next[client] += 1;
        }
    });
}

#[test]
fn a_quit_before_the_end_loses_nothing() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = hears_changes(&pair);
    for number in 0..20 {
        let set = format!("AUTHENTICATE\r\nSETCONF ContactInfo={number}\r\nQUIT\r\n");
        leaves_behind(&pair.place, set.as_bytes());
        let change = format!("650-CONF_CHANGED\n650-ContactInfo={number}\n650 OK");
        assert_eq!(direct.reply(), change);
    }
}

/// Also where the first of two waits for Tor and the second is the bus's alone.
#[test]
fn what_was_set_before_the_end_is_set_in_order() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = hears_changes(&pair);
    let mut listener = pair.daemon.connect();
    listener.ok("SETEVENTS POSTMESSAGE");
    for number in 0..20 {
        let all = format!(
            "CONTROLLERNAME boss\r\nSETCONF BusHistory=9 ContactInfo={number}\r\n\
             SETCONF BusHistory=5\r\nPOSTMESSAGE @all done\r\n"
        );
        leaves_behind(&pair.place, all.as_bytes());
        direct.reply();
        let said = listener.reply();
        assert!(said.ends_with(" boss @all done"), "{said}");
        assert_eq!(listener.ask("GETCONF BusHistory"), "250 BusHistory=5");
    }
}

/// The buffer for replies goes from turn to turn: nothing may stay in it for the next controller.
#[test]
fn a_reply_that_nobody_reads_is_nobody_elses() {
    let place = Place::new();
    let daemon = place.daemon();
    for round in 0..300 {
        let mut gone = daemon.connect();
        gone.send("GETINFO version\r\nQUIT\r\n");
        drop(gone);
        let reply = daemon.connect().ask("GETINFO list-controllers");
        assert!(
            reply.starts_with("250-list-controllers=") || reply.starts_with("250+list"),
            "{round}: {reply}"
        );
    }
}
