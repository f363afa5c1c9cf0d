//! Loses nothing: three joined buses, everything killed, every message counted.
//!
//! `ONIONBUS_BRIDGE_MESSAGES` is how many are posted in all, 12,000 unless it says more.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use support::{Bridge, Bus, Controller, Dropped, Nats, PATIENCE, Place, has_nats};

const HOSTS: [&str; 3] = ["one", "two", "three"];

/// How many are posted before their answers are read.
const PIPELINE: u64 = 20;

/// How many messages the posters have posted.
#[derive(Default)]
struct Progress {
    posted: Mutex<[u64; 3]>,
    /// The highest number that anybody else has read of each.
    read: Mutex<[u64; 3]>,
    /// The most that a poster is ahead of those who read it.
    lead: u64,
    more: Condvar,
    less: Condvar,
}

impl Progress {
    fn set(&self, poster: usize, end: u64) {
        self.posted.lock().unwrap()[poster] = end;
        self.more.notify_all();
    }

    /// A number of a poster was read.
    fn read(&self, poster: usize, number: u64) {
        let mut read = self.read.lock().unwrap();
        read[poster] = read[poster].max(number);
        self.less.notify_all();
    }

    /// Waits until a poster may go on.
    fn pace(&self, poster: usize, end: u64) {
        let read = self.read.lock().unwrap();
        let is_ahead = |read: &mut [u64; 3]| read[poster] + self.lead < end;
        let (read, waited) = self
            .less
            .wait_timeout_while(read, PATIENCE, is_ahead)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "nobody reads {poster}: {read:?} of {end}"
        );
    }

    /// Waits until everybody has been read this far.
    fn reach(&self, number: u64) {
        for poster in 0..3 {
            let read = self.read.lock().unwrap();
            let is_before = |read: &mut [u64; 3]| read[poster] < number;
            let (read, waited) = self
                .less
                .wait_timeout_while(read, PATIENCE, is_before)
                .unwrap();
            assert!(!waited.timed_out(), "nobody reads up to {number}: {read:?}");
        }
    }

    /// Waits until these posters have all come this far.
    fn wait(&self, posters: &[usize], posted: u64) {
        let state = self.posted.lock().unwrap();
        let is_before = |state: &mut [u64; 3]| posters.iter().any(|poster| state[*poster] < posted);
        let (state, waited) = self
            .more
            .wait_timeout_while(state, PATIENCE, is_before)
            .unwrap();
        assert!(!waited.timed_out(), "no progress to {posted}: {state:?}");
    }
}

/// Whom a message is for: 0 to 2 a host, 3 all.
type Destination = usize;

/// What a poster was answered `250 OK`: of each number, where to.
type Accepted = BTreeMap<u64, Destination>;

/// Posts `count` messages, by turns to the others and to all, and says what was accepted.
fn post(own: usize, bus: &Bus, count: u64, progress: &Progress) -> Accepted {
    let mut accepted = Accepted::new();
    let mut poster = bus.controller("poster");
    let others: Vec<_> = (0..3).filter(|host| *host != own).collect();
    let mut number = 0;
    while number < count {
        let end = count.min(number + PIPELINE);
        let to = |number: u64| match number % 3 {
            0 => others[0],
            1 => others[1],
            _ => 3,
        };
        let mut octets = String::new();
        for number in number..end {
            let written = match HOSTS.get(to(number)) {
                None => write!(octets, "POSTMESSAGE @all {number}\r\n"),
                Some(host) => write!(octets, "POSTMESSAGE @reader_at_{host} {number}\r\n"),
            };
            written.unwrap();
        }
        poster.send(octets.as_bytes());
        let mut away = None;
        for number in number..end {
            match &poster.reply()[..] {
                "250 OK" => {
                    accepted.insert(number, to(number));
                }
                reply if reply.starts_with("552 ") => away = Some(to(number)),
                reply => panic!("{reply}"),
            }
        }
        progress.set(own, end);
        progress.pace(own, end);
        if let Some(host) = away {
            bus.wait_for(&format!("reader_at_{}", HOSTS[host]), true);
        }
        number = end;
    }
    accepted
}

/// What a reader has heard: of each sender, and whether to all, the numbers in order.
type Heard = BTreeMap<(String, bool), Vec<u64>>;

/// Reads until both others have said `end`, to all and to this reader.
fn read(mut reader: Controller, progress: &Progress) -> Heard {
    let mut heard = Heard::new();
    let mut ends = 0;
    while ends < 4 {
        let (source, to, text) = reader.message();
        let text = String::from_utf8(text).unwrap();
        match text.parse() {
            Ok(number) => {
                let host = source.strip_prefix("poster_at_");
                let poster = HOSTS.iter().position(|other| Some(*other) == host);
                if let Some(poster) = poster {
                    progress.read(poster, number);
                }
                heard
                    .entry((source, to == "@all"))
                    .or_default()
                    .push(number);
            }
            // One of its own comes too.
            Err(_) if source == "last" => {}
            Err(_) => ends += 1,
        }
    }
    heard
}

