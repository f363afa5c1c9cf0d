//! Which protocol a connection speaks, told from its first four octets.

/// What the first octets of a connection say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Too little has come to tell.
    Undecided,
    /// Tor's text protocol.
    Text,
    /// A binary frame.
    Binary,
}

/// Tells from the first octets of a connection what it speaks.
///
/// Octets 3 and 4 of a frame are its type. A type up to 0x0014 or from 0xF000 to 0xF00F stands in
/// no UTF-8 text, so it means binary, and so does the historic probe `00 00 0D 0A`. Everything
/// else is text. A newline decides for text at once, unless the first octet is NUL: no text
/// begins so, and `00 0A 00 03` is a frame whose body is ten octets long.
#[must_use]
pub fn detect(first: &[u8]) -> Detected {
    let newline = first.iter().take(4).any(|&octet| octet == b'\n');
    match *first {
        [0, 0, b'\r', b'\n', ..] => Detected::Binary,
        [length, _, high, low, ..] => {
            let kind = u16::from_be_bytes([high, low]);
            let binary = matches!(kind, 0..=0x0014 | 0xF000..=0xF00F);
            if binary && (length == 0 || !newline) {
                Detected::Binary
            } else {
                Detected::Text
            }
        }
        [first_octet, ..] if newline && first_octet != 0 => Detected::Text,
        _ => Detected::Undecided,
    }
}

/// Whether a first line is an HTTP request: a web page in a browser can make one reach any port
/// or socket that a proxy forwards, and must not get further than its request line.
#[must_use]
pub fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"CONNECT ",
        b"DELETE ",
        b"GET ",
        b"HEAD ",
        b"OPTIONS ",
        b"PATCH ",
        b"POST ",
        b"PUT ",
        b"TRACE ",
    ];
    METHODS.iter().any(|method| line.starts_with(method))
}

/// What an HTTP client gets before its connection closes.
pub const HTTP_ANSWER: &[u8] = b"HTTP/1.0 501 This is not an HTTP server\r\n\
Content-Type: text/plain; charset=us-ascii\r\n\
Connection: close\r\n\
\r\n\
This is the socket of onionbus, a message bus for Tor controllers.\r\n\
It speaks Tor's control protocol, see onionbus-protocol(7), and is no HTTP proxy.\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_octets_decide() {
        for (octets, expected) in [
            (&b""[..], Detected::Undecided),
            (b"GET", Detected::Undecided),
            (b"GETI", Detected::Text),
            (b"\0\0\0", Detected::Undecided),
            (b"\0\0\0\x14", Detected::Binary),
            (b"\0\0\0\x15", Detected::Text),
            (b"\0\0\xF0\0", Detected::Binary),
            (b"\0\0\xF0\x0F", Detected::Binary),
            (b"\0\0\xF0\x10", Detected::Text),
            (b"\xFF\xFF\0\x03", Detected::Binary),
            ("é é".as_bytes(), Detected::Text),
        ] {
            assert_eq!(detect(octets), expected, "{octets:02x?}");
        }
    }

    #[test]
    fn a_newline_means_text_unless_a_nul_came_first() {
        for octets in [
            &b"\n"[..],
            b"\r\n",
            b"A\n",
            b"AB\n",
            b"ABC\n",
            b"AB\r\n",
            b"\n\0\0\x03",
            b"A\n\0\x03",
        ] {
            assert_eq!(detect(octets), Detected::Text, "{octets:02x?}");
        }
        assert_eq!(detect(b"\0\0\r\n"), Detected::Binary);
        assert_eq!(detect(b"\0\0\r"), Detected::Undecided);
        assert_eq!(detect(b"\0\n"), Detected::Undecided);
        assert_eq!(detect(b"\0\n\0\x03"), Detected::Binary);
        assert_eq!(detect(b"\0\x05\0\n"), Detected::Binary);
        assert_eq!(detect(b"\0\nGE"), Detected::Text);
    }

    #[test]
    fn every_recognized_type_is_binary_whatever_the_length_of_a_short_frame() {
        for length in 0..=255u8 {
            for kind in (0..=0x14u16).chain(0xF000..=0xF00F) {
                let [high, low] = kind.to_be_bytes();
                assert_eq!(detect(&[0, length, high, low]), Detected::Binary);
            }
        }
    }
}
