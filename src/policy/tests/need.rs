//! The lines that a command needs allow it, and not its neighbour.

use super::*;

const KEY: &str = "ED25519-V3:aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaA==";

fn lines(line: &str) -> Vec<String> {
    let spell = |name: &[u8]| name.to_vec();
    let known = Known {
        spell: &spell,
        own: None,
    };
    needed(&fields(line), known)
}

/// The grants of the block that is learnt from these commands.
fn learnt(commands: &[&str]) -> (Grants, String) {
    let all: Vec<_> = commands.iter().flat_map(|line| lines(line)).collect();
    let block = learn("learnt", None, all.iter().map(String::as_str));
    let block = block.unwrap_or_else(|problems| panic!("{problems:?}"));
    let policy = read(&[&block]).unwrap_or_else(|problems| panic!("{block}: {problems:?}"));
    (Grants::unite(&policy, &alice()), block)
}

fn is_allowed(grants: &Grants, line: &str) -> bool {
    let is_safe = |_: &[u8]| true;
    let behind = Behind {
        is_safe: Some(&is_safe),
        protected: PROTECTED_PORTS,
        ..Behind::default()
    };
    let verdict = judge(grants, &Ledger::default(), &behind, &fields(line));
    matches!(verdict, Verdict::Allow(_))
}

/// Commands, and for each one that differs in one name, port, key kind or signal.
const PAIRS: &[(&str, &str)] = &[
    ("GETINFO version", "GETINFO fingerprint"),
    ("GETINFO config-text", "GETINFO address"),
    ("GETINFO list-controllers", "GETINFO circuit-status"),
    ("GETINFO recent-actions", "GETINFO uptime"),
    ("GETINFO status", "GETINFO status/enough-dir-info"),
    ("GETINFO ns/id/AAAA", "GETINFO ns/all"),
    ("GETCONF Log HashedControlPassword", "GETCONF ContactInfo"),
    ("GETCONF BusHistory", "GETCONF BusLog"),
    ("SETCONF NumEntryGuards=2", "SETCONF NumDirectoryGuards=2"),
    ("SETCONF BusHistory=5", "SETCONF BusLog=debug"),
    ("RESETCONF Bridge", "RESETCONF UseBridges"),
    ("RESETCONF Nickname=x", "SETCONF UseBridges=1"),
    ("SETEVENTS CIRC BW", "SETEVENTS STREAM"),
    ("SIGNAL HUP", "SIGNAL HALT"),
    ("SIGNAL BUSRELOAD", "SIGNAL BUSSHUTDOWN"),
    (
        "ADD_ONION NEW:BEST Port=80,17600",
        "ADD_ONION NEW:BEST Port=80,17613",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,17612",
        "ADD_ONION NEW:BEST Port=81,17612",
    ),
    (
        "ADD_ONION {key} Port=443,8332",
        "ADD_ONION NEW:BEST Port=443,8332",
    ),
    (
        "ADD_ONION NEW:BEST Flags=Detach MaxStreams=4 Port=22,unix:/run/a/b",
        "ADD_ONION NEW:BEST Flags=Detach MaxStreams=5 Port=22,unix:/run/a/b",
    ),
    ("CLOSECIRCUIT 7", "EXTENDCIRCUIT 7"),
    ("EXTENDCIRCUIT 0", "SETCIRCUITPURPOSE 7 purpose=general"),
    ("ATTACHSTREAM 1 7", "REDIRECTSTREAM 1 x"),
    ("CLOSESTREAM 1 1", "DROPGUARDS"),
    ("MAPADDRESS a.example=b.example", "RESOLVE a.example"),
    ("TAKEOWNERSHIP", "DROPTIMEOUTS"),
    ("SAVECONF", "+LOADCONF\r\nLog x\r\n."),
    ("CONTROLLERNAME alice", "CONTROLLERNAME bob"),
    ("POSTMESSAGE @bob hi", "POSTMESSAGE @carol hi"),
    (
        "ONION_CLIENT_AUTH_ADD {onion} x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=",
        "ONION_CLIENT_AUTH_VIEW",
    ),
    ("ONION_CLIENT_AUTH_REMOVE {onion}", "HSFETCH {onion}"),
];