/// Kills and stops everything, while messages are posted and read.
fn accidents(
    count: u64,
    progress: &Progress,
    nats: &mut Nats,
    buses: &[Arc<Bus>; 3],
    bridges: &mut [Bridge; 3],
) {
    // Each accident comes after a part of the whole, and most last for another one.
    let part = |parts: u64| count * parts / 20;
    let all = [0, 1, 2];
    progress.reach(part(2));
    bridges[1].kill();
    bridges[1].start();

    progress.reach(part(4));
    nats.kill();
    progress.wait(&all, part(5));
    nats.start();

    progress.reach(part(6));
    bridges[2].signal(Signal::SIGSTOP);
    progress.wait(&[0, 1], part(8));
    bridges[2].signal(Signal::SIGCONT);

    progress.reach(part(9));
    for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
        // A machine is away.
        buses[2].signal(signal);
        bridges[2].signal(signal);
        progress.wait(&[0, 1], part(11));
    }

    progress.reach(part(12));
    nats.signal(Signal::SIGSTOP);
    progress.wait(&all, part(13));
    nats.signal(Signal::SIGCONT);

    progress.reach(part(14));
    // A slow side, and its bridge killed meanwhile.
    buses[1].signal(Signal::SIGSTOP);
    progress.wait(&[0, 2], part(15));
    bridges[1].kill();
    buses[1].signal(Signal::SIGCONT);
    bridges[1].start();

    progress.reach(part(16));
    nats.kill();
    for bridge in bridges.iter_mut() {
        bridge.kill();
    }
    nats.start();
    for bridge in bridges.iter_mut() {
        bridge.start();
    }

    progress.reach(part(18));
    for bridge in bridges.iter_mut() {
        bridge.kill();
        bridge.start();
    }
}

#[test]
fn every_message_arrives_once_or_is_counted() {
    if !has_nats() {
        return;
    }
    let count: u64 = std::env::var("ONIONBUS_BRIDGE_MESSAGES")
        .map_or(12_000, |count| count.parse().expect("a number"))
        / 3;
    let place = Place::new();
    let mut nats = place.nats("");
    let options = ["BusHistory 10000", "BusMaxQueue 256 MB"];
    let buses = HOSTS.map(|host| Arc::new(place.bus(host, &options)));
    let mut bridges = HOSTS.map(|host| place.bridge(host, &nats.url(), &[]));
    for bridge in &mut bridges {
        bridge.set("--log", "info");
        bridge.start();
    }
    let progress = Arc::new(Progress {
        lead: (count / 20 * 3).max(500),
        ..Progress::default()
    });
    let readers: Vec<_> = buses
        .iter()
        .map(|bus| {
            let mut reader = bus.controller("reader");
            assert_eq!(reader.ask("SETEVENTS POSTMESSAGE"), "250 OK");
            let progress = Arc::clone(&progress);
            thread::spawn(move || read(reader, &progress))
        })
        .collect();
    for (own, bus) in buses.iter().enumerate() {
        for host in (0..3).filter(|host| *host != own) {
            bus.wait_for(&format!("reader_at_{}", HOSTS[host]), true);
        }
    }

    let begin = Instant::now();
    let posters: Vec<_> = (0..3)
        .map(|own| {
            let (bus, progress) = (Arc::clone(&buses[own]), Arc::clone(&progress));
            thread::spawn(move || post(own, &bus, count, &progress))
        })
        .collect();

    accidents(count, &progress, &mut nats, &buses, &mut bridges);

    let accepted: Vec<_> = posters
        .into_iter()
        .map(|poster| poster.join().unwrap())
        .collect();
    for (own, bus) in buses.iter().enumerate() {
        let mut last = bus.controller("last");
        assert_eq!(last.ask("POSTMESSAGE @all end"), "250 OK");
        for host in (0..3).filter(|host| *host != own) {
            let reader = format!("reader_at_{}", HOSTS[host]);
            bus.wait_for(&reader, true);
            assert_eq!(last.ask(&format!("POSTMESSAGE @{reader} end")), "250 OK");
        }
    }
    let heard: Vec<_> = readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .collect();
    let took = begin.elapsed();
    let dropped = bridges.each_mut().map(Bridge::stop);
    check(&accepted, &heard, &dropped);
    println!("{} messages in {took:.1?}", 3 * count);
}

/// Each message that was accepted has arrived once and in order, or was counted. Order is that of
/// messages to a name, and of those to all.
fn check(accepted: &[Accepted], heard: &[Heard], dropped: &[Dropped]) {
    let (mut arrived, mut missing) = (0, 0);
    for (reader, heard) in heard.iter().enumerate() {
        for (poster, accepted) in accepted.iter().enumerate() {
            for destination in [reader, 3] {
                let source = if poster == reader {
                    "poster".to_owned()
                } else {
                    format!("poster_at_{}", HOSTS[poster])
                };
                let way = format!("{source} to {} ({destination})", HOSTS[reader]);
                let sent = accepted.iter().filter(|(_, to)| **to == destination);
                let sent: Vec<_> = sent.map(|(number, _)| *number).collect();
                let key = (source, destination == 3);
                let got = heard.get(&key).map(Vec::as_slice).unwrap_or_default();
                for pair in got.windows(2) {
                    assert!(pair[0] < pair[1], "{way}: {pair:?}, twice or in no order");
                }
                for number in got {
                    assert!(
                        sent.binary_search(number).is_ok(),
                        "{way}: {number} was not sent"
                    );
                }
                let lost = sent.len() - got.len();
                if lost > 0 {
                    let is_lost = |number: &&u64| got.binary_search(number).is_err();
                    let lost: Vec<_> = sent.iter().filter(is_lost).collect();
                    println!("{way}: without {lost:?}");
                }
                assert!(
                    poster != reader || lost == 0,
                    "the bus itself has lost {lost}"
                );
                arrived += got.len();
                missing += lost;
            }
        }
    }
    for (host, dropped) in HOSTS.iter().zip(dropped) {
        println!("dropped by {host}:{}", dropped.shown());
    }
    // One to all that its own side has missed is missing on two others.
    let counted: u64 = dropped
        .iter()
        .map(|one| one.lost() + one.of("missed"))
        .sum();
    println!("{arrived} arrived, {missing} missing, {counted} counted as dropped");
    assert!(
        missing as u64 <= counted,
        "{missing} are missing, and only {counted} are counted"
    );
}
