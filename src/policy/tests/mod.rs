//! The rules, each with what it allows and what it does not.

mod files;
mod loading;
mod need;
mod onions;
mod order;
mod owned;
mod sequels;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::*;
use crate::wire::fields::{self, Fields};
use crate::wire::text::{self, Framed, Framer};

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

fn user(name: &str) -> Option<u32> {
    [("alice", 1000), ("bob", 1001)]
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, id)| *id)
}

fn group(name: &str) -> Option<u32> {
    (name == "tor").then_some(27)
}

fn read(texts: &[&str]) -> Result<Policy, Vec<Problem>> {
    let names = Names {
        user: &user,
        group: &group,
        users: [(1000, "alice".into()), (1001, "bob".into())].into(),
        name: &|uid| (uid == 2000).then(|| "carol".into()),
    };
    let files: Vec<_> = (0..texts.len()).map(|n| format!("f{n}")).collect();
    let sources: Vec<_> = files
        .iter()
        .zip(texts)
        .map(|(file, text)| Source {
            file,
            text: text.as_bytes(),
            group: 0,
        })
        .collect();
    Policy::parse(&sources, &names)
}

fn alice() -> Identity {
    Identity {
        uid: 1000,
        gid: 1000,
        groups: vec![27],
        socket: b"/run/bus".to_vec(),
        passed: b"fd:control".to_vec(),
        unit: b"bitcoind.service".to_vec(),
        label: b"/usr/bin/x".to_vec(),
        pid: 1,
    }
}

fn bob() -> Identity {
    Identity {
        uid: 1001,
        ..Identity::default()
    }
}

/// The grants of a block with these lines.
fn grants_of(identity: &Identity, lines: &str) -> Grants {
    let policy = read(&[&format!("Profile p\nMatch any\n{lines}")]);
    Grants::unite(&policy.unwrap_or_else(|e| panic!("{e:?}")), identity)
}

fn fields(line: &str) -> Fields {
    let octets = format!("{line}\r\n");
    let Framed::Command(command) = Framer::default().next(octets.as_bytes()) else {
        panic!("{line}");
    };
    let fields = text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command));
    fields.unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"))
}

fn options() -> BTreeSet<Vec<u8>> {
    [
        "log",
        "socksport",
        "controlport",
        "hashedcontrolpassword",
        "clienttransportplugin",
    ]
    .iter()
    .chain(&[
        "disablenetwork",
        "maxcircuitdirtiness",
        "socks5proxypassword",
        "httpsproxyauthenticator",
    ])
    .map(|name| name.as_bytes().to_vec())
    .collect()
}

/// The reply to a refused command, or how the allowed one is written.
fn outcome(grants: &Grants, ledger: &Ledger, line: &str) -> String {
    let options = options();
    // One directory by two names.
    let place = |path: &[u8]| match path.strip_prefix(b"/link") {
        Some(rest) => [b"/safe", rest].concat(),
        None => path.to_vec(),
    };
    let state = BuildHasherDefault::<DefaultHasher>::default();
    let is_safe = |path: &[u8]| place(path).starts_with(b"/safe/");
    let behind = Behind {
        options: Some(&options),
        control_ports: &[9051],
        control_paths: &[b"/safe/control".to_vec()],
        ports: &[9050],
        protected: PROTECTED_PORTS,
        is_local: None,
        is_safe: Some(&is_safe),
        is_link: Some(&|path| path == b"/safe/link"),
        id: Some(&|path| Some((0, state.hash_one(place(path))))),
    };
    let mut out = Vec::new();
    match judge(grants, ledger, &behind, &fields(line)) {
        Verdict::Allow(allowed) => allowed.fields.write(&mut out),
        Verdict::Refuse(refused) => text::encode_refusal(&refused.refusal, &mut out),
    }
    String::from_utf8_lossy(&out)
        .trim_end()
        .replace("\r\n", "|")
}

fn allowed_of(grants: &Grants, line: &str) -> Allowed {
    match judge(
        grants,
        &Ledger::default(),
        &Behind::default(),
        &fields(line),
    ) {
        Verdict::Allow(allowed) => allowed,
        Verdict::Refuse(refused) => panic!("{line}: {refused:?}"),
    }
}

