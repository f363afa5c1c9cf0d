//! Commands written anew from their fields: Tor answers them as it answers the originals, and what
//! the parser refuses, Tor refuses with the same octets.

use std::fmt::Write as _;

use onionbus::policy::{Behind, Grants, Ledger, Verdict, judge};
use onionbus::wire::fields::{self, Fields};
use onionbus::wire::text::{self, Framed, Framer};

use crate::differ::masked;
use crate::exchanges::{BATCHES, LINES};
use crate::tor::{Home, has_tor};
use crate::wire::Wire;

/// An address that has the right checksum.
const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

/// Spellings that mean something to Tor, with `_` for an address.
const SPELLINGS: &[&str] = &[
    "getinfo  version \t ",
    "GETINFO\tversion",
    "GETINFO version\tconfig-file",
    "GETINFO version\0 config-file",
    "GETCONF  log\x0B",
    "SETCONF\tContactInfo=a\tNewCircuitPeriod=\"31\"",
    "SETCONF ContactInfo=\"a b\\'\\\"c\"d",
    "SETCONF ContactInfo=\"\\60\\x41\" contactINFO=z",
    "SETCONF ContactInfo=\"a",
    "SETCONF ContactInfo=\"\\0\"",
    "SETCONF Cont\u{e4}ct=1",
    "SETCONF 'a'=1",
    "RESETCONF ContactInfo NewCircuitPeriod",
    "SETEVENTS circ  stream \x0C",
    "SETEVENTS circ nothing",
    "SETEVENTS AUTHDIR_NEWDESCS extended",
    "signal  hup ",
    "SIGNAL CLEARDNSCACHE\0HALT",
    "SIGNAL NEWNYM HALT",
    "USEFEATURE verbose_names",
    "TAKEOWNERSHIP",
    "DROPOWNERSHIP \"",
    "SAVECONF FORCE=1",
    "SAVECONF x=y force",
    "SAVECONF \"",
    "MAPADDRESS  a.example=b.example\t1.2.3.4=c.example",
    "MAPADDRESS a=\"b\"",
    "MAPADDRESS a=b\x0C",
    "MAPADDRESS a=b\x0Cc",
    "MAPADDRESS c=d! e=f!",
    "RESOLVE a.example MODE=Reverse mode=x b=c",
    "RESOLVE mode mode=reverse",
    "RESOLVE 'a'",
    "extendcircuit 0 purpose= purpose=general",
    "EXTENDCIRCUIT 0 $a=b,c Purpose=controller",
    "EXTENDCIRCUIT 0 a b purpose=general",
    "EXTENDCIRCUIT 0 purpose=purpose=x",
    "EXTENDCIRCUIT x a purpose=nothing",
    "EXTENDCIRCUIT 4294967296 a",
    "EXTENDCIRCUIT 0 \"a\"",
    "SETCIRCUITPURPOSE 1 x",
    "SETCIRCUITPURPOSE 1 x=y",
    "ATTACHSTREAM 1 2 hop=1 HOP=2",
    "ATTACHSTREAM 1 2 foo=\"x",
    "ATTACHSTREAM 1 2 f\\oo=x",
    "ATTACHSTREAM 18446744073709551616 0",
    "REDIRECTSTREAM 1 a.example 80 more",
    "REDIRECTSTREAM\t1 a.example",
    "CLOSESTREAM 1 2 3 4",
    "CLOSECIRCUIT 1 ifunused x=y",
    "CLOSECIRCUIT 1 \"x\"",
    "DROPGUARDS \t",
    "DROPTIMEOUTS x",
    "SETROUTERPURPOSE a b",
    "setrouterpurpose",
    "ADD_ONION  new:best\tPort=80",
    "ADD_ONION new:best port=80,8080  FLAGS=detach,,DiscardPK Flags=maxstreamsclosecircuit",
    "ADD_ONION NEW:ED25519-V3 Port=80, Flags=DiscardPK",
    "ADD_ONION NEW:BEST Port=80,[::1]:90 Port=81,127.1.2.3 Port=82,localhost:8082",
    "ADD_ONION NEW:BEST Port=80,unix:/a Port=80,LOCALHOST:9 MaxStreams=1 MaxStreams=2",
    "ADD_ONION :NEW::BEST: Port=80",
    "ADD_ONION ed25519-v3:aGhoaGho Port=80",
    "ADD_ONION NEW:BEST Port=80,80,90",
    "ADD_ONION NEW:BEST Port=80,example.invalid:90",
    "ADD_ONION NEW:BEST Port=0",
    "ADD_ONION NEW:BEST Port=65536",
    "ADD_ONION NEW:BEST Port=80 Flags=,",
    "ADD_ONION NEW:BEST Port=80 Flags=\"x\"",
    "ADD_ONION NEW:BEST Port=80 Flags=a'b",
    "ADD_ONION NEW:BEST Port=80 Foo=1 Bar=2",
    "ADD_ONION NEW:BEST Port=80 Foo",
    "ADD_ONION NEW:BEST MaxStreams=-1 Port=80",
    "ADD_ONION NEW:BEST Port=80 PoWDefensesEnabled=1 PoWQueueRate=5 PoWQueueBurst=6",
    "ADD_ONION NEW:BEST Port=80 PoWDefensesEnabled=2",
    "ADD_ONION NEW:BEST Port=80 PoWQueueRate=99999999999",
    "ADD_ONION NEW:BEST Port=80 PoWQueueBurst=x",
    "ADD_ONION NEW:BEST Port=80 ClientAuthV3=5BPBXQOAZWPSSXFKOIXHZDRDA2AJT2SWS2GIQTISCFKGVBFWBBDQ",
    "ADD_ONION NEW:BEST Port=80 Flags=V3Auth,DiscardPK \
     clientauthv3=5bpbxqoazwpssxfkoixhzdrda2ajt2sws2giqtiscfkgvbfwbbdq",
    "DEL_ONION  _ ",
    "DEL_ONION _x",
    "HSFETCH _ server=x SERVER=y",
    "HSFETCH _ SERVER",
    "HSFETCH _ foo=bar",
    "HSFETCH short foo=bar",
    "ONION_CLIENT_AUTH_ADD _",
    "ONION_CLIENT_AUTH_ADD _ y",
    "ONION_CLIENT_AUTH_ADD _ y:z",
    "ONION_CLIENT_AUTH_ADD _ x25519:z",
    "ONION_CLIENT_AUTH_ADD _ :X25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4= clientname=b x=y",
    "ONION_CLIENT_AUTH_ADD _ x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4 ClientName=",
    "ONION_CLIENT_AUTH_ADD _ x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4 FlagsX=foo",
    "ONION_CLIENT_AUTH_ADD _ x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4 Flags=,",
    "ONION_CLIENT_AUTH_VIEW _ x=y",
    "ONION_CLIENT_AUTH_VIEW _ x",
    "ONION_CLIENT_AUTH_REMOVE _ x=y",
];

