//! What is printed with `--json`: an object a line.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::fields::{Field, Fields};
use super::reply::Entry;

/// An object, whose members stand in the order in which they were added.
#[derive(Debug, Default)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// Adds a member.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Prints the object as a line.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Octets as a string. Those that are not UTF-8 stand as `\xhh`, and so does a backslash before an
/// `x`, so that every string can be read back.
pub fn text(octets: &[u8]) -> Value {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        text.push_str(&chunk.valid().replace("\\x", "\\x5cx"));
        for octet in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    Value::String(text)
}

/// Octets between separators as an array of strings; nothing is an empty one.
pub fn list(octets: &[u8], separator: u8) -> Value {
    let parts = octets.split(|&octet| octet == separator);
    parts.filter(|part| !part.is_empty()).map(text).collect()
}

/// A value that is a number if it looks like one, and a string otherwise, or if it was in quotes.
pub fn number_or_text(field: &Field) -> Value {
    let digits = str::from_utf8(&field.value).ok();
    match digits.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(number) if !field.is_quoted => number.into(),
        _ => text(&field.value),
    }
}

/// `Key=Value` of a reply. Without a `=` there is no value.
pub fn key_and_value(entry: &Entry) -> Object {
    let equals = entry.text.iter().position(|&octet| octet == b'=');
    let (key, value) = entry.text.split_at(equals.unwrap_or(entry.text.len()));
    let value = match &entry.data {
        Some(data) => text(data.strip_suffix(b"\n").unwrap_or(data)),
        None => value.get(1..).map_or(Value::Null, text),
    };
    Object::default()
        .with("key", text(key))
        .with("value", value)
}

/// An event, by its lines without their status.
pub fn event(object: Object, lines: &[Entry]) -> Object {
    let Some((first, more)) = lines.split_first() else {
        return object;
    };
    let blank = first.text.iter().position(|&octet| octet == b' ');
    let (name, rest) = first.text.split_at(blank.unwrap_or(first.text.len()));
    let rest = rest.get(1..).unwrap_or_default();
    let object = object.with("event", text(name));
    match name {
        b"POSTMESSAGE" => {
            if let Some(message) = message(rest) {
                let [id, from, to, words] = message;
                let object = object.with("id", id).with("from", from);
                return object.with("to", to).with("text", words);
            }
        }
        b"DEBUG" | b"INFO" | b"NOTICE" | b"WARN" | b"ERR" => {
            let lines = first.data.as_deref();
            let lines = lines.map(|data| data.strip_suffix(b"\n").unwrap_or(data));
            return object.with("text", text(lines.unwrap_or(rest)));
        }
        _ => {}
    }
    let (fields, words) = Fields::split(rest);
    let words: Value = words.iter().map(|word| text(word)).collect();
    let named = fields.iter();
    let named: Value = named
        .map(|field| (field.name.clone(), text(&field.value)))
        .collect();
    let mut object = object.with("words", words).with("fields", named);
    if let Some(data) = &first.data {
        object = object.with("data", text(data));
    }
    // The last line only ends the event.
    if let Some((_, lines)) = more.split_last().filter(|(_, lines)| !lines.is_empty()) {
        object = object.with("lines", lines.iter().map(line).collect::<Value>());
    }
    object
}

/// A further line of an event, and its data below it.
fn line(entry: &Entry) -> Value {
    match &entry.data {
        Some(data) => text(&[&entry.text, data].map(|part| &part[..]).join(&b'\n')),
        None => text(&entry.text),
    }
}

/// The number, the source, the destination and the text of a message.
fn message(rest: &[u8]) -> Option<[Value; 4]> {
    let mut parts = rest.splitn(4, |&octet| octet == b' ');
    let id: u64 = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let from = text(parts.next()?);
    let to = text(parts.next()?.strip_prefix(b"@")?);
    Some([id.into(), from, to, text(parts.next()?)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(octets: &[u8]) -> String {
        match text(octets) {
            Value::String(text) => text,
            other => panic!("{other}"),
        }
    }

    /// Reads octets back, as onionbus(1) describes it.
    fn octets(text: &str) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, behind)) = rest.split_first() {
            let hex = rest.strip_prefix(b"\\x").map(|hex| &hex[..2]);
            octets.push(hex.map_or(first, |hex| {
                u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap()
            }));
            rest = if hex.is_some() { &rest[4..] } else { behind };
        }
        octets
    }

    #[test]
    fn octets_that_are_no_utf_8_are_escaped() {
        for (octets, escaped) in [
            (&b"caf\xc3\xa9 \\ \\n"[..], "caf\u{e9} \\ \\n"),
            (b"caf\xe9", "caf\\xe9"),
            (b"\\xe9", "\\x5cxe9"),
            (b"\\\\x", "\\\\x5cx"),
            (b"\\\xff", "\\\\xff"),
            (b"\xc3", "\\xc3"),
        ] {
            assert_eq!(string(octets), escaped);
        }
    }

    proptest! {
        #[test]
        fn every_string_is_read_back(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(b"\\".to_vec()),
                    Just(b"x".to_vec()),
                    Just(b"5c".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..4),
                ],
                0..20,
            )
        ) {
            let all = parts.concat();
            prop_assert_eq!(octets(&string(&all)), all);
        }
    }
}
