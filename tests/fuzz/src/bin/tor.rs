//! Everything that Tor says, on a controller's leg and on the daemon's own connection: however the
//! octets arrive, the controller gets the same, and nothing of it that was not asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbus::command::Replies;
use onionbus::tor::fence::Fence;
use onionbus::tor::identifiers::Identifiers;
use onionbus::tor::leg::{Leg, Output};
use onionbus::tor::login::{Login, Means};
use onionbus::tor::merge::{self, Merge, Share};
use onionbus::tor::names::Names;
use onionbus::tor::translate::{self, Question};
use onionbus::tor::watcher::{self, Subscription, Watcher};
use onionbus::wire::event::{EventKind, EventMask};
use onionbus::wire::reply::Value;
use onionbus::wire::request::{Request, Setting};
use onionbus::wire::{Dialect, Event};
use std::time::{Duration, Instant};

/// The most octets of a reply.
const MOST: usize = 2000;

fuzz_target!(|data: &[u8]| {
    let Some((&script, data)) = data.split_first() else {
        return;
    };
    // `@` stands for a fence's answer, which no fuzzer could guess.
    let fence = Fence::new([0xAB; 16]);
    let mut octets = Vec::new();
    for &octet in data {
        match octet {
            b'@' => octets.extend_from_slice(fence.answer()),
            other => octets.push(other),
        }
    }
    let whole = heard(script, &octets, octets.len(), &fence);
    // More than the last line of a reply has, too.
    for size in [1, 7, 13] {
        assert_eq!(whole, heard(script, &octets, size, &fence));
    }
    watches(&octets);
    logs_in(&octets, &fence);
});

/// What comes out of a leg that was asked a few commands, in text, and whether it is quiet.
fn heard(script: u8, octets: &[u8], size: usize, fence: &Fence) -> (Vec<u8>, Option<usize>, bool) {
    let mut leg = Leg::default();
    let has_fences = script & 1 == 0;
    leg.handle_open(has_fences, fence);
    let (mut commands, mut queries, mut notes) = (0, 0, 0);
    for bit in 1..6 {
        if script >> bit & 1 == 0 {
            let replies = if bit % 2 == 0 {
                Replies::One
            } else {
                Replies::Any
            };
            // Up to three, of which some are counted together.
            for nth in 0..=bit / 2 {
                leg.handle_command(b"X\r\n", usize::from(nth == 2), replies, fence);
                commands += 1;
            }
            if bit % 4 < 2 {
                leg.note_last();
                notes += 1;
            }
        } else if let Share::Both(query) = Share::of(&request(bit)) {
            leg.handle_query(query, fence);
            queries += 1;
        }
    }
    let before = leg.owed();
    assert_eq!(before, Some(commands + queries));
    let (mut out, mut passed, mut answers, mut gists) = (Vec::new(), 0, 0, 0);
    for part in octets.chunks(size.max(1)) {
        let mut outputs = Vec::new();
        let dropped = leg.handle_octets(part, fence, MOST, &mut outputs);
        assert!(dropped <= octets.len());
        for output in outputs {
            match output {
                Output::Replies(octets) => {
                    passed += octets.len();
                    out.extend_from_slice(&octets);
                }
                Output::Answer(query, answer) => {
                    answers += 1;
                    conclude(query.merge, answer, &mut out);
                }
                Output::Gist(_) => gists += 1,
            }
        }
    }
    assert!(passed <= octets.len() && answers <= queries && gists <= notes);
    if commands == 0 {
        assert_eq!(passed, 0, "nobody has asked for these");
    }
    if leg.is_quiet() {
        assert_eq!((leg.owed(), gists), (Some(0), notes));
    }
    (out, leg.owed(), leg.is_quiet())
}

fn request(bit: u8) -> Request<'static> {
    match bit % 3 {
        0 => Request::GetInfo(vec![
            b"version",
            b"info/names",
            b"new-messages",
            b"events/names",
        ]),
        1 => Request::GetConf(vec![b"Log", b"BusLog", b"ContactInfo"]),
        _ => {
            let setting = |name: &str| Setting {
                name: name.into(),
                value: Some(b"x".to_vec()),
            };
            Request::SetConf(vec![setting("Log"), setting("BusLog")])
        }
    }
}

/// The reply that is made of an answer.
fn conclude(merge: Merge, answer: Option<Vec<u8>>, out: &mut Vec<u8>) {
    let Some(answer) = answer else { return };
    assert!(answer.len() <= MOST);
    let mut identifiers = Identifiers::default();
    for question in [
        Question::Info(vec![b"version".to_vec(), b"addr-mappings/all".to_vec()]),
        Question::Conf,
        Question::Map,
        Question::Extend,
        Question::Descriptor,
        Question::Plain,
    ] {
        let mut frame = Vec::new();
        match translate::answer(&question, &answer, &mut identifiers) {
            Ok(reply) => Dialect::V0.encode_reply(&reply, &mut frame),
            Err(refusal) => Dialect::V0.encode_refusal(&refusal, &mut frame),
        };
    }
    match merge {
        Merge::Info(keys) if merge::has_agreed(&answer) => {
            let own = |_| Value::Octets(b"own".to_vec());
            out.extend(merge::info(&keys, &answer, MOST, own).unwrap_or_default());
        }
        Merge::Conf(names) => {
            let own = |_: &[u8]| Some(vec![("BusLog".into(), Some(b"notice".to_vec()))]);
            out.extend(merge::conf(&names, &answer, own).unwrap_or_default());
        }
        _ => out.extend_from_slice(&answer),
    }
}

/// What the daemon's own connection gives to controllers is an event that was asked for.
fn watches(octets: &[u8]) {
    let events: EventMask = [EventKind::Circ, EventKind::Notice].into_iter().collect();
    let now = Instant::now();
    let names = Names::default();
    let said = |size: usize| {
        let mut watcher = Watcher::default();
        watcher.handle_subscription(Subscription {
            key: 0,
            session: 1,
            events,
            needs: events,
        });
        watcher.handle_interest(EventMask::NONE, &names, now, Duration::from_secs(1));
        let mut outputs = Vec::new();
        for part in octets.chunks(size.max(1)) {
            watcher
                .handle_octets(part, &names, &mut outputs)
                .expect("less than any event may have");
        }
        outputs
    };
    let outputs = said(octets.len());
    assert_eq!(outputs, said(1));
    for output in outputs {
        if let watcher::Output::Event(kind, line) = output {
            assert!(events.contains(kind) && line.starts_with(b"650"));
            for dialect in Dialect::ALL {
                let line = line.clone();
                let mut out = Vec::new();
                dialect.encode_event(
                    &Event::OfTor {
                        kind,
                        number: 7,
                        line,
                    },
                    &mut out,
                );
            }
        }
    }
}

/// A login ends, or fails, or waits.
fn logs_in(octets: &[u8], fence: &Fence) {
    for size in [octets.len().max(1), 1] {
        let mut login = Login::new(Means::default(), [0; 32], "AB12", fence);
        for part in octets.chunks(size) {
            if !matches!(login.handle_octets(part), Ok(None)) {
                break;
            }
            assert!(!login.is_done() || login.transmit.ends_with(fence.command()));
        }
    }
}
