//! A controller that does not read.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use crate::support::eventually;
use crate::tor::{Pair, has_tor};
use crate::wire::Wire;

/// A reply of 9 KiB each.
const COMMAND: &[u8] = b"GETINFO info/names\r\n";

/// A controller that never reads.
struct Stalled {
    stream: UnixStream,
    /// What it asks, over and over.
    command: Vec<u8>,
    /// How many octets the other end has taken.
    taken: usize,
}

impl Stalled {
    fn at(path: &Path, command: &[u8]) -> Self {
        let stream = UnixStream::connect(path).expect("it is there");
        stream.set_nonblocking(true).expect("a socket");
        let command = command.to_vec();
        Self {
            stream,
            command,
            taken: 0,
        }
    }

    /// Writes commands until the other end takes no more.
    fn stuff(&mut self) {
        let commands = self
            .command
            .repeat(20_000_usize.div_ceil(self.command.len()));
        loop {
            // A command that was cut goes on where it was cut.
            match self
                .stream
                .write(&commands[self.taken % self.command.len()..])
            {
                Ok(length) => self.taken += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("it is cut off after {} octets: {error}", self.taken),
            }
        }
    }
}

#[test]
fn tor_holds_no_replies_for_it() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut other = Wire::at(&pair.place.socket());
    other.ask(std::str::from_utf8(COMMAND.trim_ascii()).expect("ASCII"));
    let before = pair.tor.memory();
    let mut stalled = Stalled::at(&pair.place.socket(), COMMAND);
    for _ in 0..2000 {
        // Tor has had a turn for whatever the stalled one asked.
        other.ask("GETINFO accounting/enabled");
        stalled.stuff();
    }
    let grown = pair.tor.memory().saturating_sub(before);
    assert!(
        grown < 20_000,
        "Tor has grown by {grown} KiB after {} octets",
        stalled.taken
    );
    let held = pair.daemon.memory();
    assert!(held < 60_000, "the daemon has {held} KiB");
}

#[test]
fn many_such_are_no_worse() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut other = Wire::at(&pair.place.socket());
    other.ask("GETINFO version");
    let before = pair.tor.memory();
    let mut stalled: Vec<_> = (0..20)
        .map(|_| Stalled::at(&pair.place.socket(), COMMAND))
        .collect();
    for _ in 0..50 {
        for controller in &mut stalled {
            controller.stuff();
        }
        other.ask("GETINFO accounting/enabled");
    }
    let grown = pair.tor.memory().saturating_sub(before);
    assert!(grown < 60_000, "Tor has grown by {grown} KiB");
    let descriptors = pair.tor.descriptors();
    drop(stalled);
    eventually("its connections to Tor are closed", || {
        pair.tor.descriptors() + 20 <= descriptors
    });
}

/// A reply of several megabytes is made before any of it can be sent: one at a time.
#[test]
fn commands_of_many_keys_are_no_worse() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut other = Wire::at(&pair.place.socket());
    other.ask("GETINFO config/names");
    let before = pair.tor.memory();
    let command = format!("GETINFO{}\r\n", " config/names".repeat(999));
    let mut stalled = Stalled::at(&pair.place.socket(), command.as_bytes());
    for _ in 0..50 {
        stalled.stuff();
        other.ask("GETINFO accounting/enabled");
    }
    let grown = pair.tor.memory().saturating_sub(before);
    assert!(grown < 60_000, "Tor has grown by {grown} KiB");
}

/// One that reads late gets everything all the same, and in order.
#[test]
fn who_reads_late_gets_it_all() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut late = Wire::at(&pair.place.socket());
    let one = late.ask("GETINFO info/names");
    let count = 300;
    late.send(&COMMAND.repeat(count));
    let mut other = Wire::at(&pair.place.socket());
    for _ in 0..200 {
        other.ask("GETINFO accounting/enabled");
    }
    late.fence();
    let all = String::from_utf8(late.take()).expect("ASCII");
    assert!(
        all == one.repeat(count),
        "{} of {}",
        all.len(),
        one.len() * count
    );
}

/// Long replies to one who has subscribed take the way through the other thread, which has no more
/// of them than it can send: the rest must follow.
#[test]
fn who_has_subscribed_gets_it_all_too() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    let addresses = (0..1000).map(|n| format!("a{n:08}.net=b{n:08}.net"));
    let addresses: Vec<_> = addresses.collect();
    controller.ask(&format!("MAPADDRESS {}", addresses.join(" ")));
    let command = format!("GETINFO{}", " address-mappings/all".repeat(200));
    let all = controller.ask(&command);
    assert!(all.len() > 5_000_000, "{}", all.len());
    assert_eq!(controller.ask("SETEVENTS SIGNAL"), "250 OK\r\n");
    for _ in 0..15 {
        let again = controller.ask(&command);
        assert!(again == all, "{} of {}", again.len(), all.len());
    }
}

/// Tor takes long commands in pieces, and the next waits for that: it must not wait for ever.
#[test]
fn long_commands_all_get_their_replies() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let socket = pair.place.socket();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..60 {
                    let mut controller = Wire::at(&socket);
                    controller.about = format!("round {round}");
                    let key = "x".repeat(70_000 + 30_000 * (round % 10));
                    let commands = format!("GETINFO {key}\r\nSIGNAL {round}\r\n").repeat(5);
                    assert!(controller.fence_behind(commands.as_bytes()));
                    let all = String::from_utf8(controller.take()).expect("ASCII");
                    assert_eq!(all.matches("\r\n").count(), 10);
                }
            });
        }
    });
}

/// Killed with replies that it has not read, its connection is reset: what it had at Tor goes.
#[test]
fn one_that_is_killed_loses_its_onion_services() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let key = format!("ED25519-V3:{}aA==", "aGho".repeat(21));
    let add = format!("ADD_ONION {key} Port=80");
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let mut killed = Wire::at(&pair.place.socket());
    let said = killed.ask(&add);
    assert!(said.ends_with("250 OK\r\n"), "{said}");
    let said = direct.ask(&add);
    assert!(said.starts_with("550 "), "it is in use: {said}");
    // The kernel closes the descriptors of one that is killed; no more than this happens.
    killed.send(&COMMAND.repeat(200));
    killed.until(b"250+info/names");
    drop(killed);
    eventually("its service is gone at Tor", || {
        direct.ask(&add).starts_with("250")
    });
}