/// Forms that Tor takes and the parser does not, with `_` for an address, and the first words of
/// the refusal.
const STRICTER: &[(&str, &str)] = &[
    (
        "ADD_ONION NEW:BEST Port=80,127.1:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,0177.0.0.1:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,2130706433:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,0.0.0.0:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,[::]:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80,[::ffff:0.0.0.0]:80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    ("ADD_ONION NEW:BEST Port=080", "512 Invalid VIRTPORT/TARGET"),
    ("ADD_ONION NEW:BEST Port=+80", "512 Invalid VIRTPORT/TARGET"),
    (
        "ADD_ONION NEW:BEST Port=80,+80",
        "512 Invalid VIRTPORT/TARGET",
    ),
    ("ADD_ONION NEW:BEST Port=,80", "512 Invalid VIRTPORT/TARGET"),
    (
        "ADD_ONION NEW:BEST Port=80,unix:relative",
        "512 Invalid VIRTPORT/TARGET",
    ),
    (
        "ADD_ONION NEW:BEST Port=80 MaxStreams=01",
        "512 Invalid MaxStreams",
    ),
    (
        "ADD_ONION NEW:BEST Port=80 PoWDefensesEnabled=01",
        "512 Invalid PoWDefensesEnabled",
    ),
    (
        "ADD_ONION NEW:BEST ClientAuth=bob Port=80",
        "512 Bad arguments to ADD_ONION: Unrecognized keyword argument \"ClientAuth\"",
    ),
    ("+HSPOST\r\nx\r\n.", "512 Malformed onion address"),
    (
        "ONION_CLIENT_AUTH_ADD _ x25519:aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg= \
         ClientName=seventeen_letters",
        "512 ClientName longer than 16 chars",
    ),
    (
        "SETCIRCUITPURPOSE",
        "512 Bad arguments to SETCIRCUITPURPOSE: Need at least 1 argument(s)",
    ),
    (
        "SETCONF MetricsPortPolicy=\"a\\r\\n250 x\"",
        "512 Bad arguments to SETCONF: Cannot parse keyword argument(s)",
    ),
];

/// Parts of the differ's commands that are refused here and not by Tor, or in other words.
const DIFFERENT: &[&str] = &[
    "+HSPOST\r\n",
    "+HSPOST SERVER=nobody\r\n",
    "ClientName=seventeen_letters",
    "SETCONF contactinfo=\"two",
    "SETCIRCUITPURPOSE\r\n",
];

/// The answer to a command on a connection of its own.
fn answer(home: &Home, octets: &[u8]) -> Vec<u8> {
    let mut wire = Wire::at(&home.socket());
    wire.about = octets.escape_ascii().to_string();
    wire.ask("AUTHENTICATE");
    wire.send(octets);
    assert!(wire.fence(), "{} closes", wire.about);
    masked(&wire.take(), home)
}

/// What becomes of a command: its fields written, or the octets of the refusal.
fn written(octets: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
    let Framed::Command(command) = Framer::default().next(octets) else {
        panic!("{} is no whole command", octets.escape_ascii());
    };
    let fields = text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command));
    let mut out = Vec::new();
    match fields {
        Ok(fields) => {
            fields.write(&mut out);
            Ok(out)
        }
        Err(refusal) => {
            text::encode_refusal(&refusal, &mut out);
            Err(out)
        }
    }
}

