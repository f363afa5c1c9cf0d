//! Arguments of a command: words and `KEY=VALUE`, with values that may be quoted.

use super::framing::is_space;
use super::quoted::{c_string, quoted_string};

/// An argument that may have a key (control-spec 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument<'a> {
    /// The text before the `=`; `None` where there is none.
    pub key: Option<&'a [u8]>,
    /// The value, unquoted; `None` for a bare key.
    pub value: Option<Vec<u8>>,
}

/// The form of quoted values, and the meaning of a word without `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `QuotedString`: `\` makes any octet stand for itself. A bare word is a value.
    Values,
    /// `CString`: C's escapes. A bare word is a key.
    Keys,
}

/// The words of a line, between blanks; white space at a word's ends is no part of the word.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&octet| octet == b' ')
        .map(trim)
        .filter(|word| !word.is_empty())
}

/// The first word of a line, empty if there is none, and the rest behind the word.
pub(in crate::wire) fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = trim(line);
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (trim(word), rest)
}

/// Takes the white space off both ends. Rust's own `trim_ascii` leaves vertical tabs.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// The arguments of a line, or `None` if they cannot be parsed. A form feed is white space at the
/// ends of the line, as for Tor, and an octet like others between the arguments.
pub(super) fn parse(line: &[u8], style: Style) -> Option<Vec<Argument<'_>>> {
    let mut arguments = Vec::new();
    let mut rest = trim(line);
    while !rest.is_empty() {
        let length = rest
            .iter()
            .position(|&octet| octet == b'=' || is_blank(octet))
            .unwrap_or(rest.len());
        let bare_quote = style == Style::Values && rest[0] == b'"';
        let key = if !bare_quote && rest.get(length) == Some(&b'=') {
            if length == 0 {
                return None;
            }
            let key = option_name(&rest[..length], style)?;
            rest = &rest[length + 1..];
            Some(key)
        } else if style == Style::Keys {
            let key = option_name(&rest[..length], style)?;
            rest = skip_blanks(&rest[length..]);
            arguments.push(Argument {
                key: Some(key),
                value: None,
            });
            continue;
        } else {
            None
        };
        let (value, length) = if rest.first() == Some(&b'"') {
            match style {
                Style::Values => quoted_string(rest),
                Style::Keys => c_string(rest),
            }
            .ok()?
        } else {
            let length = rest
                .iter()
                .position(|&octet| is_blank(octet))
                .unwrap_or(rest.len());
            (rest[..length].to_vec(), length)
        };
        arguments.push(Argument {
            key,
            value: Some(value),
        });
        rest = skip_blanks(&rest[length..]);
    }
    Some(arguments)
}

/// Keys and values, where they came.
pub(in crate::wire) type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The `KEY=VALUE` of a line, without any quotes; with `bare` also words without `=`, whose value is
/// empty. `None` if Tor cannot parse them: it takes printable ASCII without quotes only.
pub(in crate::wire) fn pairs(line: &[u8], bare: bool) -> Option<Pairs<'_>> {
    let is_plain = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\'');
    trim(line)
        .split(|&octet| is_blank(octet))
        .filter(|word| !word.is_empty())
        .map(|word| {
            let pair = match memchr::memchr(b'=', word) {
                Some(end) => (&word[..end], &word[end + 1..]),
                None if bare => (word, &[][..]),
                None => return None,
            };
            let is_good = !pair.0.is_empty() && word.iter().all(is_plain);
            is_good.then_some(pair)
        })
        .collect()
}

/// A key, if it has the form that Tor wants of an option's name: printable ASCII without quotes.
fn option_name(key: &[u8], style: Style) -> Option<&[u8]> {
    let is_name = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\'');
    (style == Style::Values || key.iter().all(is_name)).then_some(key)
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | 0x0B)
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&octet| is_blank(octet)).count();
    &line[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &'static str, value: Option<&'static str>) -> Argument<'static> {
        Argument {
            key: Some(key.as_bytes()),
            value: value.map(|value| value.as_bytes().to_vec()),
        }
    }

    #[test]
    fn words_are_between_blanks() {
        let found: Vec<_> = words(b"  a  b\tc \x0bd\x0c\r ").collect();
        assert_eq!(found, [&b"a"[..], b"b\tc", b"d"]);
    }

    #[test]
    fn keys_values_and_c_strings() {
        assert_eq!(
            parse(b" A=b  C=\"d \\\"\\n\\101\\x42\" E F=", Style::Keys).unwrap(),
            [
                keyed("A", Some("b")),
                keyed("C", Some("d \"\nAB")),
                keyed("E", None),
                keyed("F", Some("")),
            ]
        );
        assert_eq!(
            parse(b"A=\"b\"c D=e\"f\"", Style::Keys).unwrap(),
            [
                keyed("A", Some("b")),
                keyed("c", None),
                keyed("D", Some("e\"f\""))
            ]
        );
    }

    #[test]
    fn what_cannot_be_parsed() {
        for line in [
            &b"A=\"b"[..],
            b"=b",
            b"A = b",
            b"A=\"\\q\"",
            b"A=\"\\x4\"",
            b"A=\"\\x+4\"",
            b"A=\"\\400\"",
            b"A=\"\\",
            b"\"A\"=b",
            b"'A'",
            b"\xC3\xA9=b",
            b"A\x01",
        ] {
            assert_eq!(parse(line, Style::Keys), None, "{line:?}");
        }
        assert_eq!(parse(b"\"a", Style::Values), None);
        assert_eq!(parse(b"\"a\\\"", Style::Values), None);
        assert_eq!(parse(b"=", Style::Values), None);
    }

    #[test]
    fn a_quoted_string_is_not_a_c_string() {
        let [argument] = &parse(b"\"a=\\n\\\"\" ", Style::Values).unwrap()[..] else {
            panic!()
        };
        assert_eq!(argument.key, None);
        assert_eq!(argument.value.as_deref(), Some(&b"a=n\""[..]));
    }
}
