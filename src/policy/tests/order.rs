//! The order of blocks, files and lines never matters, and what is listed grants the same.

use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// Lines that a block may have, and commands that some of them speak of.
const LINES: &[&str] = &[
    "Allow all",
    "Allow getinfo version ns/id/* *",
    "Allow getinfo config-text",
    "Deny getinfo version",
    "Deny getinfo",
    "Allow getconf * HashedControlPassword",
    "Allow setconf Log SocksPort=9050|9060-9070",
    "Allow setconf SocksPort=1",
    "Deny setconf SocksPort=9065",
    "Allow resetconf Log",
    "Allow events * ",
    "Allow events CIRC:own STREAM:quiet",
    "Allow events CIRC STREAM:own",
    "Allow events CONTROLLER:own",
    "Deny events CIRC",
    "Deny events CONTROLLER",
    "Allow signal NEWNYM HUP",
    "Allow add_onion ports=80,443=8443 flags=Detach,DiscardPK",
    "Allow add_onion ports=* target=loopback force=DiscardPK max=1",
    "Allow add_onion ports=* key=stored strip=Detach",
    "Deny add_onion ports=443",
    "Deny add_onion key=stored",
    "Allow add_onion ports=* target=unix:/run/* target=loopback:1-65535",
    "Deny add_onion target=unix:/run/x",
    "Deny add_onion target=loopback",
    "Allow del_onion own",
    "Allow onions all",
    "Deny onions all",
    "Allow client_auth add view own",
    "Allow client_auth remove view any",
    "Deny client_auth view",
    "Allow circuits build close own",
    "Allow circuits close any",
    "Deny circuits close own",
    "Allow hsfetch",
    "Allow loadconf",
    "Deny resetconf",
    "Allow name {user}_* x",
    "Deny name x",
    "Allow post @all @bob",
    "Allow read @all",
    "Allow list",
    "Deny list",
    "Allow busconf get *",
    "Allow busconf set BusLog",
    "Allow busconf set *",
    "Deny busconf set BusMaxQueue",
    "Allow bussignal BUSRELOAD",
    "Deny all",
    "Answer uptime=1",
    "Answer Log=x",
    "Keep onions 5",
    "Keep onions 7",
    "Own-Socks user=a",
    "Complain",
    "Match user=alice",
    "Match group=tor",
    "Use base",
];

const COMMANDS: &[&str] = &[
    "GETINFO version uptime",
    "GETINFO config-text",
    "GETINFO onions/current circuit-status",
    "GETCONF Log HashedControlPassword",
    "GETCONF BusLog",
    "SETCONF Log=x SocksPort=9065",
    "SETCONF SocksPort=1 BusLog=debug",
    "RESETCONF Log",
    "SETEVENTS CIRC STREAM",
    "SETEVENTS CONTROLLER",
    "SIGNAL HUP",
    "SIGNAL BUSRELOAD",
    "ADD_ONION NEW:BEST Port=443,8443",
    "ADD_ONION NEW:BEST Port=80,8080 Flags=Detach",
    "ADD_ONION ED25519-V3:AAAA Port=80,8080 Flags=Detach",
    "ADD_ONION NEW:BEST Port=80,unix:/run/x",
    "ADD_ONION NEW:BEST Port=80,unix:/run/./x",
    "ONION_CLIENT_AUTH_VIEW",
    "CLOSECIRCUIT 7",
    "EXTENDCIRCUIT 0",
    "HSFETCH duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "+LOADCONF\r\nx\r\n.",
    "+LOADCONF\r\nBusLog x\r\n.",
    "CONTROLLERNAME x",
    "CONTROLLERNAME alice_1",
    "POSTMESSAGE @bob x",
    "DROPGUARDS",
];

fn verdicts(grants: &Grants) -> Vec<Verdict> {
    let options = options();
    let behind = Behind {
        options: Some(&options),
        ..Behind::default()
    };
    let mut ledger = Ledger::default();
    if let Some(owner) = alice().owner() {
        ledger.handle_circuit(7, owner);
    }
    let judge = |line: &&str| judge(grants, &ledger, &behind, &fields(line));
    COMMANDS.iter().map(judge).collect()
}

/// Lines that deny, each with a command of which it covers something.
const DENIES: &[(&str, &str)] = &[
    ("Deny all", "SETEVENTS CONTROLLER"),
    ("Deny list", "SETEVENTS CONTROLLER"),
    ("Deny list", "GETINFO list-controllers"),
    ("Deny events", "SETEVENTS CONTROLLER"),
    ("Deny events CONTROLLER", "SETEVENTS BW CONTROLLER"),
    ("Deny events CIRC", "SETEVENTS STREAM CIRC"),
    ("Deny getinfo uptime", "GETINFO version uptime"),
    ("Deny getconf Log", "GETCONF Log"),
    ("Deny setconf Log=x", "SETCONF Log=y Log=x"),
    ("Deny resetconf Log", "RESETCONF Log"),
    ("Deny busconf", "+LOADCONF\r\nBusLog x\r\n."),
    ("Deny busconf set BusLog", "+LOADCONF\r\nBusLog x\r\n."),
    ("Deny busconf set BusLog", "SETCONF BusLog=x"),
    ("Deny busconf get BusLog", "GETCONF BusLog"),
    ("Deny setconf Log=x", "+LOADCONF\r\nLog x\r\n."),
    ("Deny signal HUP", "SIGNAL RELOAD"),
    (
        "Deny add_onion target=unix:/run/x",
        "ADD_ONION NEW:BEST Port=80,unix:/run/x",
    ),
    (
        "Deny add_onion target=unix:/run/x",
        "ADD_ONION NEW:BEST Port=80,unix:/run/./x",
    ),
    (
        "Deny add_onion target=unix:/run/x",
        "ADD_ONION NEW:BEST Port=80,unix://run/x",
    ),
    (
        "Deny add_onion target=loopback",
        "ADD_ONION NEW:BEST Port=80,127.0.0.1:22",
    ),
    ("Deny read", "SETEVENTS POSTMESSAGE"),
    ("Deny name x", "CONTROLLERNAME x"),
    ("Deny post @bob", "POSTMESSAGE @bob x"),
];

