//! Text in quotes: `QuotedString` and `CString` (control-spec 2.1).

use thiserror::Error;

/// The reason why a text in quotes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuoteError<'a> {
    /// It does not begin with a quote.
    #[error("it does not begin with a quote")]
    Missing,
    /// The closing quote is missing.
    #[error("it has no closing quote")]
    Open,
    /// An escape that there is not; the octets behind its backslash.
    #[error("it has an escape that does not exist")]
    Escape(&'a [u8]),
}

/// The octets that a text in quotes stands for, and the octets that it has with its quotes.
type Read<'a> = Result<(Vec<u8>, usize), QuoteError<'a>>;

/// The `QuotedString` that `text` begins with: a backslash makes any octet stand for itself.
pub(super) fn quoted_string(text: &[u8]) -> Read<'_> {
    read(text, |text| text.first().map(|&octet| (octet, 1)))
}

/// The `CString` that `text` begins with: it has C's escapes.
pub fn c_string(text: &[u8]) -> Read<'_> {
    read(text, escape)
}

/// The octets of the `CString` that `text` begins with, if it does.
#[must_use]
pub fn read_c_string(text: &[u8]) -> Option<Vec<u8>> {
    c_string(text).ok().map(|(octets, _)| octets)
}

/// Reads up to the closing quote. `escaped` reads the octets behind a backslash: the octet that
/// they stand for, and how many belong to it.
fn read(text: &[u8], escaped: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Read<'_> {
    let mut rest = text.strip_prefix(b"\"").ok_or(QuoteError::Missing)?;
    let mut octets = Vec::new();
    loop {
        let (first, after) = rest.split_first().ok_or(QuoteError::Open)?;
        match first {
            b'"' => return Ok((octets, text.len() - after.len())),
            b'\\' => {
                let (octet, length) = escaped(after).ok_or(QuoteError::Escape(after))?;
                octets.push(octet);
                rest = after.get(length..).unwrap_or_default();
            }
            octet => {
                octets.push(*octet);
                rest = after;
            }
        }
    }
}

/// The octet that an escape stands for, and how many octets behind its backslash it has.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let octet = match *text {
        [b'n', ..] => b'\n',
        [b'r', ..] => b'\r',
        [b't', ..] => b'\t',
        [octet @ (b'"' | b'\'' | b'\\'), ..] => octet,
        [b'x' | b'X', high, low, ..] => return Some((digit(high, 16)? << 4 | digit(low, 16)?, 3)),
        [b'0'..=b'7', ..] => {
            let digits = text.iter().take(3).map_while(|&octet| digit(octet, 8));
            let (value, length) = digits.fold((0_u16, 0), |(value, length), digit| {
                (value * 8 + u16::from(digit), length + 1)
            });
            return Some((u8::try_from(value).ok()?, length));
        }
        _ => return None,
    };
    Some((octet, 1))
}

fn digit(octet: u8, radix: u32) -> Option<u8> {
    let digit = char::from(octet).to_digit(radix)?;
    u8::try_from(digit).ok()
}

/// Appends `octets` as a `CString`, as Tor writes it: all but printable ASCII in octal.
pub fn write_c_string(octets: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &octet in octets {
        match octet {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' | b'\'' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            b' '..=b'~' => out.push(octet),
            _ => out.extend_from_slice(format!("\\{octet:03o}").as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_c_string_reads_back() {
        let octets: Vec<u8> = (0..=255).collect();
        let mut written = Vec::new();
        write_c_string(&octets, &mut written);
        let length = written.len();
        written.extend_from_slice(b"\" more");
        assert_eq!(c_string(&written), Ok((octets, length)));
    }

    #[test]
    fn escapes_are_those_of_c() {
        for (text, octets) in [
            (&br#""""#[..], &b""[..]),
            (br#""\n\r\t\"\'\\""#, b"\n\r\t\"'\\"),
            (br#""\x41\X4a\x4Ag""#, b"AJJg"),
            (br#""\0\60\1018\377""#, b"\x000A8\xff"),
        ] {
            assert_eq!(c_string(text), Ok((octets.to_vec(), text.len())));
        }
        for (text, error) in [
            (&b""[..], QuoteError::Missing),
            (b"a\"", QuoteError::Missing),
            (b"\"a", QuoteError::Open),
            (b"\"a\\\"", QuoteError::Open),
            (b"\"a\\", QuoteError::Escape(b"")),
            (b"\"\\q\"", QuoteError::Escape(b"q\"")),
            (b"\"\\400\"", QuoteError::Escape(b"400\"")),
            (b"\"\\8\"", QuoteError::Escape(b"8\"")),
            (b"\"\\x4\"", QuoteError::Escape(b"x4\"")),
            (b"\"\\x+4\"", QuoteError::Escape(b"x+4\"")),
        ] {
            assert_eq!(c_string(text), Err(error), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_quoted_string_is_not_a_c_string() {
        assert_eq!(quoted_string(br#""a=\n\"" "#), Ok((b"a=n\"".to_vec(), 8)));
        assert_eq!(quoted_string(b"\"\\"), Err(QuoteError::Escape(b"")));
    }
}