/// Each line, and the reply to it; nothing if it is allowed as it is.
#[track_caller]
fn judged(grants: &Grants, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        let expected = if expected.is_empty() { line } else { expected };
        assert_eq!(
            outcome(grants, &Ledger::default(), line),
            *expected,
            "{line}"
        );
    }
}

const FILTERED: &str = "510 Command filtered (p)";

#[test]
fn who_matches_nothing_may_do_what_everybody_may() {
    let grants = Grants::unite(
        &read(&["Profile p\nMatch user=bob\nAllow all"]).unwrap(),
        &alice(),
    );
    judged(
        &grants,
        &[
            ("GETINFO whoami policy posted-message bus/chain", ""),
            ("GETINFO", ""),
            ("GETCONF", ""),
            ("SETCONF", ""),
            ("RESETCONF", ""),
            ("SETEVENTS", ""),
            ("SETEVENTS POLICY TOR RESTORE EXTENDED", ""),
            ("USEFEATURE VERBOSE_NAMES", ""),
            ("GETINFO version", "552 Unrecognized key \"version\""),
            ("GETCONF Log", "552 Unrecognized configuration key \"Log\""),
            ("SETEVENTS TOR circ", "552 Unrecognized event \"circ\""),
            ("SIGNAL newnym", "552 Unrecognized signal code \"newnym\""),
            (
                "SETCONF Log=x",
                "552 Unrecognized option: Unknown option 'Log'.  Failing.",
            ),
            ("DROPGUARDS", "510 Command filtered"),
            ("ADD_ONION NEW:BEST Port=80", "510 Command filtered"),
            ("CONTROLLERNAME a", "510 Command filtered"),
            ("POSTMESSAGE @all hi", "510 Command filtered"),
            ("CLOSECIRCUIT 1", "510 Command filtered"),
        ],
    );
}

#[test]
fn secrets_are_granted_by_their_own_name_only() {
    let all = grants_of(&alice(), "Allow getinfo * hs/*\nAllow getconf *");
    let no_key = |key: &str| format!("552 Unrecognized key \"{key}\"");
    for key in ["config-text", "address", "address/v4", "address/v6"] {
        judged(&all, &[(&format!("GETINFO {key}"), &no_key(key))]);
        let exact = grants_of(&alice(), &format!("Allow getinfo {key}"));
        judged(&exact, &[(&format!("GETINFO {key}"), "")]);
    }
    for kind in ["hs/service/desc/id/", "hs/client/desc/id/"] {
        let key = format!("{kind}{ONION}");
        let line = format!("GETINFO {key}");
        judged(&all, &[(&line, &no_key(&key))]);
        for (grant, expected) in [
            (format!("{kind}*"), String::new()),
            (key.clone(), String::new()),
            // A longer prefix or a shorter one is none of its own.
            (format!("{kind}duck*"), no_key(&key)),
            (kind.replace("id/", "*"), no_key(&key)),
        ] {
            let grants = grants_of(&alice(), &format!("Allow getinfo {grant}"));
            judged(&grants, &[(&line, &expected)]);
        }
    }
    for option in [
        "HashedControlPassword",
        "Socks5ProxyPassword",
        "HTTPSProxyAuthenticator",
    ] {
        let line = format!("GETCONF {option}");
        let unknown = format!("552 Unrecognized configuration key \"{option}\"");
        for (grant, expected) in [("*", &unknown[..]), ("H* S*", &unknown), (option, "")] {
            let grants = grants_of(&alice(), &format!("Allow getconf {grant}"));
            judged(&grants, &[(&line, expected)]);
        }
    }
    judged(
        &all,
        &[
            ("GETINFO version ns/id/x", ""),
            ("GETCONF log SocksPort", ""),
            (
                "GETCONF hashedControlPassword",
                "552 Unrecognized configuration key \"hashedControlPassword\"",
            ),
            (
                "GETCONF Socks5ProxyPassword",
                "552 Unrecognized configuration key \"Socks5ProxyPassword\"",
            ),
            // Neither a prefix nor an old name is an option.
            (
                "GETCONF Hashed Log Lo",
                "552-Unrecognized configuration key \"Hashed\"|\
                 552 Unrecognized configuration key \"Lo\"",
            ),
            (
                "GETINFO list-controllers",
                "552 Unrecognized key \"list-controllers\"",
            ),
        ],
    );
    let exact = grants_of(&alice(), "Allow getconf HashedControlPassword");
    judged(&exact, &[("GETCONF HASHEDCONTROLPASSWORD", "")]);
}

