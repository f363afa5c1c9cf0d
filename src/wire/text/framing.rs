//! Octets to commands: lines, and the data that follows a `+` command (control-spec 2.3).

/// The most octets that a command may have, its line ends and data included.
pub const MAX_COMMAND: usize = 1 << 20;

/// One command, still in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The keyword, `+` included; empty where the line is empty or begins with a blank.
    pub keyword: &'a [u8],
    /// The rest of the line, without the blanks before it and the line's end.
    pub arguments: &'a [u8],
    /// The data lines of a `+` command, dot-stuffed as they came, without the closing line.
    pub data: Option<&'a [u8]>,
    /// The octets of the whole command, to be consumed.
    pub length: usize,
}

/// The meaning of the octets so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// The beginning of a command.
    Incomplete,
    /// A whole command.
    Command(Command<'a>),
    /// A command of [`MAX_COMMAND`] octets or more: nothing behind such a command can be trusted.
    TooLong,
}

/// The finder of a command's end in a buffer that may still grow; it looks at each octet once.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Octets that hold no end of a line, from [`Self::line`] on.
    scanned: usize,
    /// Where the unfinished line begins.
    line: usize,
    /// Where the data of a `+` command begins, once its first line is whole.
    data: Option<usize>,
}

impl Framer {
    /// A framer at the beginning of a command.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scanned: 0,
            line: 0,
            data: None,
        }
    }

    /// Looks for a whole command at the beginning of `octets`: the octets of the last call, if it
    /// said [`Framed::Incomplete`], and whatever has come since.
    pub fn next<'a>(&mut self, octets: &'a [u8]) -> Framed<'a> {
        while let Some(found) = memchr::memchr(b'\n', &octets[self.scanned..]) {
            let end = self.scanned + found + 1;
            if end >= MAX_COMMAND {
                return Framed::TooLong;
            }
            let line = &octets[self.line..end];
            let (begin, data) = (self.line, self.data);
            self.scanned = end;
            self.line = end;
            match data {
                None if line[0] == b'+' => self.data = Some(end),
                None => {
                    *self = Self::default();
                    return Framed::Command(command(line, None, end));
                }
                Some(data) if line == b".\r\n" || line == b".\n" => {
                    *self = Self::default();
                    let first = &octets[..data];
                    return Framed::Command(command(first, Some(&octets[data..begin]), end));
                }
                Some(_) => {}
            }
        }
        self.scanned = octets.len();
        if octets.len() >= MAX_COMMAND {
            return Framed::TooLong;
        }
        Framed::Incomplete
    }
}

/// Splits the line that ends with a newline.
fn command<'a>(line: &'a [u8], data: Option<&'a [u8]>, length: usize) -> Command<'a> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = line
        .iter()
        .position(|&octet| octet == 0 || is_space(octet))
        .unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    // As in Tor, a NUL ends the keyword but not the search for the arguments.
    let space = rest.iter().position(|&octet| is_space(octet));
    let rest = &rest[space.unwrap_or(rest.len())..];
    let blanks = rest
        .iter()
        .take_while(|&&octet| octet == b' ' || octet == b'\t')
        .count();
    Command {
        keyword,
        arguments: &rest[blanks..],
        data,
        length,
    }
}

/// C's `isspace`: the octets that end a keyword, and that no word begins or ends with.
#[must_use]
pub const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | 0x0B | 0x0C)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(octets: &[u8]) -> Command<'_> {
        match Framer::default().next(octets) {
            Framed::Command(command) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_ends_with_crlf_or_lf() {
        for octets in [&b"GETINFO version\r\nX"[..], b"GETINFO version\nX"] {
            let command = only(octets);
            assert_eq!(command.keyword, b"GETINFO");
            assert_eq!(command.arguments, b"version");
            assert_eq!(command.data, None);
            assert_eq!(command.length, octets.len() - 1);
        }
    }

    #[test]
    fn blanks_before_the_arguments_go_and_those_after_stay() {
        let command = only(b"POSTMESSAGE \t @all  x \r\n");
        assert_eq!(command.arguments, b"@all  x ");
    }

    #[test]
    fn an_empty_line_and_a_leading_blank_have_no_keyword() {
        for octets in [
            &b"\r\n"[..],
            b"\n",
            b" FOO\r\n",
            b"\tFOO\r\n",
            b"\r\r\n",
            b"\0X\n",
        ] {
            assert_eq!(only(octets).keyword, b"", "{octets:?}");
        }
    }

    #[test]
    fn a_nul_ends_the_keyword_and_not_the_arguments() {
        let command = only(b"GETINFO\0garbage version\r\n");
        assert_eq!(command.keyword, b"GETINFO");
        assert_eq!(command.arguments, b"version");
    }

    #[test]
    fn data_goes_up_to_the_line_with_a_dot() {
        let octets = b"+LOADCONF a\r\nx\n..y\r\nQUIT\r\n.\r\nGETINFO\r\n";
        let command = only(octets);
        assert_eq!(command.keyword, b"+LOADCONF");
        assert_eq!(command.arguments, b"a");
        assert_eq!(command.data, Some(&b"x\n..y\r\nQUIT\r\n"[..]));
        assert_eq!(&octets[command.length..], b"GETINFO\r\n");
        assert_eq!(only(b"+X\n.\n").data, Some(&b""[..]));
    }

    #[test]
    fn octet_by_octet_gives_the_same() {
        let octets = b"+LOADCONF\r\n..\r\n .\r\n.\r\n";
        let mut framer = Framer::default();
        for end in 0..octets.len() {
            assert_eq!(framer.next(&octets[..end]), Framed::Incomplete, "{end}");
        }
        assert_eq!(framer.next(octets), Framer::default().next(octets));
    }

    #[test]
    fn one_mebioctet_with_the_line_end_is_too_long() {
        let mut line = vec![b'x'; MAX_COMMAND - 3];
        line.extend_from_slice(b"\r\n");
        assert!(matches!(Framer::default().next(&line), Framed::Command(_)));
        line.insert(0, b'x');
        assert_eq!(Framer::default().next(&line), Framed::TooLong);
        let open = vec![b'x'; MAX_COMMAND - 1];
        assert_eq!(Framer::default().next(&open), Framed::Incomplete);
        let open = vec![b'x'; MAX_COMMAND];
        assert_eq!(Framer::default().next(&open), Framed::TooLong);
        let mut data = b"+LOADCONF\r\n".to_vec();
        while data.len() < MAX_COMMAND {
            data.extend_from_slice(b"# a line of data\r\n");
        }
        assert_eq!(Framer::default().next(&data), Framed::TooLong);
    }
}