/// Every command, whole.
fn commands() -> Vec<Vec<u8>> {
    let lines = LINES.iter().map(|line| format!("{line}\r\n").into_bytes());
    let spellings = SPELLINGS.iter().map(|line| {
        let name = line.split([' ', '\t']).next().unwrap_or_default();
        let rest = line[name.len()..].replace('_', ONION);
        format!("{name}{rest}\r\n").into_bytes()
    });
    let mut all: Vec<_> = lines.chain(spellings).collect();
    for batch in BATCHES {
        let mut rest = *batch;
        while let Framed::Command(command) = Framer::default().next(rest) {
            all.push(rest[..command.length].to_vec());
            rest = &rest[command.length..];
        }
    }
    // The login's and the end's are the bus's own; an owner's end is Tor's.
    let is_own = |octets: &Vec<u8>| {
        let upper = octets.to_ascii_uppercase();
        ["AUTH", "PROTOCOLINFO", "QUIT", "TAKEOWNERSHIP"]
            .iter()
            .any(|start| upper.starts_with(start.as_bytes()))
    };
    all.retain(|octets| !is_own(octets));
    all
}

#[test]
fn tor_answers_what_is_written_as_the_original() {
    if !has_tor() {
        return;
    }
    let (one, two) = (Home::new(), Home::new());
    let (_first, _second) = (one.start(), two.start());
    let mut differences = String::new();
    let (mut sent, mut refused) = (0, 0);
    for octets in commands() {
        let shown = octets.escape_ascii().to_string();
        let is_different = DIFFERENT
            .iter()
            .any(|part| memchr::memmem::find(&octets, part.as_bytes()).is_some());
        if is_different {
            assert!(written(&octets).is_err(), "{shown}");
            continue;
        }
        let expected = answer(&one, &octets);
        let (how, got) = match written(&octets) {
            Ok(octets) => {
                sent += 1;
                let shown = octets.escape_ascii().to_string();
                (format!("sent as {shown}"), answer(&two, &octets))
            }
            Err(refusal) => {
                refused += 1;
                ("refused".to_owned(), refusal)
            }
        };
        if expected != got {
            let (expected, got) = (expected.escape_ascii(), got.escape_ascii());
            let _ = write!(differences, "\n{shown}: {how}\n  {expected}\n  {got}");
        }
    }
    assert!(sent > 150 && refused > 60, "{sent} sent, {refused} refused");
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_tor_takes_in_many_forms_is_taken_in_one() {
    for (line, expected) in STRICTER {
        let keyword = line.split(' ').next().unwrap_or_default();
        let rest = line[keyword.len()..].replacen(" _ ", &format!(" {ONION} "), 1);
        let refusal = written(format!("{keyword}{rest}\r\n").as_bytes());
        let refusal = refusal.expect_err(line);
        assert_eq!(
            String::from_utf8(refusal),
            Ok(format!("{expected}\r\n")),
            "{line}"
        );
    }
}

/// A command of a restricted controller never reaches Tor as a login, or as the end.
#[test]
fn what_is_the_sessions_has_no_arguments_left() {
    for line in ["AUTHENTICATE \"secret\"\r\n", "QUIT now\r\n"] {
        let Framed::Command(command) = Framer::default().next(line.as_bytes()) else {
            panic!("{line}");
        };
        let verb = text::verb(command.keyword).expect("a command");
        let fields = fields::parse(verb, &command);
        assert_eq!(fields, Ok(Fields::Session(verb)));
    }
}

/// Commands about what there is and who asks may not have, with the same about what there is not:
/// the word that differs, on both sides.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("GETINFO version", "version", "verstehen"),
    (
        "GETINFO version uptime",
        "version uptime",
        "verstehen niemals",
    ),
    ("GETCONF Log", "Log", "Lug"),
    ("GETCONF Log SocksPort", "Log SocksPort", "Lug SucksPort"),
    ("SETCONF Log=x", "Log", "Lug"),
    ("SETCONF log", "log", "lug"),
    ("RESETCONF Log", "Log", "Lug"),
    ("SETEVENTS circ BW", "circ", "zirk"),
    ("SIGNAL newnym", "newnym", "oldnym"),
];