#[test]
fn options_are_set_to_what_is_listed() {
    let grants = grants_of(
        &alice(),
        "Allow setconf DisableNetwork=0|1 MaxCircuitDirtiness=10-600 Log=\"notice stdout\"\n\
         Allow setconf SocksPort\nAllow resetconf Log",
    );
    let unknown =
        |name: &str| format!("552 Unrecognized option: Unknown option '{name}'.  Failing.");
    judged(
        &grants,
        &[
            ("SETCONF disablenetwork=\"1\"", ""),
            ("SETCONF MaxCircuitDirtiness=\"600\"", ""),
            ("SETCONF Log=\"notice stdout\"", ""),
            ("SETCONF SocksPort=\"9050\" SocksPort", ""),
            ("RESETCONF Log", ""),
            ("RESETCONF SocksPort=\"1\"", ""),
            (
                "SETCONF DisableNetwork=2",
                "513 Unacceptable option value: DisableNetwork is filtered",
            ),
            (
                "SETCONF MaxCircuitDirtiness=601",
                "513 Unacceptable option value: MaxCircuitDirtiness is filtered",
            ),
            (
                "SETCONF MaxCircuitDirtiness=010",
                "513 Unacceptable option value: MaxCircuitDirtiness is filtered",
            ),
            (
                "SETCONF MaxCircuitDirtiness",
                "513 Unacceptable option value: MaxCircuitDirtiness is filtered",
            ),
            (
                "SETCONF DisableNetwork=1 DisableNetwork=2",
                "513 Unacceptable option value: DisableNetwork is filtered",
            ),
            (
                "SETCONF DisableNetwork=1 ControlPort=0",
                &unknown("ControlPort"),
            ),
            ("SETCONF DisableNet=1", &unknown("DisableNet")),
            ("RESETCONF SocksPort", &unknown("SocksPort")),
            (
                "RESETCONF Log=x",
                "513 Unacceptable option value: Log is filtered",
            ),
        ],
    );
}

#[test]
fn a_deny_of_settings_denies_loading_them() {
    let whole = grants_of(&alice(), "Allow all");
    assert!(whole.is_everything());
    judged(&whole, &[("+LOADCONF\r\nx\r\n.", "+LOADCONF|x|.")]);
    for deny in ["Deny setconf ControlPort", "Deny resetconf", "Deny setconf"] {
        let grants = grants_of(&alice(), &format!("Allow all\n{deny}"));
        judged(&grants, &[("+LOADCONF\r\nx\r\n.", FILTERED)]);
    }
    let grants = grants_of(
        &alice(),
        "Allow all\nDeny setconf ControlPort\nDeny signal HALT",
    );
    let unknown = "552 Unrecognized option: Unknown option 'ControlPort'.  Failing.";
    judged(
        &grants,
        &[
            ("SETCONF ControlPort=0", unknown),
            (
                "SETCONF ControlP=0",
                "552 Unrecognized option: Unknown option 'ControlP'.  Failing.",
            ),
            ("SETCONF Log=\"x\"", ""),
            ("SIGNAL TERM", "552 Unrecognized signal code \"TERM\""),
            ("SIGNAL RELOAD", ""),
            ("DROPGUARDS", ""),
            ("SETEVENTS NEWER CIRC CONTROLLER", ""),
            ("GETINFO config-text", ""),
        ],
    );
}

