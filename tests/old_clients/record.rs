//! A transcript of what went over the wire, without what is another each time.

use std::collections::BTreeMap;

use crate::Scenario;
use crate::bridge::{Message, Moment, What};
use crate::script::KINDS;

const ERROR: u16 = 0x0000;
const DONE: u16 = 0x0001;
const EVENT: u16 = 0x0006;
const INFOVALUE: u16 = 0x000C;
const FRAGMENTHEADER: u16 = 0x0010;
const FRAGMENT: u16 = 0x0011;

/// As long as this, a row of the same octet is written as its number.
const LONG: usize = 40;

/// A name, and the octets that it stands for.
type Variable = (&'static str, Vec<u8>);

/// What was said in one scenario, as `script.rs` reads it.
pub fn written(scenario: Scenario, wire: &[Moment], variables: &[Variable]) -> String {
    let mut lines = Vec::new();
    let mut messages = wire.iter().peekable();
    // One event of each code since the last SETEVENTS of each connection that was agreed to.
    let mut events: BTreeMap<(char, &[u8]), String> = BTreeMap::new();
    while let Some(moment) = messages.next() {
        let who = char::from(b'A' + u8::try_from(moment.connection).expect("a few connections"));
        let line = match &moment.what {
            What::Connects => format!("{who} connects to v0"),
            What::Closes => format!("{who} closes"),
            What::Leaves(rest) => {
                // Its answer did not wait for the end of the connection.
                let sent = format!("{who}> ");
                let sent = lines
                    .iter()
                    .rposition(|line: &String| line.starts_with(&sent));
                let line = format!("{who}>> {}", named(rest, variables));
                lines.insert(sent.map_or(lines.len(), |sent| sent + 1), line);
                continue;
            }
            What::Sends(Message { kind, body }) => {
                format!("{who}> {}", message(*kind, None, &named(body, variables)))
            }
            What::Gets(Message { kind, body }) if *kind == EVENT => {
                let line = format!("{who}< {}", received(*kind, body, variables));
                events.entry((who, &body[..2])).or_insert(line);
                continue;
            }
            What::Gets(Message { kind, body }) => {
                let asked = format!("{who}> ");
                let asked = lines
                    .iter()
                    .rposition(|line: &String| line.starts_with(&asked));
                if let Some(asked) = asked
                    && lines[asked].contains("> [SETEVENTS]")
                    && *kind == DONE
                {
                    // Where they came between other messages was up to Tor and the clock.
                    let mut before = Vec::new();
                    events.retain(|(other, _), line| {
                        let of_another = *other != who;
                        if !of_another {
                            before.push(std::mem::take(line));
                        }
                        of_another
                    });
                    lines.splice(asked..asked, before);
                }
                let mut body = body.clone();
                while *kind == FRAGMENTHEADER
                    && let Some(Moment {
                        what: What::Gets(next),
                        ..
                    }) = messages.next_if(|next| is_fragment(next))
                {
                    body.extend_from_slice(&next.body);
                }
                format!("{who}< {}", received(*kind, &body, variables))
            }
        };
        lines.push(line);
    }
    assert!(
        events.is_empty(),
        "the script turns no events off: {events:?}"
    );
    format!("\n== {}\n{}\n", scenario.name(), lines.join("\n"))
}

fn is_fragment(moment: &Moment) -> bool {
    matches!(&moment.what, What::Gets(message) if message.kind == FRAGMENT)
}

/// A message that came, with `{*}` where it says what is for a person, or what only Tor knows.
fn received(kind: u16, body: &[u8], variables: &[Variable]) -> String {
    let coded = |rest: &dyn Fn(&[u8]) -> String| {
        let (code, text) = body.split_first_chunk().expect("a code comes first");
        message(kind, Some(u16::from_be_bytes(*code)), &rest(text))
    };
    match kind {
        ERROR => coded(&|text| if text.is_empty() { "" } else { "{*}" }.into()),
        EVENT => coded(&|text| match body[..2] {
            [0, 4] => format!("{{?{}}}", text.len()),
            [0, _] => "{*}\\0".into(),
            _ => named(text, variables),
        }),
        INFOVALUE => message(kind, None, &values(body, variables)),
        FRAGMENTHEADER => {
            let (header, data) = body.split_at(6);
            let data = match &header[..2] {
                [0, 0x0C] => format!("{{?4}}{}", values(data, variables)),
                _ => format!("{}{}", named(&header[2..], &[]), named(data, variables)),
            };
            message(kind, None, &(named(&header[..2], &[]) + &data))
        }
        _ => message(kind, None, &named(body, variables)),
    }
}

/// `[KIND] body` or `[KIND CODE] body`.
fn message(kind: u16, code: Option<u16>, body: &str) -> String {
    let name = KINDS.iter().find(|(_, known)| *known == kind);
    let name = name.map_or_else(|| format!("0x{kind:04X}"), |(name, _)| (*name).to_owned());
    let code = code.map_or_else(String::new, |code| format!(" 0x{code:04X}"));
    let space = if body.is_empty() { "" } else { " " };
    format!("[{name}{code}]{space}{body}")
}

/// Keys and values in turn, each with its NUL. What the values are is for Tor, but for none at all
/// and for the one mapping that the scripts make.
fn values(body: &[u8], variables: &[Variable]) -> String {
    let mut text = String::new();
    for (index, part) in body.split_inclusive(|&octet| octet == 0).enumerate() {
        let value = part.strip_suffix(b"\0").unwrap_or(part);
        let is_key = index % 2 == 0;
        let tells = value.is_empty() || value.starts_with(b"1.2.3.4 ");
        if is_key || tells {
            text += &named(part, variables);
        } else {
            text += "{*}";
            text += &named(&part[value.len()..], variables);
        }
    }
    text
}

/// Octets with names for what has one.
fn named(octets: &[u8], variables: &[Variable]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some((&first, _)) = octets[at..].split_first() {
        let rest = &octets[at..];
        let begins_line = at == 0 || octets[at - 1] == b'\n';
        let known = |(_, value): &&Variable| rest.starts_with(value);
        let row = rest.iter().take_while(|&&octet| octet == first).count();
        let (piece, length) = if let Some((name, value)) = variables.iter().find(known) {
            (format!("{{{name}}}"), value.len())
        } else if let Some(length) = chosen_address(rest).filter(|_| begins_line) {
            ("{*}".into(), length)
        } else if row >= LONG {
            (format!("{{{}*{row}}}", escaped(first)), row)
        } else {
            (escaped(first), 1)
        };
        text += &piece;
        at += length;
    }
    // Editors take spaces away that nobody sees.
    match text.strip_suffix(' ') {
        Some(text) => format!("{text}\\x20"),
        None => text,
    }
}

/// The length of an address that Tor has chosen, in front of the space behind it.
fn chosen_address(octets: &[u8]) -> Option<usize> {
    let length = octets.iter().position(|&octet| octet == b' ')?;
    let address = &octets[..length];
    let is_ip = || address.iter().all(|octet| b"0123456789.".contains(octet));
    let chosen = address.ends_with(b".virtual") || (address.starts_with(b"127.") && is_ip());
    chosen.then_some(length)
}

fn escaped(octet: u8) -> String {
    match octet {
        0 => "\\0".into(),
        b'\r' => "\\r".into(),
        b'\n' => "\\n".into(),
        b'\\' => "\\\\".into(),
        b'{' => "\\{".into(),
        b' '..=b'~' => char::from(octet).into(),
        _ => format!("\\x{octet:02X}"),
    }
}
