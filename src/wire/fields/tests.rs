use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::text::{Framed, Framer, encode_refusal};

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

fn read(octets: &[u8]) -> Result<Fields, Refusal> {
    match Framer::default().next(octets) {
        Framed::Command(command) => {
            assert_eq!(command.length, octets.len(), "{}", octets.escape_ascii());
            parse(super::text::verb(command.keyword)?, &command)
        }
        other => panic!("{}: {other:?}", octets.escape_ascii()),
    }
}

fn written(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    fields.write(&mut out);
    out
}

#[track_caller]
fn becomes(line: &str, expected: &str) {
    let fields = read(format!("{line}\r\n").as_bytes()).unwrap_or_else(|e| panic!("{line}: {e:?}"));
    assert_eq!(
        written(&fields).escape_ascii().to_string(),
        format!("{expected}\\r\\n")
    );
}

#[test]
fn each_command_has_one_form() {
    for (line, expected) in [
        (
            "getinfo\tversion  config-file ",
            "GETINFO version config-file",
        ),
        ("SIGNAL NEWNYM\0HALT", "SIGNAL NEWNYM"),
        (
            "setconf Log  ContactInfo=a\tX=\"b\\60\"",
            "SETCONF Log ContactInfo=\\\"a\\\" X=\\\"b0\\\"",
        ),
        (
            "add_onion new:best flags=detach,,discardpk PORT=80",
            "ADD_ONION NEW:BEST Flags=Detach,DiscardPK Port=80,127.0.0.1:80",
        ),
        (
            "ADD_ONION ed25519-v3:AAAA Port=80,LocalHost:81 Port=82,[::0:1]:83 MaxStreams=3",
            "ADD_ONION ED25519-V3:AAAA MaxStreams=3 Port=80,127.0.0.1:81 Port=82,[::1]:83",
        ),
        ("CLOSECIRCUIT 7 x ifunused", "CLOSECIRCUIT 7 IfUnused"),
        ("CLOSECIRCUIT 7 ifunused=1 ifunused", "CLOSECIRCUIT 7"),
        ("RESOLVE a Mode=REVERSE b", "RESOLVE mode=reverse a b"),
        (
            "EXTENDCIRCUIT 0 $a=b purpose=general x=y",
            "EXTENDCIRCUIT 0 $a=b purpose=general",
        ),
        ("TAKEOWNERSHIP now", "TAKEOWNERSHIP"),
    ] {
        becomes(line, expected);
    }
}

#[test]
fn a_body_is_written_in_lines() {
    for (octets, expected) in [
        (
            &b"+loadconf\r\n..a\nb\r\n.\r\n"[..],
            &b"+LOADCONF\r\n..a\r\nb\r\n.\r\n"[..],
        ),
        (b"+LOADCONF\r\na\0b\r\n.\r\n", b"+LOADCONF\r\na\r\n.\r\n"),
        (b"+LOADCONF\r\n\0\r\n.\r\n", b"+LOADCONF\r\n\r\n.\r\n"),
    ] {
        assert_eq!(written(&read(octets).unwrap()), expected);
    }
}