#[test]
fn a_deny_covers_what_it_leaves_out() {
    for (deny, line, expected) in [
        (
            "Deny getinfo",
            "GETINFO version",
            "552 Unrecognized key \"version\"",
        ),
        (
            "Deny getinfo ver*",
            "GETINFO version",
            "552 Unrecognized key \"version\"",
        ),
        (
            "Deny getconf",
            "GETCONF Log",
            "552 Unrecognized configuration key \"Log\"",
        ),
        (
            "Deny events",
            "SETEVENTS CIRC",
            "552 Unrecognized event \"CIRC\"",
        ),
        (
            "Deny list",
            "SETEVENTS CONTROLLER",
            "552 Unrecognized event \"CONTROLLER\"",
        ),
        (
            "Deny events CONTROLLER",
            "SETEVENTS CONTROLLER",
            "552 Unrecognized event \"CONTROLLER\"",
        ),
        (
            "Deny signal",
            "SIGNAL HUP",
            "552 Unrecognized signal code \"HUP\"",
        ),
        ("Deny add_onion", "ADD_ONION NEW:BEST Port=80", FILTERED),
        (
            "Deny add_onion ports=80",
            "ADD_ONION NEW:BEST Port=81 Port=80",
            FILTERED,
        ),
        ("Deny circuits", "CLOSECIRCUIT 1", FILTERED),
        ("Deny circuits close", "CLOSECIRCUIT 1", FILTERED),
        ("Deny del_onion", &format!("DEL_ONION {ONION}"), FILTERED),
        (
            "Deny onions",
            "GETINFO onions/current",
            "552 Unrecognized key \"onions/current\"",
        ),
        ("Deny name", "CONTROLLERNAME x", FILTERED),
        ("Deny post @all", "POSTMESSAGE @all x", FILTERED),
        ("Deny all", "DROPGUARDS", FILTERED),
        (
            "Deny busconf",
            "GETCONF BusLog",
            "552 Unrecognized configuration key \"BusLog\"",
        ),
    ] {
        let grants = grants_of(&alice(), &format!("Allow all\n{deny}"));
        judged(&grants, &[(line, expected)]);
    }
}

#[test]
fn events_have_the_widest_form() {
    let grants = grants_of(
        &alice(),
        "Allow events CIRC:quiet BW STREAM:own\nAllow events CIRC:own",
    );
    let allowed = allowed_of(&grants, "SETEVENTS circ BW stream TOR EXTENDED");
    let forms: Vec<_> = allowed.events.iter().map(|(_, form)| *form).collect();
    assert_eq!(forms, [Form::Own, Form::Plain, Form::Own, Form::Plain]);
    let all = grants_of(&alice(), "Allow events * CIRC:own");
    assert_eq!(all.event(b"CIRC"), Some(Form::Plain));
    assert_eq!(all.event(b"CONTROLLER"), None);
    assert_eq!(all.event(b"POSTMESSAGE"), None);
    let own = grants_of(&alice(), "Allow events CONTROLLER:own");
    assert_eq!(own.event(b"CONTROLLER"), Some(Form::Own));
    let views = allowed_of(
        &grants_of(&alice(), "Allow getinfo *"),
        "GETINFO circuit-status stream-status",
    )
    .views;
    assert!(views.own_circuits && views.own_streams);
    let views = allowed_of(
        &grants_of(&alice(), "Allow getinfo *\nAllow events CIRC"),
        "GETINFO circuit-status",
    )
    .views;
    assert!(!views.own_circuits);
}

#[test]
fn an_answer_is_below_a_grant() {
    let lines = "Answer status/bootstrap-phase=\"NOTICE \\\"x\\\"\"\nAnswer DisableNetwork=0\n\
        Answer version=1\nAllow getinfo version";
    let grants = grants_of(&alice(), lines);
    let allowed = allowed_of(&grants, "GETINFO version status/bootstrap-phase");
    assert_eq!(allowed.answers, [(1, b"NOTICE \"x\"".to_vec())]);
    assert_eq!(
        allowed_of(&grants, "GETCONF disablenetwork").answers,
        [(0, b"0".to_vec())]
    );
    let grants = grants_of(&alice(), "Answer version=1\nDeny getinfo version");
    judged(
        &grants,
        &[("GETINFO version", "552 Unrecognized key \"version\"")],
    );
    let policy = read(&[
        "Profile b\nMatch any\nAnswer k=2",
        "Profile a\nMatch any\nAnswer k=1",
    ]);
    let grants = Grants::unite(&policy.unwrap(), &alice());
    assert_eq!(
        allowed_of(&grants, "GETINFO k").answers,
        [(0, b"1".to_vec())]
    );
}

