//! The policy: whatever a restricted controller sends, a Tor receives only what is granted.
//!
//! The first octet chooses one of three profiles, and the dialect. Each command that is allowed is
//! written from its fields for a Tor that records; what it has recorded is read again, and looked at
//! as plain text, without the code that judged it. The same is done with all that a controller makes
//! of the octets, which may be frames.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use onionbus::controller::{Controller, Conversation, Entry, Next, Plan};
use onionbus::policy::{
    Behind, Grants, Guard, Identity, Law, Ledger, Names, Policy, Source, Verdict, judge,
};
use onionbus::sys::peer::Peer;
use onionbus::tor::upstream::Upstream;
use onionbus::wire::Dialect;
use onionbus::wire::fields::{self, Fields};
use onionbus::wire::text::{self, Framed, Framer};

/// The profiles, and whether a line that reached Tor is one that they mean.
const PROFILES: [(&str, fn(&str) -> bool); 3] = [
    (
        "Allow signal NEWNYM\nAllow getinfo version ns/id/*\nAllow events CIRC BW:quiet",
        |line| {
            let words = |start: &str| line.strip_prefix(start).map(|rest| rest.split(' '));
            let is_key = |key: &str| {
                matches!(key, "version" | "whoami" | "policy" | "") || key.starts_with("ns/id/")
            };
            let is_event = |event: &str| {
                [
                    "CIRC",
                    "BW",
                    "TOR",
                    "POLICY",
                    "RESTORE",
                    "EXTENDED",
                    "AUTHDIR_NEWDESCS",
                    "",
                ]
                .contains(&&*event.to_ascii_uppercase())
            };
            line.eq_ignore_ascii_case("SIGNAL NEWNYM")
                || words("GETINFO").is_some_and(|mut keys| keys.all(is_key))
                || words("SETEVENTS").is_some_and(|mut events| events.all(is_event))
                || is_anybodys(line)
        },
    ),
    (
        "Allow add_onion ports=80=17600-17659 force=DiscardPK max=1000",
        |line| {
            let Some(rest) = line.strip_prefix("ADD_ONION ") else {
                return is_anybodys(line);
            };
            let mut words = rest.split(' ').skip(1);
            let has_flag = rest.contains(" Flags=DiscardPK ");
            has_flag
                && words.all(|word| match word.split_once('=') {
                    Some(("Port", port)) => port.split_once(',').is_some_and(|(port, target)| {
                        let end = target.rsplit(':').next().unwrap_or_default();
                        let is_here = target.starts_with("127.")
                            || target.starts_with("[::1]:")
                            || target.starts_with("[::ffff:127.");
                        port == "80"
                            && is_here
                            && end
                                .parse::<u16>()
                                .is_ok_and(|port| (17600..=17659).contains(&port))
                    }),
                    Some(("Flags", flags)) => flags == "DiscardPK",
                    Some((key, _)) => key == "MaxStreams" || key.starts_with("PoW"),
                    None => false,
                })
        },
    ),
    (
        "Allow setconf DisableNetwork=0|1 MaxCircuitDirtiness=10-600\nAllow resetconf Log\n\
         Allow getconf Log",
        |line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let is_set = |word: &str| {
                let (option, value) = word.split_once('=').unwrap_or((word, ""));
                let value = value.trim_matches('"');
                match option.to_ascii_lowercase().as_str() {
                    "disablenetwork" => matches!(value, "0" | "1"),
                    "maxcircuitdirtiness" => value
                        .parse::<u32>()
                        .is_ok_and(|value| (10..=600).contains(&value)),
                    "log" => name == "RESETCONF" && !word.contains('='),
                    _ => false,
                }
            };
            match name {
                "SETCONF" | "RESETCONF" => words.all(is_set),
                "GETCONF" => words.all(|word| word.eq_ignore_ascii_case("log")),
                _ => is_anybodys(line),
            }
        },
    ),
];

/// What everybody may do.
fn is_anybodys(line: &str) -> bool {
    let mut words = line.split(' ');
    match words.next().unwrap_or_default() {
        "USEFEATURE" => true,
        "GETINFO" => words.all(|key| matches!(key, "whoami" | "policy")),
        "SETEVENTS" => words.all(|event| {
            let events = ["TOR", "POLICY", "RESTORE", "EXTENDED", "AUTHDIR_NEWDESCS"];
            events.contains(&&*event.to_ascii_uppercase())
        }),
        "GETCONF" | "SETCONF" | "RESETCONF" => words.next().is_none(),
        _ => false,
    }
}