#[test]
fn a_number_has_one_form() {
    for (text, expected) in [
        ("0", Some(0)),
        ("65535", Some(65535)),
        ("65536", None),
        ("01", None),
        ("+1", None),
        ("-1", None),
        ("", None),
        (" 1", None),
    ] {
        assert_eq!(number::<u16>(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn what_is_not_tors_is_never_empty_of_a_refusal() {
    // Every command in the table, with nothing and with nonsense behind it.
    for &verb in Verb::ALL {
        for rest in ["", " x", " \"", " x=y", " 0 0"] {
            let body = if verb.keyword().starts_with('+') {
                "\r\nx\r\n."
            } else {
                ""
            };
            let line = format!("{}{rest}{body}\r\n", verb.keyword());
            if let Err(refusal) = read(line.as_bytes()) {
                let mut text = Vec::new();
                encode_refusal(&refusal, &mut text);
                assert!(text.len() > 8, "{line}");
            }
        }
    }
}

#[test]
fn a_target_is_an_address_in_its_plain_form() {
    for target in [
        "127.1:80",
        "0177.0.0.1:80",
        "2130706433:80",
        "127.0.0.1:+80",
        "127.0.0.1:080",
        "127.0.0.1:0",
        "0.0.0.0:80",
        "0.0.0.0",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "[0:0:0:0:0:ffff:0:0]:80",
        "::1",
        "unix:x",
        "example.com:80",
    ] {
        let line = format!("ADD_ONION NEW:BEST Port=80,{target}\r\n");
        let mut text = Vec::new();
        encode_refusal(&read(line.as_bytes()).unwrap_err(), &mut text);
        assert_eq!(text, b"512 Invalid VIRTPORT/TARGET\r\n", "{target}");
    }
}

#[test]
fn a_request_has_the_fields_of_its_command() {
    let events = [EventKind::Circ, EventKind::Bandwidth]
        .into_iter()
        .collect();
    let others = vec![&b"NEWER"[..]];
    for (request, line) in [
        (
            Request::SetEvents { events, others },
            "SETEVENTS CIRC BW NEWER",
        ),
        (
            Request::GetInfo(vec![b"version", b"x"]),
            "GETINFO version x",
        ),
        (Request::Signal(Signal::Halt), "SIGNAL HALT"),
        (Request::NewMessages, "GETINFO new-messages"),
        (Request::ControllerName(b"a"), "CONTROLLERNAME a"),
        (Request::Quit, "QUIT"),
    ] {
        let fields = Fields::of_request(&request).unwrap();
        assert_eq!(
            written(&fields).escape_ascii().to_string(),
            format!("{line}\\r\\n")
        );
    }
    assert_eq!(Fields::of_request(&Request::Relayed(Verb::AddOnion)), None);
}

/// A word that has no white space and no quote.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    "[!#-&(-<>-~]{1,9}".prop_map(String::into_bytes)
}

/// Words between blanks, of any octets that may stand there.
fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = vec(any::<u8>(), 1..8).prop_map(|mut word| {
        word.retain(|octet| !b"\0 \r\n\t\x0B\x0C".contains(octet));
        word.push(b'x');
        word
    });
    vec(word, 0..4)
}

fn settings() -> impl Strategy<Value = Vec<Setting>> {
    let value = vec(any::<u8>(), 0..9).prop_map(|mut value| {
        value.retain(|octet| !b"\0\r\n".contains(octet));
        value
    });
    let setting = (plain(), option::of(value));
    vec(
        setting.prop_map(|(name, value)| Setting { name, value }),
        0..4,
    )
}

fn onion() -> impl Strategy<Value = Onion> {
    "[a-zA-Z2-7]{56}".prop_map(|address| Onion::parse(address.as_bytes()).unwrap())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&b"ab.\n "[..]), 0..20).prop_map(|mut body| {
        body.push(b'\n');
        body
    })
}

fn port() -> impl Strategy<Value = Port> {
    let v4 = any::<[u8; 4]>().prop_map(core::net::IpAddr::from);
    let v6 = any::<[u16; 8]>().prop_map(core::net::IpAddr::from);
    let inet = (prop_oneof![v4, v6], 1..=u16::MAX)
        .prop_filter("0.0.0.0 is none", |(host, _)| {
            !host.to_canonical().is_unspecified()
        })
        .prop_map(|(host, port)| Target::Inet(host, port));
    let unix = plain().prop_map(|name| Target::Unix([b"/", &name[..]].concat()));
    (1..=u16::MAX, prop_oneof![inet, unix]).prop_map(|(virtual_port, target)| Port {
        virtual_port,
        target,
    })
}

fn add_onion() -> impl Strategy<Value = Fields> {
    let key = prop_oneof![
        Just(Key::NewBest),
        Just(Key::NewEd25519),
        "[a-zA-Z0-9+/=]{1,88}".prop_map(|key| Key::Ed25519(key.into_bytes().into())),
    ];
    let client = "[A-Z2-7]{52}".prop_map(String::into_bytes);
    let int32 = || option::of(0..=i32::MAX as u32);
    let flags = vec(select(&Flag::ALL[..]), 0..3);
    (
        key,
        vec(port(), 1..3),
        flags,
        option::of(any::<u16>()),
        vec(client, 0..3),
        (option::of(any::<bool>()), int32(), int32()),
    )
        .prop_map(|(key, ports, flags, max_streams, clients, pow)| {
            let mut flags: std::collections::BTreeSet<_> = flags.into_iter().collect();
            flags.remove(&Flag::V3Auth);
            flags.extend((!clients.is_empty()).then_some(Flag::V3Auth));
            let (pow, pow_rate, pow_burst) = pow;
            Fields::AddOnion(AddOnion {
                key,
                ports,
                flags,
                max_streams,
                clients,
                pow,
                pow_rate,
                pow_burst,
            })
        })
}

fn circuits() -> impl Strategy<Value = Fields> {
    let path = "[a-zA-Z0-9,$~]{1,9}".prop_map(String::into_bytes);
    prop_oneof![
        (any::<u32>(), option::of(path), option::of(plain())).prop_map(
            |(circuit, path, purpose)| {
                let purpose = purpose.map(|_| b"general".to_vec());
                Fields::ExtendCircuit(ExtendCircuit {
                    circuit,
                    path,
                    purpose,
                })
            }
        ),
        (any::<u32>(), option::of(plain()))
            .prop_map(|(circuit, purpose)| Fields::SetCircuitPurpose { circuit, purpose }),
        (any::<u64>(), any::<u32>(), option::of(any::<u32>())).prop_map(
            |(stream, circuit, hop)| Fields::AttachStream(AttachStream {
                stream,
                circuit,
                hop
            })
        ),
        (any::<u64>(), plain(), option::of(1..=u16::MAX)).prop_map(|(stream, address, port)| {
            Fields::RedirectStream(RedirectStream {
                stream,
                address,
                port,
            })
        }),
        (any::<u64>(), any::<u8>())
            .prop_map(|(stream, reason)| Fields::CloseStream { stream, reason }),
        (any::<u32>(), any::<bool>())
            .prop_map(|(circuit, if_unused)| Fields::CloseCircuit { circuit, if_unused }),
    ]
}

