//! Properties of both codecs: what arrives in pieces means what it means whole, no octets are too
//! strange to be read, and whatever is written can be read back as one thing.

use std::sync::Arc;

use onionbus::command::Verb;
use onionbus::controller::{Conversation, Entry, Step};
use onionbus::sys::peer::Peer;
use onionbus::wire::binary::{self, Frame, MAX_BODY, Version, code, kind};
use onionbus::wire::detect::{Detected, detect};
use onionbus::wire::event::ControllerChange;
use onionbus::wire::message::{ControllerId, Destination, Message};
use onionbus::wire::reply::{OptionValue, Value};
use onionbus::wire::request::Setting;
use onionbus::wire::text::{self, Framed, Framer};
use onionbus::wire::{Dialect, Event, Refusal, Reply, Request, Severity};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Octets that both codecs have an opinion about, between others.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        3 => select(WORDS).prop_map(<[u8]>::to_vec),
        3 => select(ENDS).prop_map(<[u8]>::to_vec),
        2 => (any::<u8>(), 0..0x20u16, vec(any::<u8>(), 0..9)).prop_map(|(high, low, body)| {
            let kind = if high & 1 == 0 { low } else { 0xF000 | low };
            let mut frame = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            frame.extend(kind.to_be_bytes());
            frame.extend(body);
            frame
        }),
    ];
    vec(parts, 0..12).prop_map(|parts| parts.concat())
}

const WORDS: &[&[u8]] = &[
    b"POSTMESSAGE @all ",
    b"CONTROLLERNAME a",
    b"+LOADCONF",
    b"+X ",
    b"SETCONF BusHistory=",
    b"AUTHENTICATE \"",
    b"AUTHCHALLENGE SAFECOOKIE 00",
    b"PROTOCOLINFO",
    b"GETINFO version",
    b"SETEVENTS CIRC",
    b"QUIT",
    b"GET / HTTP/1.0",
    b".",
    b"\\",
    b"\"",
];

const ENDS: &[&[u8]] = &[b"\r\n", b"\n", b"\r", b"\r\n.\r\n", b"\n.\n", b"\0", b" "];

/// Octets of an answer: those that could end a line or a string are frequent.
fn answer_octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        3 => any::<u8>(),
        2 => select(&b"\r\n\0. \"\\250650-+"[..]),
    ];
    vec(octet, 0..most)
}

fn session(dialect: Option<Dialect>) -> Conversation {
    let peer = Peer {
        pid: 1,
        uid: 2,
        gid: 3,
    };
    Conversation::new(1, peer, dialect, Entry::Open)
}

/// One of the steps of a session, without what it borrows.
#[derive(Debug, PartialEq)]
enum Seen {
    Http,
    Command(usize, String, bool),
}

/// What a session makes of octets that arrive in these pieces, and how many it consumes.
fn steps(octets: &[u8], mut cuts: Vec<usize>, dialect: Option<Dialect>) -> (Vec<Seen>, usize) {
    let mut session = session(dialect);
    let (mut seen, mut consumed) = (Vec::new(), 0);
    cuts.push(octets.len());
    cuts.sort_unstable();
    for end in cuts {
        while consumed < end {
            let gathered;
            let mut step = session.step(&octets[consumed..end]);
            if let Step::Gathered { length, kind, body } = step {
                gathered = body;
                step = session.message(
                    length,
                    Frame {
                        kind,
                        body: &gathered,
                    },
                );
            }
            if let Step::Line(line) = step {
                step = session.command(line);
            }
            match step {
                Step::Line(_) => unreachable!("it is a command by now"),
                Step::Incomplete | Step::Gathered { .. } => break,
                Step::Http => {
                    seen.push(Seen::Http);
                    return (seen, consumed);
                }
                Step::Command {
                    length,
                    request,
                    logs_in,
                    text,
                } => {
                    assert!(length > 0, "nothing consumed");
                    consumed += length;
                    session.consumed();
                    if matches!(request, Ok(Request::Authenticate(_))) {
                        session.authenticate(b"").expect("no cookie is required");
                    }
                    seen.push(Seen::Command(
                        length,
                        format!("{request:?} {text:?}"),
                        logs_in,
                    ));
                }
            }
        }
    }
    (seen, consumed)
}

