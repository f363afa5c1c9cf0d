//! Properties of the v0 dialect: long messages come apart and together again, and whatever is
//! written can be read back as one message.

use std::sync::Arc;

use onionbus::wire::binary::{
    self, Fragments, Frame, Gathered, MAX_BODY, MAX_MESSAGE, Version, code, kind,
};
use onionbus::wire::message::{Destination, Message};
use onionbus::wire::reply::Value;
use onionbus::wire::request::{Setting, TorRequest};
use onionbus::wire::{Event, EventKind, Refusal, Reply, Request, Severity};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The one message that octets are, in fragments or not.
fn message(octets: &[u8]) -> (u16, Vec<u8>) {
    match Fragments::default().next(octets) {
        Gathered::Message { length, kind, body } => {
            assert_eq!(length, octets.len(), "something follows the message");
            assert!(body.len() > MAX_BODY, "fragmented for nothing");
            (kind, body)
        }
        Gathered::None => {
            let frame = binary::next(octets).expect("a whole frame");
            assert_eq!(frame.length(), octets.len(), "something follows the frame");
            (frame.kind, frame.body.to_vec())
        }
        other => panic!("{other:?}"),
    }
}

fn reply(reply: &Reply) -> (u16, Vec<u8>) {
    let mut out = Vec::new();
    binary::encode_reply(Version::V0, reply, &mut out);
    message(&out)
}

fn parse(kind: u16, body: &[u8]) -> Result<Request<'_>, Refusal> {
    let frame = Frame { kind, body };
    binary::parse(Version::V0, binary::verb(Version::V0, frame)?, frame)
}

fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &kind.to_be_bytes(), body].concat()
}

/// A message in fragments that end at these places.
fn fragmented(kind: u16, body: &[u8], mut places: Vec<usize>) -> Vec<u8> {
    places.sort_unstable();
    places.insert(0, 0);
    places.push(body.len());
    let mut parts = places.windows(2).map(|ends| &body[ends[0]..ends[1]]);
    let total = u32::try_from(body.len()).unwrap().to_be_bytes();
    let first = [&kind.to_be_bytes()[..], &total, parts.next().unwrap()].concat();
    let mut octets = frame(kind::FRAGMENTHEADER, &first);
    for part in parts {
        octets.extend(frame(kind::FRAGMENT, part));
    }
    octets
}

/// What is gathered from octets that come one by one, and how many have come by then.
fn octet_by_octet(octets: &[u8]) -> (Gathered, usize) {
    let mut fragments = Fragments::default();
    for end in 1..=octets.len() {
        match fragments.next(&octets[..end]) {
            Gathered::None | Gathered::Incomplete => {}
            done => return (done, end),
        }
    }
    (Gathered::Incomplete, octets.len())
}