/// What is forbidden has the reply of what there is not, octet for octet.
#[test]
fn what_is_forbidden_looks_as_if_it_were_not_there() {
    if !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    for (line, word, other) in FORBIDDEN {
        let words = word.split(' ').zip(other.split(' '));
        let unknown = words
            .clone()
            .fold((*line).to_owned(), |line, (word, other)| {
                line.replacen(word, other, 1)
            });
        let of_tor = answer(&home, format!("{unknown}\r\n").as_bytes());
        let octets = format!("{line}\r\n");
        let Framed::Command(command) = Framer::default().next(octets.as_bytes()) else {
            panic!("{line}");
        };
        let verb = text::verb(command.keyword).expect("a command");
        let fields = fields::parse(verb, &command).expect(line);
        let verdict = judge(
            &Grants::default(),
            &Ledger::default(),
            &Behind::default(),
            &fields,
        );
        let Verdict::Refuse(refused) = verdict else {
            panic!("{line} is allowed");
        };
        let mut reply = Vec::new();
        text::encode_refusal(&refused.refusal, &mut reply);
        let reply = words.fold(
            String::from_utf8_lossy(&reply).into_owned(),
            |reply, (w, o)| reply.replacen(w, o, 1),
        );
        assert_eq!(reply, String::from_utf8_lossy(&of_tor), "{line}");
    }
}

/// The end of the refusal of a command that Tor must not get.
const ENDS_TOR: &[u8] = b"SETCIRCUITPURPOSE: Need at least 1 argument(s)\r\n";

