//! Somebody's octets in words for people.

/// The most octets of somebody's that are quoted in a message.
pub const MOST: usize = 120;

/// Octets as they may stand in a reply or a log line: control characters and what is not
/// UTF-8 become `\r`, `\xhh` and the like, and what is long is cut, so that nobody's value
/// can forge a line.
#[must_use]
pub fn shown(octets: &[u8]) -> String {
    let mut out = escaped(octets.get(..MOST).unwrap_or(octets), |_| false);
    if octets.len() > MOST {
        out.push_str("...");
    }
    out
}

/// Octets of any length with control characters, and what is not UTF-8, escaped as in [`shown`],
/// but for the control characters that `stays` names.
#[must_use]
pub fn escaped(octets: &[u8], stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && !stays(character) {
                let mut octets = [0; 4];
                let octets = character.encode_utf8(&mut octets).as_bytes();
                out.extend(octets.escape_ascii().map(char::from));
            } else {
                out.push(character);
            }
        }
        out.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_octets_never_leave_as_they_came() {
        assert_eq!(shown(b"a\r\n250 OK\x7f"), "a\\r\\n250 OK\\x7f");
        assert_eq!(shown("gr\u{fc}n \u{85}".as_bytes()), "grün \\xc2\\x85");
        assert_eq!(shown(b"\xff\xfe!"), "\\xff\\xfe!");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(shown(&[b'x'; MOST]), "x".repeat(MOST));
        assert_eq!(shown(&[b'x'; MOST + 1]), "x".repeat(MOST) + "...");
        assert_eq!(shown(&[0xff; MOST + 1]), "\\xff".repeat(MOST) + "...");
    }
}