fn grants(lines: &str) -> Grants {
    let text = format!("Profile p\nMatch any\n{lines}\n");
    let source = Source {
        file: "p",
        text: text.as_bytes(),
        group: 0,
    };
    Grants::unite(
        &Policy::parse(&[source], &Names::default()).expect("it is right"),
        &Identity::default(),
    )
}

/// What a Tor receives for a command, if it is allowed.
fn passed(grants: &Grants, octets: &[u8]) -> Option<Vec<u8>> {
    let Framed::Command(command) = Framer::default().next(octets) else {
        return None;
    };
    let fields = text::verb(command.keyword)
        .and_then(|verb| fields::parse(verb, &command))
        .ok()?;
    match judge(grants, &Ledger::default(), &Behind::default(), &fields) {
        // The bus answers these itself.
        Verdict::Allow(allowed) if matches!(allowed.fields, Fields::Session(_)) => None,
        Verdict::Allow(allowed) => {
            let mut out = Vec::new();
            allowed.fields.write(&mut out);
            Some(out)
        }
        Verdict::Refuse(refused) => {
            let mut out = Vec::new();
            text::encode_refusal(&refused.refusal, &mut out);
            assert!(!out.starts_with(b"514") && !out.starts_with(b"515"));
            None
        }
    }
}

/// All that a Tor is sent of a restricted controller's octets.
fn relayed(grants: Grants, dialect: Dialect, mut octets: &[u8]) -> Vec<Vec<u8>> {
    let peer = Peer {
        pid: 1,
        uid: 1000,
        gid: 1000,
    };
    let mut controller = Controller::new(Conversation::new(1, peer, Some(dialect), Entry::Open));
    controller.guard = Some(Box::new(Guard {
        session: 1,
        name: "unset".into(),
        identity: Arc::default(),
        grants: Arc::new(grants),
    }));
    let options = [&b"disablenetwork"[..], b"maxcircuitdirtiness", b"log"];
    let options: BTreeSet<_> = options.map(<[u8]>::to_vec).into();
    let (ledger, tor) = (Ledger::default(), Upstream::new([0; 16]));
    let law = Law {
        ledger: &ledger,
        is_told: true,
        behind: Behind {
            options: Some(&options),
            ..Behind::default()
        },
    };
    let mut sent = Vec::new();
    while let Next::Ask(ask) = controller.poll_ask(octets, Some(&tor), Some(&law), None) {
        match ask.plan {
            Plan::Relay { .. } => {
                let judged = ask.judgement.and_then(|judgement| judgement.octets);
                sent.push(judged.expect("a restricted command goes on as it is written"));
            }
            Plan::Ask(query) => sent.push(query.command),
            Plan::Bus(_) | Plan::Reply(_) | Plan::Refuse(_) => {}
        }
        controller.consumed();
        octets = octets.get(ask.length..).unwrap_or_default();
    }
    sent
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, mut rest)) = data.split_first() else {
        return;
    };
    let choice = usize::from(*choice);
    let (lines, is_meant) = PROFILES[choice % PROFILES.len()];
    let dialects = [Dialect::Text, Dialect::Tc, Dialect::V0];
    let dialect = dialects[choice / PROFILES.len() % dialects.len()];
    for sent in relayed(grants(lines), dialect, rest) {
        let line = String::from_utf8_lossy(&sent);
        let shown = sent.escape_ascii();
        assert!(is_meant(line.trim_end_matches("\r\n")), "{shown}");
    }
    let grants = grants(lines);
    let mut framer = Framer::default();
    while let Framed::Command(command) = framer.next(rest) {
        let (octets, after) = rest.split_at(command.length);
        rest = after;
        let Some(recorded) = passed(&grants, octets) else {
            continue;
        };
        let shown = recorded.escape_ascii();
        // Tor finds one command where one was judged.
        match Framer::default().next(&recorded) {
            Framed::Command(again) => assert_eq!(again.length, recorded.len(), "{shown}"),
            other => panic!("{shown}: {other:?}"),
        }
        assert_eq!(
            passed(&grants, &recorded).as_ref(),
            Some(&recorded),
            "{shown}"
        );
        let line = String::from_utf8_lossy(&recorded);
        assert!(is_meant(line.trim_end_matches("\r\n")), "{shown}");
    }
});