/// Commands put together at random, the same ones each time, from what they are made of; those that
/// end Tor or change what others are answered are left out.
fn random_commands(count: usize) -> Vec<Vec<u8>> {
    const KEYWORDS: &[&str] = &[
        "GETINFO",
        "GETCONF",
        "SETEVENTS",
        "USEFEATURE",
        "RESOLVE",
        "EXTENDCIRCUIT",
        "SETCIRCUITPURPOSE",
        "ATTACHSTREAM",
        "REDIRECTSTREAM",
        "CLOSESTREAM",
        "CLOSECIRCUIT",
        "HSFETCH",
        "ADD_ONION",
        "DEL_ONION",
        "ONION_CLIENT_AUTH_VIEW",
        "ONION_CLIENT_AUTH_REMOVE",
        "ONION_CLIENT_AUTH_ADD",
        "DROPTIMEOUTS",
        "SAVECONF",
        "+POSTDESCRIPTOR",
        "SIGNAL",
    ];
    const PIECES: &[&[u8]] = &[
        b" ",
        b" ",
        b" ",
        b"\t",
        b"=",
        b"\"",
        b"\\",
        b",",
        b":",
        b"'",
        b"\0",
        b"\x0C",
        b"\x0B",
        b"0",
        b"1",
        b"80",
        b"x",
        b"$a",
        b"Port=80",
        b"Port=",
        b"Flags=",
        b"DiscardPK",
        b"Detach",
        b"NEW:BEST",
        b"NEW:",
        b"ED25519-V3:",
        b"mode=",
        b"ClientName=",
        b"x25519:",
        b"purpose=",
        b"general",
        b"SERVER=",
        b"HOP=",
        b"IfUnused",
        b"FORCE",
        b"\xff",
        b"\r",
        b"MaxStreams=",
        b"version",
        b"Log",
        b"CIRC",
        b"cache=no",
        b"ACTIVE",
        b"ClientAuthV3=",
        b"PoWQueueRate=",
        ONION.as_bytes(),
    ];
    let mut random = 0x5eed_u64;
    let mut below = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 32).expect("32 bits fit") % end
    };
    let mut commands = Vec::new();
    for _ in 0..count {
        let keyword = KEYWORDS[below(KEYWORDS.len())];
        let mut octets = [keyword.as_bytes(), b" "].concat();
        for _ in 0..below(9) {
            octets.extend_from_slice(PIECES[below(PIECES.len())]);
        }
        let body: &[u8] = if keyword.starts_with('+') {
            b"\r\nx\r\n."
        } else {
            b""
        };
        octets.extend_from_slice(body);
        octets.extend_from_slice(b"\r\n");
        commands.push(octets);
    }
    commands
}

#[test]
fn tor_answers_random_commands_alike() {
    if !has_tor() {
        return;
    }
    let (one, two) = (Home::new(), Home::new());
    let (_first, _second) = (one.start(), two.start());
    let (mut differences, mut sent, mut refused) = (String::new(), 0, 0);
    for octets in random_commands(6000) {
        let (how, got) = match written(&octets) {
            Ok(octets) => {
                sent += 1;
                (octets.escape_ascii().to_string(), answer(&two, &octets))
            }
            // Tor 0.4.9 ends when it gets this one without arguments.
            Err(refusal) if refusal.ends_with(ENDS_TOR) => continue,
            Err(refusal) => {
                refused += 1;
                ("refused".to_owned(), refusal)
            }
        };
        let expected = answer(&one, &octets);
        // Tor looks for the stream first, of which there is none; the parser knows of none.
        let is_no_stream =
            expected.starts_with(b"552 Unknown stream") && got.starts_with(b"552 Unknown circuit");
        // A name with a carriage return makes a reply that nobody can read: `552+=`, and no key.
        let is_unreadable = memchr::memmem::find(&expected, b"552+=\r\n").is_some()
            && got.starts_with(b"512 Bad arguments to GET");
        if expected != got && !is_no_stream && !is_unreadable {
            let (expected, got) = (expected.escape_ascii(), got.escape_ascii());
            let shown = octets.escape_ascii();
            let _ = write!(differences, "\n{shown}: {how}\n  {expected}\n  {got}");
        }
    }
    assert!(
        sent > 1000 && refused > 1000,
        "{sent} sent, {refused} refused"
    );
    assert!(differences.is_empty(), "{differences}");
}