/// Where octets are cut at these places.
fn cut(octets: &[u8], places: &[Index]) -> Vec<usize> {
    places
        .iter()
        .map(|place| place.index(octets.len() + 1))
        .collect()
}

fn is_frame(octets: &[u8]) -> Frame<'_> {
    let frame = binary::next(octets).expect("a whole frame");
    assert_eq!(frame.length(), octets.len(), "something follows the frame");
    assert!(frame.body.len() <= MAX_BODY);
    frame
}

/// The strings of a body, which must end with NUL.
fn strings(body: &[u8]) -> Vec<&[u8]> {
    let body = body.strip_suffix(b"\0").expect("a NUL at the end");
    body.split(|&octet| octet == 0).collect()
}

/// The lines of a text answer, each checked to be one.
fn lines(octets: &[u8]) -> Vec<&[u8]> {
    let octets = octets.strip_suffix(b"\r\n").expect("an end of line");
    let mut lines = Vec::new();
    let mut rest = octets;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// An answer has lines with its status, `-` or `+` and data lines up to a dot between, and ends
/// with the first one that has a space.
fn is_answer(octets: &[u8], status: &str) {
    let mut lines = lines(octets).into_iter();
    while let Some(line) = lines.next() {
        assert!(
            line.len() >= 4 && line.starts_with(status.as_bytes()),
            "{:?} begins with no {status}",
            line.escape_ascii().to_string()
        );
        assert!(!line.contains(&b'\n'), "a line in a line");
        match line[3] {
            b' ' => {
                assert_eq!(lines.next(), None, "something follows the answer");
                return;
            }
            b'-' => {}
            b'+' => assert!(lines.any(|line| line == b"."), "data without an end"),
            other => panic!("{other} follows the status"),
        }
    }
    panic!("an answer without an end");
}

fn name() -> impl Strategy<Value = ControllerId> {
    "[A-Za-z0-9_]{1,64}".prop_map(|name| ControllerId::parse(name.as_bytes()).unwrap())
}

/// A message as the bus holds it: no NUL, CR or LF in the text.
fn message() -> impl Strategy<Value = Arc<Message>> {
    let text = prop_oneof![
        9 => answer_octets(40),
        // With names these are shorter and longer than a body.
        1 => (65_300..65_700usize).prop_map(|length| vec![b'x'; length]),
    ];
    (any::<u64>(), option::of(name()), option::of(name()), text).prop_map(
        |(id, source, destination, mut text)| {
            text.retain(|octet| !matches!(octet, 0 | b'\r' | b'\n'));
            text.push(b'.');
            Arc::new(Message {
                id,
                source,
                destination: destination.map_or(Destination::All, Destination::Name),
                text: text.into(),
            })
        },
    )
}

/// Options whose values hold any octets.
fn options() -> impl Strategy<Value = Vec<OptionValue>> {
    let name = select(&["BusSocket", "BusLog"][..]).prop_map(Into::into);
    vec((name, option::of(answer_octets(30))), 0..4)
}

/// Refusals that quote what a controller sent.
fn refusal() -> impl Strategy<Value = Refusal> {
    let one = answer_octets(30).prop_map(|mut octets| {
        // The framer ends every command with LF, so none can be quoted.
        octets.retain(|&octet| octet != b'\n');
        octets
    });
    let many = vec(one, 1..4);
    (0..8u8, many).prop_map(|(which, mut many)| {
        let one = many[0].clone();
        match which {
            0 => Refusal::UnrecognizedKeys(many),
            1 => Refusal::UnrecognizedOptions(many),
            2 => Refusal::UnrecognizedCommand(one),
            3 => Refusal::UnrecognizedEvent(one),
            4 => Refusal::UnrecognizedSignal(one),
            5 => Refusal::UnrecognizedFeature(one),
            6 => Refusal::NoSuchVersion {
                version: many.remove(0),
                close: true,
            },
            _ => Refusal::NeedsTor("GETINFO ns/all".into()),
        }
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        answer_octets(60).prop_map(Value::Octets),
        vec(message(), 0..4).prop_map(Value::Messages),
        vec(option::of(name()), 0..4).prop_map(Value::Controllers),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let controller = (option::of(name()), name(), 0..4u8, any::<(u64, u32, i32)>());
    prop_oneof![
        message().prop_map(Event::Message),
        any::<(u64, u64)>().prop_map(|(read, written)| Event::Bandwidth { read, written }),
        options().prop_map(|options| Event::ConfChanged(options.into())),
        controller.prop_map(|(name, old, what, (session, uid, pid))| Event::Controller {
            change: match what {
                0 => ControllerChange::Connected,
                1 => ControllerChange::Named,
                2 => ControllerChange::Renamed(old),
                _ => ControllerChange::Disconnected,
            },
            session,
            name,
            uid,
            pid,
        }),
        // The logger leaves no CR, LF or NUL in a line.
        ("[^\r\n\0]{0,60}", any::<bool>()).prop_map(|(text, bad)| Event::Log {
            severity: if bad { Severity::Err } else { Severity::Notice },
            text: text.into(),
        }),
    ]
}

proptest! {
    #[test]
    fn a_session_reads_any_octets_and_their_pieces_as_the_whole(
        octets in octets(),
        places in vec(any::<Index>(), 0..6),
        dialect in select(&[None, Some(Dialect::Text), Some(Dialect::Tc), Some(Dialect::V0)][..]),
    ) {
        let whole = steps(&octets, Vec::new(), dialect);
        prop_assert_eq!(&whole, &steps(&octets, cut(&octets, &places), dialect));
        prop_assert_eq!(&whole, &steps(&octets, (0..octets.len()).collect(), dialect));
        let lengths = whole.0.iter().map(|seen| match seen {
            Seen::Command(length, ..) => *length,
            Seen::Http => 0,
        });
        prop_assert_eq!(lengths.sum::<usize>(), whole.1);
    }

    #[test]
    fn a_decision_about_the_protocol_is_final(octets in octets()) {
        let decisions: Vec<_> = (0..=octets.len()).map(|end| detect(&octets[..end])).collect();
        for pair in decisions.windows(2) {
            prop_assert!(pair[0] == Detected::Undecided || pair[0] == pair[1]);
        }
        if octets.len() >= 4 || octets.first().is_some_and(|&octet| octet == b'\n') {
            prop_assert_ne!(decisions[octets.len()], Detected::Undecided);
        }
    }

    #[test]
    fn lines_are_framed_without_loss(
        parts in vec((vec("[ -~]".prop_map(|c| c.as_bytes()[0]), 0..20), any::<bool>()), 1..6),
    ) {
        let mut octets = Vec::new();
        for (line, crlf) in &parts {
            // A `+` begins a command with data, which the sessions' property covers.
            octets.push(b'K');
            octets.extend_from_slice(line);
            octets.extend_from_slice(if *crlf { b"\r\n" } else { b"\n" });
        }
        let mut rest = &octets[..];
        for (line, crlf) in &parts {
            let Framed::Command(command) = Framer::default().next(rest) else {
                panic!("a whole line");
            };
            let length = 1 + line.len() + if *crlf { 2 } else { 1 };
            prop_assert_eq!(command.length, length);
            prop_assert!(rest[..length].starts_with(command.keyword));
            rest = &rest[length..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_quoted_option_value_is_any_octets(value in vec(any::<u8>(), 0..40)) {
        let digits = hex::encode(&value);
        let mut line = "SETCONF BusLog=\"".to_owned();
        for at in (0..digits.len()).step_by(2) {
            line += "\\x";
            line += &digits[at..at + 2];
        }
        line += "\"\n";
        let Framed::Command(command) = Framer::default().next(line.as_bytes()) else {
            panic!("a whole line");
        };
        let name = b"BusLog".to_vec();
        prop_assert_eq!(
            text::parse(Verb::SetConf, &command),
            Ok(Request::SetConf(vec![Setting { name, value: Some(value) }]))
        );
    }

    #[test]
    fn a_quoted_password_is_any_octets_but_those_that_end_the_line(
        mut value in vec(any::<u8>(), 0..40),
    ) {
        value.retain(|octet| !matches!(octet, 0 | b'\r' | b'\n'));
        let mut line = b"AUTHENTICATE \"".to_vec();
        for &octet in &value {
            if matches!(octet, b'"' | b'\\') {
                line.push(b'\\');
            }
            line.push(octet);
        }
        line.extend_from_slice(b"\"\r\n");
        let Framed::Command(command) = Framer::default().next(&line) else {
            panic!("a whole line");
        };
        let parsed = text::parse(Verb::Authenticate, &command);
        prop_assert_eq!(parsed, Ok(Request::Authenticate(value)));
    }

    #[test]
    fn a_message_is_told_whole_in_text(message in message()) {
        let mut out = Vec::new();
        text::encode_event(&Event::Message(Arc::clone(&message)), &mut out);
        is_answer(&out, "650");
        let mut end = message.text.to_vec();
        end.extend_from_slice(b"\r\n");
        prop_assert!(out.ends_with(&end));
    }

    #[test]
    fn no_text_reply_can_be_split(values in vec(("[a-z/]{1,20}", value()), 0..4)) {
        let pairs = values.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        let mut out = Vec::new();
        text::encode_reply(&Reply::Info(pairs), &mut out);
        is_answer(&out, "250");
    }

    #[test]
    fn no_text_reply_about_options_can_be_split(options in options()) {
        let mut out = Vec::new();
        text::encode_reply(&Reply::Conf(options), &mut out);
        is_answer(&out, "250");
    }

    #[test]
    fn no_text_refusal_can_be_split(refusal in refusal()) {
        let mut out = Vec::new();
        text::encode_refusal(&refusal, &mut out);
        is_answer(&out, &refusal.status().to_string());
    }

    #[test]
    fn no_text_event_can_be_split(event in event()) {
        let mut out = Vec::new();
        text::encode_event(&event, &mut out);
        is_answer(&out, "650");
    }

    #[test]
    fn a_request_comes_through_a_frame(
        first in vec(1..=255u8, 0..40),
        second in vec(1..=255u8, 0..40),
    ) {
        let body = [&first[..], b"\0", &second, b"\0"].concat();
        let value = Some(second.clone()).filter(|value| !value.is_empty());
        let settings = vec![Setting { name: first.clone(), value }];
        let expected = if second.is_empty() {
            Request::ResetConf(settings)
        } else {
            Request::SetConf(settings)
        };
        prop_assert_eq!(binary::parse(Version::Tc, Verb::SetConf, Frame { kind: kind::SETCONF, body: &body }), Ok(expected));
        let body = [&first[..], b"\0"].concat();
        prop_assert_eq!(
            binary::parse(Version::Tc, Verb::GetConf, Frame { kind: kind::GETCONF, body: &body }),
            Ok(Request::GetConf(vec![&first]))
        );
        prop_assert_eq!(
            binary::parse(Version::Tc, Verb::ControllerName, Frame { kind: kind::CONTROLLERNAME, body: &body }),
            Ok(Request::ControllerName(&first))
        );
    }

    #[test]
    fn every_binary_reply_is_one_frame(options in options(), value in value(), id in any::<u64>()) {
        let mut out = Vec::new();
        binary::encode_reply(Version::Tc, &Reply::Posted(id), &mut out);
        let done = is_frame(&out);
        prop_assert_eq!((done.kind, done.body), (kind::DONE, &id.to_be_bytes()[..]));

        out.clear();
        let conf = options.clone();
        binary::encode_reply(Version::Tc, &Reply::Conf(conf), &mut out);
        let frame = is_frame(&out);
        prop_assert_eq!(frame.kind, kind::CONFVALUE);
        prop_assert_eq!(strings(frame.body).len(), 2);

        out.clear();
        match value {
            // No message of this dialect asks for one.
            Value::Octets(_) => {}
            Value::Controllers(names) => {
                let count = names.len();
                let reply = Reply::Controllers(names);
                binary::encode_reply(Version::Tc, &reply, &mut out);
                let frame = is_frame(&out);
                prop_assert_eq!(frame.kind, kind::CONTROLLERS);
                let ends = memchr::memchr_iter(0, frame.body).count();
                prop_assert_eq!(ends, count);
            }
            Value::Messages(messages) => {
                let reply = Reply::Messages(messages.clone());
                binary::encode_reply(Version::Tc, &reply, &mut out);
                let frame = is_frame(&out);
                prop_assert_eq!(frame.kind, kind::MESSAGES);
                // The newest is the last, and there unless there are none.
                if let Some(newest) = messages.last() {
                    prop_assert_eq!(frame.body.last(), Some(&0));
                    if newest.text.len() < 60_000 {
                        let mut end = newest.text.to_vec();
                        end.push(0);
                        prop_assert!(frame.body.ends_with(&end));
                    }
                }
            }
        }
    }

    #[test]
    fn an_option_set_but_empty_is_an_empty_value(empty in option::of(Just(Vec::new()))) {
        let mut out = Vec::new();
        binary::encode_reply(Version::Tc, &Reply::Conf(vec![("BusLog".into(), empty)]), &mut out);
        prop_assert_eq!(is_frame(&out).body, b"BusLog\0\0");
    }

    #[test]
    fn every_binary_refusal_is_one_error_with_a_text(refusal in refusal()) {
        let mut out = Vec::new();
        binary::encode_refusal(Version::Tc, &refusal, &mut out);
        let error = is_frame(&out);
        prop_assert_eq!(error.kind, kind::ERROR);
        prop_assert!(error.body.len() > 2);
        prop_assert!(!error.body[2..].contains(&0));
    }

    #[test]
    fn every_binary_event_is_one_frame_or_none(event in event()) {
        let mut out = Vec::new();
        binary::encode_event(Version::Tc, &event, &mut out);
        let has_code = match &event {
            Event::Message(_) | Event::Bandwidth { .. } => true,
            Event::Log { severity, .. } => matches!(severity, Severity::Err | Severity::Warn),
            _ => false,
        };
        prop_assert_eq!(out.is_empty(), !has_code);
        if has_code {
            let frame = is_frame(&out);
            prop_assert_eq!(frame.kind, kind::EVENT);
            match &event {
                Event::Message(message) => {
                    prop_assert_eq!(&frame.body[..2], &code::POSTMESSAGE.to_be_bytes()[..]);
                    prop_assert_eq!(&frame.body[2..10], &message.id.to_be_bytes()[..]);
                    prop_assert_eq!(strings(&frame.body[10..]).len(), 3);
                }
                Event::Bandwidth { read, written } => {
                    let saturated = |count: &u64| u32::try_from(*count).unwrap_or(u32::MAX);
                    let counts = [saturated(read), saturated(written)].map(u32::to_be_bytes);
                    prop_assert_eq!(&frame.body[2..], &counts.concat()[..]);
                }
                _ => prop_assert_eq!(strings(&frame.body[2..]).len(), 1),
            }
        }
    }
}