fn onions() -> impl Strategy<Value = Fields> {
    let servers = || vec(plain(), 0..3);
    let name = vec(select(&b"abc-_"[..]), 0..=16);
    let key = "[a-zA-Z0-9+/=]{1,44}".prop_map(String::into_bytes);
    prop_oneof![
        (onion(), servers()).prop_map(|(onion, servers)| Fields::HsFetch { onion, servers }),
        (onion(), servers(), body()).prop_map(|(onion, servers, descriptor)| {
            Fields::HsPost(HsPost {
                onion,
                servers,
                descriptor,
            })
        }),
        onion().prop_map(Fields::DelOnion),
        onion().prop_map(Fields::ClientAuthRemove),
        option::of(onion()).prop_map(Fields::ClientAuthView),
        (onion(), key, option::of(name), any::<bool>()).prop_map(
            |(onion, key, name, permanent)| {
                Fields::ClientAuthAdd(ClientKey {
                    onion,
                    key: key.into(),
                    name,
                    permanent,
                })
            }
        ),
    ]
}

fn others() -> impl Strategy<Value = Fields> {
    let signal = select(crate::wire::request::SIGNALS);
    let options = vec(
        (
            select(vec![b"cache".to_vec(), b"purpose".to_vec()]),
            plain(),
        ),
        0..3,
    );
    prop_oneof![
        words().prop_map(Fields::GetInfo),
        words().prop_map(Fields::GetConf),
        words().prop_map(Fields::SetEvents),
        settings().prop_map(Fields::SetConf),
        settings().prop_map(Fields::ResetConf),
        body().prop_map(Fields::LoadConf),
        any::<bool>().prop_map(|force| Fields::SaveConf { force }),
        signal.prop_map(|(name, _)| Fields::Signal(name.as_bytes().to_vec())),
        vec((plain(), plain()), 1..4).prop_map(Fields::MapAddress),
        (options, body()).prop_map(|(options, descriptor)| Fields::PostDescriptor {
            options,
            descriptor
        }),
        (
            vec("[a-z.]{1,9}".prop_map(String::into_bytes), 0..3),
            any::<bool>()
        )
            .prop_map(|(addresses, reverse)| Fields::Resolve { addresses, reverse }),
        select(vec![
            Fields::TakeOwnership,
            Fields::DropOwnership,
            Fields::DropGuards,
            Fields::DropTimeouts,
            Fields::UseFeature(vec![b"VERBOSE_NAMES".to_vec()]),
            Fields::Session(Verb::Quit),
        ]),
        "[a-z_]{1,9}".prop_map(|name| Fields::ControllerName(name.into_bytes())),
        ("[a-z_]{1,9}", "[ -~]{1,9}").prop_map(|(destination, text)| Fields::PostMessage {
            destination: destination.into_bytes(),
            text: text.into_bytes(),
        }),
    ]
}

/// Lines made of what commands are made of.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let keywords: Vec<_> = Verb::ALL.iter().map(|verb| verb.keyword()).collect();
    let pieces: Vec<&[u8]> = vec![
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
        b"0",
        b"80",
        b"080",
        b"1.2.3.4",
        b"[::1]",
        b"unix:/",
        b"Port=",
        b"Flags=",
        b"DiscardPK",
        b"NEW:BEST",
        b"mode=",
        b"ClientName=",
        b"x25519:",
        ONION.as_bytes(),
        b"purpose=",
        b"SERVER=",
        b"HSADDRESS=",
        b"FORCE",
        b"\xff",
        b"\r",
        b"MaxStreams=",
        b"ED25519-V3:",
        b"localhost",
    ];
    (select(keywords), vec(select(pieces), 0..12)).prop_map(|(keyword, pieces)| {
        let body: &[u8] = if keyword.starts_with('+') {
            b"\r\nx\r\n."
        } else {
            b""
        };
        [keyword.as_bytes(), b" ", &pieces.concat(), body, b"\r\n"].concat()
    })
}

proptest! {
    #[test]
    fn written_and_read_again_they_are_the_same(
        fields in prop_oneof![add_onion(), circuits(), onions(), others()]
    ) {
        let octets = written(&fields);
        prop_assert_eq!(read(&octets), Ok(fields), "{}", octets.escape_ascii());
    }

    #[test]
    fn whatever_is_read_is_the_same_when_it_is_written(line in lines()) {
        if let Ok(fields) = read(&line) {
            let octets = written(&fields);
            let again = read(&octets);
            prop_assert_eq!(again, Ok(fields), "{} {}", line.escape_ascii(), octets.escape_ascii());
        }
    }
}