/// Blocks of some lines, as the text of each.
fn blocks() -> impl Strategy<Value = Vec<(String, Vec<&'static str>)>> {
    let block = subsequence(LINES, 0..12);
    proptest::collection::vec(block, 1..4).prop_map(|blocks| {
        let mut named: Vec<_> = blocks
            .into_iter()
            .enumerate()
            .map(|(n, lines)| (format!("p{n}"), lines))
            .collect();
        named.push((
            "base".into(),
            vec!["Allow getinfo traffic/read", "Deny signal HUP"],
        ));
        named
    })
}

fn shuffled<T: Clone>(items: &[T], seeds: &[usize]) -> Vec<T> {
    let mut items = items.to_vec();
    for (at, seed) in seeds.iter().enumerate() {
        if !items.is_empty() {
            let (one, other) = (at % items.len(), seed % items.len());
            items.swap(one, other);
        }
    }
    items
}

fn text_of((name, lines): &(String, Vec<&'static str>)) -> String {
    format!("Profile {name}\n{}\n", lines.join("\n"))
}

proptest! {
    #[test]
    fn order_never_changes_a_verdict(
        blocks in blocks(),
        seeds in proptest::collection::vec(any::<usize>(), 20),
        at in any::<prop::sample::Index>(),
    ) {
        let texts: Vec<_> = blocks.iter().map(text_of).collect();
        let first: Vec<_> = texts.iter().map(String::as_str).collect();
        let mut moved = shuffled(&blocks, &seeds);
        for (_, lines) in &mut moved {
            *lines = shuffled(lines, &seeds);
        }
        // Some of the blocks in one file, and the rest in another.
        let texts: Vec<_> = moved.iter().map(text_of).collect();
        let (one, other) = texts.split_at(at.index(texts.len()));
        let second = [one.concat(), other.concat()];
        let second: Vec<_> = second.iter().map(String::as_str).collect();
        let (first, second) = (read(&first).unwrap(), read(&second).unwrap());
        for identity in [alice(), bob()] {
            let (one, other) =
                (Grants::unite(&first, &identity), Grants::unite(&second, &identity));
            prop_assert_eq!(verdicts(&one), verdicts(&other));
            prop_assert_eq!(one.list(), other.list());
            prop_assert_eq!(&one, &other);
        }
    }

    #[test]
    fn a_deny_that_covers_a_command_holds_beside_all_lines(
        blocks in blocks(),
        (deny, command) in select(DENIES),
    ) {
        let mut texts: Vec<_> = blocks.iter().map(text_of).collect();
        texts.push(format!("Profile denies\nMatch user=alice\n{deny}\n"));
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let grants = Grants::unite(&read(&texts).unwrap(), &alice());
        let options = options();
        let behind = Behind {
            options: Some(&options),
            ..Behind::default()
        };
        let verdict = judge(&grants, &Ledger::default(), &behind, &fields(command));
        prop_assert!(matches!(verdict, Verdict::Refuse(_)), "{deny}: {command}: {verdict:?}");
    }

    #[test]
    fn what_is_listed_grants_the_same(blocks in blocks()) {
        let texts: Vec<_> = blocks.iter().map(text_of).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let grants = Grants::unite(&read(&texts).unwrap(), &alice());
        let again = format!("Profile again\nMatch any\n{}\n", grants.list().join("\n"));
        let mut again = Grants::unite(&read(&[&again]).unwrap(), &alice());
        again.profiles = grants.profiles.clone();
        prop_assert_eq!(&grants, &again);
    }

    #[test]
    fn no_octets_make_it_panic(
        words in proptest::collection::vec(select(&[
            "Profile", "Match", "Use", "Allow", "Deny", "Answer", "Keep", "Own-Socks", "add_onion",
            "ports=", "=", "*", "\"", "\\", "{user}", "own", "any", "-", "1", "loopback:", ":", "[",
            "unix:/", "events", "setconf", "|", "\n", " ", "\u{e4}", "circuits", "getinfo", "a",
        ][..]), 0..40),
        event: Vec<u8>,
    ) {
        let _ = read(&[&words.concat()]);
        let mut ledger = Ledger::default();
        ledger.handle_event(&event);
        let lines = "Allow events CIRC:own STREAM:own HS_DESC:own CONF_CHANGED:own";
        let grants = grants_of(&alice(), lines);
        let _ = ledger.deliver(&grants, 1, &event, None, Instant::now());
        let _ = identity::unit(&event);
    }
}