fn full(line: &str) -> String {
    line.replace("{key}", KEY).replace("{onion}", ONION)
}

#[test]
fn a_learnt_block_allows_what_it_was_learnt_from_and_no_neighbour() {
    let (good, bad): (Vec<_>, Vec<_>) = PAIRS.iter().map(|(g, b)| (full(g), full(b))).unzip();
    for (good, bad) in good.iter().zip(&bad) {
        let (grants, block) = learnt(&[good]);
        assert!(is_allowed(&grants, good), "{good} by {block}");
        assert!(!is_allowed(&grants, bad), "{bad} by {block}");
    }
    let all: Vec<_> = good.iter().map(String::as_str).collect();
    let (grants, block) = learnt(&all);
    for line in &good {
        assert!(is_allowed(&grants, line), "{line} by {block}");
    }
    for line in &bad {
        assert!(!is_allowed(&grants, line), "{line} by {block}");
    }
    let range = "Allow add_onion ports=80=17600-17612 key=new target=loopback:17600-17612 flags= ";
    assert!(block.contains(range), "{block}");
}

#[test]
fn lines_hold_no_value_address_or_path() {
    let secret = "ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=";
    for (line, expected) in [
        (
            "SETCONF Nickname=secret Log=\"notice file /secret\"",
            "Allow setconf Log Nickname",
        ),
        ("MAPADDRESS secret.a=secret.b", "Allow mapaddress"),
        ("HSFETCH {onion} SERVER=secret", "Allow hsfetch"),
        ("RESOLVE secret.example", "Allow resolve"),
        (
            "GETINFO ip-to-country/192.0.2.1",
            "Allow getinfo ip-to-country/*",
        ),
        (
            "GETINFO hs/client/desc/id/{onion}",
            "Allow getinfo hs/client/desc/id/*",
        ),
        (
            "REDIRECTSTREAM 4 secret.example",
            "Allow streams redirect any",
        ),
        (
            "ADD_ONION {key} Port=80,192.0.2.1:8080 Port=81,unix:/secret/s",
            "Allow add_onion ports=80=8080,81 key=stored target=unix:/*/* flags= max=8 \
             target=ADDRESS:8080",
        ),
        ("PROTOCOLINFO 1", ""),
        ("GETINFO whoami", ""),
        ("GETINFO posted-message bus/chain", ""),
        ("CONTROLLERNAME a\"b", ""),
    ] {
        assert_eq!(lines(&full(line)).join("\n"), expected, "{line}");
    }
    let add = format!("ONION_CLIENT_AUTH_ADD {ONION} x25519:{secret} ClientName=bob");
    assert_eq!(lines(&add), ["Allow client_auth add own"]);
}

#[test]
fn what_the_log_does_not_name_is_left_to_its_reader() {
    let line = "ADD_ONION NEW:BEST Port=80,192.0.2.1:80";
    let (grants, block) = learnt(&[line, "SIGNAL NEWNYM"]);
    assert!(
        block.contains("\n# Allow add_onion ports=80=80 "),
        "{block}"
    );
    assert!(is_allowed(&grants, "SIGNAL NEWNYM") && !is_allowed(&grants, line));
    let many = vec!["ADD_ONION NEW:BEST Port=80,8080"; 9];
    assert!(learnt(&many).1.contains(" max=9\n"));
    assert!(learn("p", None, ["Allow nothing of this"].into_iter()).is_err());
    let user = learn("p", Some("alice"), std::iter::empty());
    assert_eq!(user, Ok("Profile p\nMatch user=alice\n".to_owned()));
}

#[test]
fn a_text_with_options_of_the_bus_is_learnt_with_them() {
    let line = "+LOADCONF\r\nLog x\r\nBusLog debug\r\n.";
    let (grants, block) = learnt(&[line]);
    assert!(is_allowed(&grants, line), "{block}");
    let (grants, block) = learnt(&["+LOADCONF\r\nLog x\r\n."]);
    assert!(!is_allowed(&grants, line), "{block}");
}
