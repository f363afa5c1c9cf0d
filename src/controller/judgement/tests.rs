//! Commands of a restricted controller on their way to Tor: what is written, and when it is judged.

mod facts;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::controller::{Controller, Conversation, Entry, Next, Wait};
use crate::policy::{Behind, Grants, Identity, Ledger, Policy};
use crate::sys::peer::Peer;
use crate::wire::Dialect;
use crate::wire::fields::Onion;

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

fn grants(uid: u32, lines: &str) -> Grants {
    let identity = Identity {
        uid,
        ..Identity::default()
    };
    Grants::unite(&Policy::of_lines(lines), &identity)
}

/// A controller of alice's with these lines, before a Tor.
struct Play {
    controller: Controller,
    ledger: Ledger,
    options: BTreeSet<Vec<u8>>,
    tor: Upstream,
}

const ALICE: u32 = 1000;
const BOB: u32 = 1001;

impl Play {
    fn new(lines: &str) -> Self {
        Self::speaking(Dialect::Text, lines)
    }

    fn speaking(dialect: Dialect, lines: &str) -> Self {
        let peer = Peer {
            pid: 1,
            uid: ALICE,
            gid: 1,
        };
        let mut play = Self {
            controller: Controller::new(Conversation::new(1, peer, Some(dialect), Entry::Open)),
            ledger: Ledger::default(),
            options: [&b"maxcircuitdirtiness"[..], b"metricsportpolicy"]
                .map(<[u8]>::to_vec)
                .into(),
            tor: Upstream::new([0; 16]),
        };
        play.is_judged_by(lines);
        play
    }

    fn is_judged_by(&mut self, lines: &str) {
        self.controller.guard = Some(Box::new(Guard {
            session: 1,
            name: "unset".into(),
            identity: Arc::default(),
            grants: Arc::new(grants(ALICE, lines)),
        }));
    }

    fn next<'a>(&mut self, octets: &'a [u8]) -> crate::controller::Ask<'a> {
        let law = Law {
            ledger: &self.ledger,
            is_told: true,
            behind: Behind {
                options: Some(&self.options),
                ..Behind::default()
            },
        };
        match self
            .controller
            .poll_ask(octets, Some(&self.tor), Some(&law), None)
        {
            Next::Ask(ask) => ask,
            other => panic!("{}: {other:?}", octets.escape_ascii()),
        }
    }

    /// What becomes of one command: the octets that Tor is sent, or the reply.
    #[track_caller]
    fn outcome(&mut self, octets: &[u8]) -> String {
        let ask = self.next(octets);
        assert_eq!(ask.length, octets.len(), "{}", octets.escape_ascii());
        let judgement = ask.judgement.unwrap_or_default();
        let mut out = Vec::new();
        match ask.plan {
            Plan::Relay { .. } => out = judgement.octets.unwrap_or_else(|| b"as it came".into()),
            Plan::Ask(query) => out = query.command,
            Plan::Reply(reply) => text::encode_reply(&reply, &mut out),
            Plan::Refuse(refusal) => text::encode_refusal(&refusal, &mut out),
            Plan::Bus(_) => out = b"the bus's".into(),
        }
        self.controller.consumed();
        String::from_utf8_lossy(&out).trim_end().into()
    }
}

/// A frame of the last binary version.
fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&length[..], &kind.to_be_bytes(), body].concat()
}

const GET_INFO: u16 = 0x000B;
const SET_CONF: u16 = 0x0002;

#[test]
fn an_empty_change_of_options_does_not_reach_tor() {
    for lines in [
        "",
        "Allow getinfo version",
        "Allow setconf MaxCircuitDirtiness",
    ] {
        let mut play = Play::new(lines);
        for line in ["SETCONF\r\n", "resetconf  \r\n", "SETCONF \0x=1\r\n"] {
            assert_eq!(play.outcome(line.as_bytes()), "250 OK", "{lines}: {line:?}");
        }
        let mut play = Play::speaking(Dialect::V0, lines);
        for body in [&b""[..], b"\0", b"\n"] {
            let said = play.outcome(&frame(SET_CONF, body));
            assert_eq!(said, "250 OK", "{lines}: {body:?}");
        }
    }
    let mut play = Play::new("Allow all");
    assert_eq!(play.outcome(b"SETCONF\r\n"), "as it came");
}

#[test]
fn a_command_that_waits_is_judged_once_it_is_its_turn() {
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    let bob = grants(BOB, "").owner().cloned().unwrap();
    let add = format!("ONION_CLIENT_AUTH_ADD {ONION} x25519:AAAA\r\n");
    let mut play = Play::new("Allow client_auth add own");
    let ask = play.next(add.as_bytes());
    assert!(matches!(ask.plan, Plan::Relay { .. }));
    play.controller.hold(ask, Wait::Answers);
    play.ledger.handle_key(&onion, bob, false);
    assert_eq!(play.outcome(add.as_bytes()), "510 Command filtered (p)");

    let mut play = Play::new("Allow add_onion ports=80 max=1");
    let add = b"ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600\r\n";
    let ask = play.next(add);
    assert!(matches!(ask.plan, Plan::Relay { .. }));
    play.controller.hold(ask, Wait::Room);
    let alice = grants(ALICE, "").owner().cloned();
    play.ledger.handle_add_onion(alice.as_ref());
    play.ledger.handle_onion(alice.as_ref(), Some(&onion));
    assert_eq!(play.outcome(add), "551 Too many onion services");
}