proptest! {
    #[test]
    fn fragments_make_the_message_wherever_they_are_cut(
        body in vec(any::<u8>(), 1..300),
        places in vec(any::<Index>(), 0..6),
        underlying in any::<u16>(),
    ) {
        let places = places.iter().map(|place| place.index(body.len())).collect();
        let mut octets = fragmented(underlying, &body, places);
        let length = octets.len();
        octets.extend_from_slice(b"\0\0\0\x0b");
        let expected = Gathered::Message { length, kind: underlying, body };
        prop_assert_eq!(&Fragments::default().next(&octets), &expected);
        let (gathered, end) = octet_by_octet(&octets);
        prop_assert_eq!((gathered, end), (expected, length));
    }

    #[test]
    fn a_long_value_is_fragmented_and_a_short_one_is_not(
        length in (MAX_BODY - 20)..(3 * MAX_BODY),
        fill in 1..=255u8,
    ) {
        // CR does not stand in a value of this dialect.
        let value = vec![if fill == b'\r' { b'x' } else { fill }; length];
        let pair = (b"k".to_vec(), Value::Octets(value.clone()));
        let (kind, body) = reply(&Reply::Info(vec![pair]));
        prop_assert_eq!(kind, kind::INFOVALUE);
        prop_assert_eq!(body, [b"k\0", &value[..], b"\0"].concat());
    }

    #[test]
    fn what_stands_in_a_conf_value_reads_back(
        values in vec((0..3usize, vec(1..=255u8, 0..30)), 0..5),
    ) {
        let names = ["ContactInfo", "Log", "Nickname"];
        // What has blanks around it is trimmed, as everywhere in an option file.
        let values: Vec<_> = values
            .into_iter()
            .map(|(name, value)| (names[name], value.trim_ascii().to_vec()))
            .filter(|(_, value)| value.last() != Some(&b'\\'))
            .collect();
        let pairs = values.iter().map(|(name, value)| ((*name).into(), Some(value.clone())));
        let (kind, body) = reply(&Reply::Conf(pairs.collect()));
        prop_assert_eq!(kind, kind::CONFVALUE);
        prop_assert_eq!(memchr::memchr_iter(b'\n', &body).count(), values.len());
        let settings = values.iter().map(|(name, value)| Setting {
            name: name.as_bytes().to_vec(),
            value: Some(value.clone()).filter(|value| !value.is_empty()),
        });
        let settings: Vec<_> = settings.collect();
        let expected = if settings.iter().all(|setting| setting.value.is_some()) {
            Request::SetConf(settings)
        } else {
            Request::ResetConf(settings)
        };
        prop_assert_eq!(parse(kind::SETCONF, &body), Ok(expected));
    }

    #[test]
    fn no_body_is_too_strange(kind in 0..0x16u16, body in vec(any::<u8>(), 0..40)) {
        if let Err(refusal) = parse(kind, &body) {
            let mut out = Vec::new();
            binary::encode_refusal(Version::V0, &refusal, &mut out);
            let (kind, error) = message(&out);
            prop_assert_eq!(kind, kind::ERROR);
            prop_assert!(error.len() > 2 && !error[2..].contains(&0));
            prop_assert!(matches!(error[..2], [0, 2..=6]), "{:?}", refusal);
        }
    }

    #[test]
    fn strange_events_of_tor_are_one_message_or_none(
        which in 0..EventKind::NAMED.len(),
        rest in vec(any::<u8>(), 0..60),
        version in prop_oneof![Just(Version::Tc), Just(Version::V0)],
    ) {
        let kind = EventKind::NAMED[which];
        let line = [b"650 ", kind.name().unwrap().as_bytes(), b" ", &rest, b"\r\n"].concat();
        let event = Event::OfTor { kind, number: 7, line: line.into() };
        let mut out = Vec::new();
        binary::encode_event(version, &event, &mut out);
        if !out.is_empty() {
            prop_assert_eq!(message(&out).0, kind::EVENT);
        }
    }
}

fn refused(kind: u16, body: &[u8]) -> u16 {
    let refusal = parse(kind, body).expect_err("refused");
    let mut out = Vec::new();
    binary::encode_refusal(Version::V0, &refusal, &mut out);
    u16::from_be_bytes(message(&out).1[..2].try_into().unwrap())
}