#[test]
fn a_user_stands_for_its_name() {
    let policy =
        read(&["Profile p\nMatch any\nAllow name {user}_* x{uid}\nDeny name bad_* {user}_no"]);
    let policy = policy.unwrap();
    let grants = Grants::unite(&policy, &alice());
    judged(
        &grants,
        &[
            ("CONTROLLERNAME alice_x", ""),
            ("CONTROLLERNAME x1000", ""),
            ("CONTROLLERNAME bob_x", FILTERED),
            ("CONTROLLERNAME alice_no", FILTERED),
        ],
    );
    // A user without a name: the Allow covers nothing, and the Deny everything.
    let stranger = Identity { uid: 7, ..alice() };
    judged(
        &Grants::unite(&policy, &stranger),
        &[("CONTROLLERNAME x7", FILTERED)],
    );
    // One of a directory that lists nobody is known where a block is for it.
    let carol = Identity {
        uid: 2000,
        ..alice()
    };
    let policy = "Profile p\nMatch any\nAllow name {user}_*\nProfile q\nMatch user=2000\n";
    let grants = Grants::unite(&read(&[policy]).unwrap(), &carol);
    judged(&grants, &[("CONTROLLERNAME carol_x", "")]);
    let policy = read(&["Profile p\nMatch any\nAllow name a {user}_*\nAllow name b\n"]).unwrap();
    let grants = Grants::unite(&policy, &stranger);
    judged(
        &grants,
        &[("CONTROLLERNAME b", ""), ("CONTROLLERNAME a", FILTERED)],
    );
}

#[test]
fn a_complaint_allows_all_and_tells() {
    let grants = grants_of(&alice(), "Complain\nAllow getinfo version");
    let allowed = allowed_of(&grants, "SETEVENTS CIRC");
    assert_eq!(allowed.events, [(b"CIRC".to_vec(), Form::Plain)]);
    assert_eq!(allowed.complaint.unwrap().names, [b"CIRC".to_vec()]);
    assert_eq!(allowed_of(&grants, "GETINFO version").complaint, None);
    // One block that does not complain is enough to refuse.
    let policy = read(&["Profile a\nMatch any\nComplain\nProfile b\nMatch any\n"]).unwrap();
    assert!(!Grants::unite(&policy, &alice()).complains());
}

#[test]
fn the_list_is_in_one_order_and_one_form() {
    let grants = grants_of(
        &alice(),
        "Deny getinfo uptime\nallow GETINFO version \"ns/id/*\"\nAllow setconf Log=\"a b\"|c\n\
         Allow add_onion max=3 ports=443=1-2,80 target=unix:/x\nAllow circuits close build own\n\
         Allow events CIRC:own *\nAllow busconf set BusLog\nKeep onions 5\nAnswer a=\"b c\"\n\
         Allow signal INT TERM\nOwn-Socks user=x\nAllow del_onion own\nAllow list\n\
         Allow name {user}_*",
    );
    let expected = "\
Allow add_onion ports=80,443=1-2 target=unix:/x flags=DiscardPK max=3
Allow busconf set buslog
Allow circuits build own
Allow circuits close own
Allow del_onion own
Allow events *
Allow events CIRC:own
Allow getinfo ns/id/*
Allow getinfo version
Allow list
Allow name alice_*
Allow setconf log=\"a b|c\"
Allow signal HALT
Allow signal SHUTDOWN
Answer a=\"b c\"
Deny getinfo uptime
Keep onions 5
Own-Socks user=x";
    assert_eq!(grants.list().join("\n"), expected);
}

#[test]
fn names_of_a_table_are_looked_up_in_any_letter_case() {
    let lines = "ALLOW GetInfo version\nallow SETCONF log\nallow EVENTS circ\nallow Signal newnym";
    judged(
        &grants_of(&alice(), lines),
        &[
            ("GETINFO version", ""),
            ("SETCONF LOG=\"1\"", ""),
            ("SETEVENTS CIRC", ""),
        ],
    );
}

#[test]
fn a_frame_has_a_code_for_what_is_refused() {
    use crate::wire::Dialect;
    let grants = grants_of(&alice(), "");
    let verdict = judge(
        &grants,
        &Ledger::default(),
        &Behind::default(),
        &fields("GETCONF Log"),
    );
    let Verdict::Refuse(refused) = verdict else {
        panic!("{verdict:?}");
    };
    for (dialect, code) in [(Dialect::Tc, 5), (Dialect::V0, 7)] {
        let mut out = Vec::new();
        dialect.encode_refusal(&refused.refusal, &mut out);
        assert_eq!(out[4..6], [0, code], "{dialect:?}");
        assert!(
            out.ends_with(b"Unrecognized configuration key \"Log\""),
            "{dialect:?}"
        );
    }
}