#[test]
fn another_policy_judges_what_waits_too() {
    let set = b"SETCONF MaxCircuitDirtiness=777\r\n";
    let save = b"SAVECONF\r\n";
    for (before, command, wait) in [
        ("Allow all", &set[..], Wait::Answers),
        ("Complain", set, Wait::Room),
        ("Allow setconf MaxCircuitDirtiness", set, Wait::Answers),
        ("Allow all", save, Wait::Answers),
        ("Allow saveconf", save, Wait::Restore),
    ] {
        let mut play = Play::new(before);
        let ask = play.next(command);
        assert!(!matches!(ask.plan, Plan::Refuse(_)), "{before}");
        play.controller.hold(ask, wait);
        play.is_judged_by("Allow getinfo version");
        play.controller.forget_verdict();
        let said = play.outcome(command);
        assert!(said.starts_with('5'), "{before}: {said}");
    }
    // Work that has begun is that command, whatever is allowed from then on.
    let mut play = Play::new("Allow saveconf");
    let ask = play.next(save);
    play.controller.hold(ask, Wait::Work);
    play.is_judged_by("");
    play.controller.forget_verdict();
    assert!(play.controller.held_work().is_some());
    assert!(!play.outcome(save).starts_with("510"));
}

#[test]
fn a_value_in_a_frame_has_no_line_ends_either() {
    let lines = "Allow setconf MetricsPortPolicy\nAllow resetconf MetricsPortPolicy";
    for value in ["\"a\\r\\n250 x\"", "\"a\\nb\"", "\"a\\rb\"", "\"a\\000b\""] {
        let body = format!("MetricsPortPolicy {value}\n\0");
        let mut play = Play::speaking(Dialect::V0, lines);
        let said = play.outcome(&frame(SET_CONF, body.as_bytes()));
        assert!(said.starts_with("512 "), "{body:?}: {said}");
        let mut play = Play::new(lines);
        let line = format!("SETCONF MetricsPortPolicy={value}\r\n");
        let said = play.outcome(line.as_bytes());
        assert!(said.starts_with("512 "), "{line:?}: {said}");
    }
    let mut play = Play::speaking(Dialect::Tc, lines);
    let said = play.outcome(&frame(SET_CONF, b"MetricsPortPolicy\0a\r\n250 x\0"));
    assert!(said.starts_with("512 "), "{said}");
    let mut play = Play::speaking(Dialect::V0, lines);
    let said = play.outcome(&frame(SET_CONF, b"MetricsPortPolicy a\tb\n\0"));
    assert_eq!(said, "SETCONF MetricsPortPolicy=\"a\\tb\"");
}

#[test]
fn a_key_with_a_line_end_does_not_reach_tor() {
    let mut play = Play::new("Allow getinfo ns/id/* version\nAllow getconf *");
    for line in [
        "GETINFO ns/id/a\rb\r\n",
        "GETINFO version ns/id/\r\r.\r\n",
        "GETCONF a\rb\r\n",
        "GETINFO nonesuch\r250\r\n",
    ] {
        let said = play.outcome(line.as_bytes());
        assert!(said.starts_with("512 "), "{line:?}: {said}");
    }
    let line = b"GETINFO version\r \r ns/id/a\r\n";
    assert_eq!(play.outcome(line), "GETINFO version ns/id/a");
}

#[test]
fn what_a_parser_would_have_refused_is_a_complaint_too() {
    let complaint = |play: &mut Play, octets: &[u8]| {
        let ask = play.next(octets);
        assert!(!matches!(ask.plan, Plan::Refuse(_)));
        play.controller.consumed();
        let denied = ask.judgement.and_then(|judgement| judgement.denied);
        denied.map(|denied| (denied.verb, denied.status, denied.is_complaint))
    };
    let mut play = Play::new("Complain\nAllow add_onion ports=80");
    let line = b"ADD_ONION NEW:BEST Flags=DiscardPK Port=80,127.1:80\r\n";
    let expected = Some((Verb::AddOnion, 512, true));
    assert_eq!(complaint(&mut play, line), expected);
    let line = b"ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600\r\n";
    assert_eq!(complaint(&mut play, line), None);
    let mut play = Play::new("Allow all");
    let line = b"ADD_ONION NEW:BEST Port=80,127.1:80\r\n";
    assert_eq!(complaint(&mut play, line), None);
}

#[test]
fn frames_are_written_anew_too() {
    let lines = "Allow getinfo version\nAllow circuits close any\nAllow mapaddress\n\
                 Allow setconf MaxCircuitDirtiness=10-600\nAllow streams close any";
    let mut play = Play::speaking(Dialect::V0, lines);
    for (kind, body, expected) in [
        (
            GET_INFO,
            &b"version\nversion\0"[..],
            "GETINFO version version",
        ),
        (
            GET_INFO,
            b"version\naddress\0",
            "552 Unrecognized key \"address\"",
        ),
        (
            SET_CONF,
            b"MaxCircuitDirtiness  20\0",
            "SETCONF MaxCircuitDirtiness=\"20\"",
        ),
        (
            SET_CONF,
            b"MaxCircuitDirtiness 9\0",
            "513 Unacceptable option value: ",
        ),
        (0x0014, b"\0\0\0\x07\x01", "CLOSECIRCUIT 7 IfUnused"),
        (0x0013, b"\0\0\0\x07\x01\0", "CLOSESTREAM 7 1"),
        (0x000A, b"a b\n\0", "MAPADDRESS a=b"),
        (0x0012, b"\0\0\0\x07b\0", "510 Command filtered (p)"),
        (0x000D, b"\0\0\0\x07x\0", "510 Command filtered (p)"),
        (0x0009, b"\x01", "552 Unrecognized signal code "),
    ] {
        let said = play.outcome(&frame(kind, body));
        assert!(said.starts_with(expected), "{kind:04X} {body:?}: {said}");
    }
}