#[test]
fn bodies_as_old_clients_send_them() {
    for body in [
        &b"Nickname"[..],
        b"Nickname\n",
        b"Nickname\0",
        b"\n Nickname \r\n\n",
    ] {
        assert_eq!(
            parse(kind::GETCONF, body),
            Ok(Request::GetConf(vec![b"Nickname"]))
        );
        assert_eq!(
            parse(kind::GETINFO, body),
            Ok(Request::GetInfo(vec![b"Nickname"]))
        );
    }
    assert_eq!(
        parse(kind::GETCONF, b"a\nb\nc"),
        Ok(Request::GetConf(vec![b"a", b"b", b"c"]))
    );
    assert_eq!(parse(kind::GETINFO, b""), Ok(Request::GetInfo(vec![])));
    let setting = |name: &[u8], value: Option<&[u8]>| Setting {
        name: name.to_vec(),
        value: value.map(<[u8]>::to_vec),
    };
    for (body, expected) in [
        (&b"a 1"[..], vec![setting(b"a", Some(b"1"))]),
        (b"a 1\n\n", vec![setting(b"a", Some(b"1"))]),
        (b"", vec![]),
    ] {
        assert_eq!(parse(kind::SETCONF, body), Ok(Request::SetConf(expected)));
    }
    assert_eq!(
        parse(kind::SETCONF, b"a\nb 2 3 # c\n"),
        Ok(Request::ResetConf(vec![
            setting(b"a", None),
            setting(b"b", Some(b"2 3"))
        ]))
    );
    assert_eq!(
        parse(kind::MAPADDRESS, b"1.2.3.4 a.b\n\n"),
        Ok(Request::Tor(TorRequest::MapAddress(vec![(
            b"1.2.3.4", b"a.b"
        )])))
    );
    for end in [&b""[..], b"\0"] {
        let with = |octets: &[u8]| [octets, end].concat();
        assert_eq!(
            parse(kind::EXTENDCIRCUIT, &with(b"\0\0\x01\0a,b")),
            Ok(Request::Tor(TorRequest::ExtendCircuit {
                circuit: 256,
                path: b"a,b"
            }))
        );
        assert_eq!(
            parse(kind::REDIRECTSTREAM, &with(b"\0\0\0\x05a.b")),
            Ok(Request::Tor(TorRequest::RedirectStream {
                stream: 5,
                address: b"a.b"
            }))
        );
        assert_eq!(
            parse(kind::POSTDESCRIPTOR, &with(b"router x\n")),
            Ok(Request::Tor(TorRequest::PostDescriptor(b"router x\n")))
        );
    }
    assert_eq!(
        parse(kind::CLOSESTREAM, b"\0\0\0\x05\x06\0"),
        Ok(Request::Tor(TorRequest::CloseStream {
            stream: 5,
            reason: 6
        }))
    );
    assert_eq!(
        parse(kind::CLOSECIRCUIT, b"\0\0\0\x05\x03"),
        Ok(Request::Tor(TorRequest::CloseCircuit {
            circuit: 5,
            if_unused: true
        }))
    );
}

#[test]
fn what_is_wrong_has_the_code_for_it() {
    for (kind, body, code) in [
        (0x0D0A, &b""[..], 0x0002),
        (kind::ERROR, b"", 0x0002),
        (kind::DONE, b"", 0x0002),
        (kind::CONFVALUE, b"", 0x0002),
        (kind::EVENT, b"", 0x0002),
        (kind::INFOVALUE, b"", 0x0002),
        (kind::SETEVENTS, b"\0", 0x0003),
        (kind::SETEVENTS, b"\0\0", 0x0006),
        (kind::SETEVENTS, b"\0\x01\0\x0C", 0x0006),
        (kind::SETCONF, b"a \"b", 0x0003),
        (kind::SAVECONF, b"x", 0x0003),
        (kind::SIGNAL, b"", 0x0003),
        (kind::SIGNAL, b"\x03", 0x0006),
        (kind::MAPADDRESS, b"", 0x0003),
        (kind::MAPADDRESS, b"1.2.3.4\n", 0x0003),
        (kind::EXTENDCIRCUIT, b"\0\0\0", 0x0003),
        (kind::EXTENDCIRCUIT, b"\0\0\0\0\0", 0x0003),
        (kind::EXTENDCIRCUIT, b"\0\0\0\0a\0b", 0x0003),
        (kind::ATTACHSTREAM, b"\0\0\0\x01\0\0\0", 0x0003),
        (kind::CLOSESTREAM, b"\0\0\0\x01", 0x0003),
        (kind::CLOSECIRCUIT, b"\0\0\0\x01\0\0", 0x0003),
    ] {
        assert_eq!(refused(kind, body), code, "0x{kind:04x} {body:?}");
    }
    for (line, code) in [
        (
            "552 Unrecognized option: Unknown option 'x'.  Failing.",
            0x0004,
        ),
        ("552 Unrecognized configuration key \"x\"", 0x0004),
        ("552 Unrecognized key \"x\"", 0x0004),
        ("513 Unacceptable option value: x", 0x0005),
        ("553 Transition not allowed: x", 0x0005),
        ("552 Unrecognized event \"X\"", 0x0006),
        ("552 Unrecognized signal code \"X\"", 0x0006),
        ("552 Unknown stream \"1\"", 0x000A),
        ("552 Unknown circuit \"1\"", 0x000B),
        ("552 No such router \"x\"", 0x000C),
        ("551 Couldn't start circuit", 0x0001),
        ("554 Couldn't parse router descriptor.", 0x0003),
        ("451 Resource exhausted", 0x0009),
        ("555 Connection is not managed by controller.", 0x0000),
    ] {
        let refusal = Refusal::OfTor(line.into());
        let mut out = Vec::new();
        binary::encode_refusal(Version::V0, &refusal, &mut out);
        let (_, body) = message(&out);
        assert_eq!(body, [&[0, code][..], &line.as_bytes()[4..]].concat());
    }
}

#[test]
fn broken_fragments_are_refused_as_one_and_what_follows_is_read() {
    let header = frame(kind::FRAGMENTHEADER, b"\0\x02\0\0\0\x05ab");
    let part = |body: &[u8]| frame(kind::FRAGMENT, body);
    let syntax = |octets: &[u8]| match Fragments::default().next(octets) {
        Gathered::Broken {
            length,
            refusal: Refusal::Malformed(_),
        } => length,
        other => panic!("{other:?}"),
    };
    assert_eq!(syntax(&part(b"x")), 5);
    assert_eq!(syntax(&frame(kind::FRAGMENTHEADER, b"\0\x02\0\0\0")), 9);
    let overfull = [&header[..], &part(b"c"), &part(b"def")].concat();
    assert_eq!(syntax(&overfull), overfull.len());
    let interrupted = [&header[..], &part(b"c"), &frame(kind::GETINFO, b"version")].concat();
    assert_eq!(syntax(&interrupted), header.len() + 5);
    // As jtorctl sends it, with data where a header should stand: it announces what will not come.
    let headless = [&header[..], b"xxxxxx"].concat();
    assert_eq!(syntax(&headless), header.len());

    let length = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes();
    let long = frame(kind::FRAGMENTHEADER, &[&[0, 2][..], &length].concat());
    let refusal = Refusal::LineTooLong;
    let length = long.len();
    assert_eq!(
        Fragments::default().next(&long),
        Gathered::Broken { length, refusal }
    );
    let endless = [header, part(b"").repeat(MAX_MESSAGE)].concat();
    assert!(matches!(
        Fragments::default().next(&endless),
        Gathered::Broken {
            refusal: Refusal::LineTooLong,
            ..
        }
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn every_event_has_its_code() {
    let of_tor = |kind: EventKind, number, rest: &str| Event::OfTor {
        kind,
        number,
        line: format!("650 {} {rest}\r\n", kind.name().unwrap())
            .into_bytes()
            .into(),
    };
    let log = |severity| Event::Log {
        severity,
        text: "x".into(),
    };
    let circuit = |status| of_tor(EventKind::Circ, 258, status);
    let stream = |status| {
        of_tor(
            EventKind::Stream,
            7,
            &format!("7 {status} 3 a.b:80 PURPOSE=USER"),
        )
    };
    let or = |status| of_tor(EventKind::OrConn, 0, &format!("$AB~c {status} ID=4"));
    let (c, s, o) = (code::CIRCUIT, code::STREAM, code::OR_CONNECTION);
    let path = b"\0\0\x01\x02$AB~c,$CD~d\0";
    let none = b"\0\0\x01\x02\0";
    let target = b"\0\0\0\x07a.b:80\0";
    let both = [Version::Tc, Version::V0];
    let v0 = [Version::V0];
    let cases: Vec<(Event, &[Version], u16, Vec<u8>)> = vec![
        (
            circuit("258 LAUNCHED BUILD_FLAGS=X"),
            &both,
            c,
            [&[0], &none[..]].concat(),
        ),
        (
            circuit("258 LAUNCHED"),
            &both,
            c,
            [&[0], &none[..]].concat(),
        ),
        (
            circuit("258 BUILT $AB~c,$CD~d A=b"),
            &both,
            c,
            [&[1], &path[..]].concat(),
        ),
        (
            circuit("258 EXTENDED $AB~c,$CD~d"),
            &both,
            c,
            [&[2], &path[..]].concat(),
        ),
        (
            circuit("258 FAILED REASON=X"),
            &both,
            c,
            [&[3], &none[..]].concat(),
        ),
        (
            circuit("258 CLOSED $AB=c A=b"),
            &both,
            c,
            b"\x04\0\0\x01\x02$AB=c\0".to_vec(),
        ),
        (circuit("258 GUARD_WAIT x"), &[], c, vec![]),
        (
            stream("SENTCONNECT"),
            &both,
            s,
            [&[0], &target[..]].concat(),
        ),
        (
            stream("SENTRESOLVE"),
            &both,
            s,
            [&[1], &target[..]].concat(),
        ),
        (stream("SUCCEEDED"), &both, s, [&[2], &target[..]].concat()),
        (stream("FAILED"), &both, s, [&[3], &target[..]].concat()),
        (stream("CLOSED"), &both, s, [&[4], &target[..]].concat()),
        (stream("NEW"), &v0, s, [&[5], &target[..]].concat()),
        (stream("NEWRESOLVE"), &v0, s, [&[6], &target[..]].concat()),
        (stream("DETACHED"), &v0, s, [&[7], &target[..]].concat()),
        (stream("REMAP"), &[], s, vec![]),
        (or("LAUNCHED"), &both, o, b"\0$AB~c\0".to_vec()),
        (or("CONNECTED"), &both, o, b"\x01$AB~c\0".to_vec()),
        (or("FAILED"), &both, o, b"\x02$AB~c\0".to_vec()),
        (or("CLOSED"), &both, o, b"\x03$AB~c\0".to_vec()),
        (or("NEW"), &[], o, vec![]),
        (
            of_tor(EventKind::Bandwidth, 0, "1 4294967296"),
            &both,
            code::BANDWIDTH,
            b"\0\0\0\x01\xff\xff\xff\xff".to_vec(),
        ),
        (
            of_tor(EventKind::NewDesc, 0, "$AB~c $CD"),
            &v0,
            code::NEWDESC,
            b"AB,CD\0".to_vec(),
        ),
        (log(Severity::Debug), &v0, code::DEBUG, b"x\0".to_vec()),
        (log(Severity::Info), &v0, code::INFO, b"x\0".to_vec()),
        (log(Severity::Notice), &v0, code::NOTICE, b"x\0".to_vec()),
        (log(Severity::Warn), &v0, code::WARN, b"x\0".to_vec()),
        (
            of_tor(EventKind::Err, 0, "x y"),
            &v0,
            code::ERR,
            b"x y\0".to_vec(),
        ),
    ];
    for (event, versions, code, fields) in cases {
        for version in both {
            let mut out = Vec::new();
            binary::encode_event(version, &event, &mut out);
            let is_problem = matches!(event.kind(), EventKind::Warn | EventKind::Err);
            if versions.contains(&version) {
                let expected = (kind::EVENT, [&code.to_be_bytes()[..], &fields].concat());
                assert_eq!(message(&out), expected, "{event:?}");
            } else if is_problem {
                // The draft has one code for both.
                let expected = [&code::WARNING.to_be_bytes()[..], &fields].concat();
                assert_eq!(message(&out), (kind::EVENT, expected));
            } else {
                assert_eq!(out, b"", "{event:?}");
            }
        }
    }
}

#[test]
fn the_old_code_for_logs_is_for_notices_warnings_and_errors() {
    let text = |severity| {
        let mut out = Vec::new();
        let text = "x".into();
        binary::encode_any_log(&Event::Log { severity, text }, &mut out);
        out
    };
    for severity in [Severity::Notice, Severity::Warn, Severity::Err] {
        assert_eq!(
            message(&text(severity)),
            (kind::EVENT, b"\0\x05x\0".to_vec())
        );
    }
    for severity in [Severity::Debug, Severity::Info] {
        assert_eq!(text(severity), b"");
    }
}

#[test]
fn the_extension_range_is_the_drafts() {
    let posted = Arc::new(Message {
        id: 1,
        source: None,
        destination: Destination::All,
        text: vec![b'x'; 40_000].into(),
    });
    let (kind, body) = reply(&Reply::Messages(vec![Arc::clone(&posted), posted]));
    assert_eq!(kind, kind::MESSAGES);
    // Nothing is left out where a message can be fragmented.
    assert_eq!(body.len(), 2 * (8 + b"unset\0all\0".len() + 40_001));
    assert_eq!(
        parse(kind::CONTROLLERNAME, b"a\0"),
        Ok(Request::ControllerName(b"a"))
    );
    assert_eq!(refused(kind::CONTROLLERNAME, b"a"), 0x0003);
}
