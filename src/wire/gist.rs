//! The gist of a reply: whether it agrees, and what it names. Nothing of it is a secret, whatever
//! the reply has.

/// The most octets of a line that are kept.
const MOST_OF_LINE: usize = 300;

/// The most octets of all lines that are kept.
const MOST: usize = 4096;

/// The only line of which more is kept than stands before its first `=`.
const SERVICE: &[u8] = b"250-ServiceID=";

/// Octets of a reply go in, as they come; the statuses of its lines and the names in them are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gist {
    line: Vec<u8>,
    /// The rest of the line is not for keeping.
    is_cut: bool,
    /// Those that agree.
    lines: Vec<Vec<u8>>,
    held: usize,
    first: Option<u16>,
    last: Option<u16>,
}

impl Gist {
    /// The gist of a reply of one line with this status.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        Self {
            first: Some(status),
            last: Some(status),
            ..Self::default()
        }
    }

    /// The gist of a whole reply.
    #[must_use]
    pub fn of(reply: &[u8]) -> Self {
        let mut gist = Self::default();
        gist.handle_octets(reply);
        gist
    }

    /// The octets of memory that it takes at most.
    #[must_use]
    pub fn held(&self) -> usize {
        let lines = self.lines.capacity() * size_of::<Vec<u8>>();
        size_of::<Self>() + self.line.capacity() + 2 * self.held + lines
    }

    /// Takes octets of the reply.
    pub fn handle_octets(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let end = memchr::memchr(b'\n', octets);
            let (part, rest) = octets.split_at(end.map_or(octets.len(), |end| end + 1));
            for &octet in part {
                let (line, is_service) = (&self.line, SERVICE.strip_suffix(b"="));
                self.is_cut |= line.len() >= MOST_OF_LINE
                    || (line.len() >= 3 && !line.starts_with(b"25"))
                    || (octet == b'=' && Some(&line[..]) != is_service);
                if self.is_cut {
                    break;
                }
                self.line.push(octet);
            }
            if end.is_some() {
                self.end_line();
            }
            octets = rest;
        }
    }

    fn end_line(&mut self) {
        self.is_cut = false;
        let line = std::mem::take(&mut self.line);
        let status = line.get(..3).and_then(|digits| {
            let digits = str::from_utf8(digits).ok()?;
            digits.parse().ok()
        });
        let Some(status) = status else { return };
        self.first.get_or_insert(status);
        self.last = Some(status);
        let line = line.trim_ascii_end().to_vec();
        if is_agreement(status) && self.held + line.len() <= MOST {
            self.held += line.len();
            self.lines.push(line);
        }
    }

    /// The status of the last line; none if nothing came.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.last
    }

    /// Whether the reply agrees from its first line to its last. A refusal that quotes line ends
    /// has any line for its last.
    #[must_use]
    pub fn has_agreed(&self) -> bool {
        self.first.is_some_and(is_agreement) && self.last.is_some_and(is_agreement)
    }

    /// Whether the last line agrees.
    #[must_use]
    pub fn ends_well(&self) -> bool {
        self.last.is_some_and(is_agreement)
    }

    /// The lines that agree, without their statuses, each up to its first `=`.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter_map(|line| line.get(4..))
    }

    /// The service that the reply is about.
    #[must_use]
    pub fn service(&self) -> Option<&[u8]> {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(SERVICE))
    }
}

const fn is_agreement(status: u16) -> bool {
    matches!(status, 200..300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gist(reply: &[u8], size: usize) -> Gist {
        let mut gist = Gist::default();
        for part in reply.chunks(size) {
            gist.handle_octets(part);
            let kept = [&gist.lines[..], &[gist.line.clone()]].concat().concat();
            assert!(memchr::memmem::find(&kept, b"SECRET").is_none(), "{gist:?}");
        }
        gist
    }

    #[test]
    fn a_reply_is_known_by_its_statuses_and_names_only() {
        let reply = b"250-ServiceID=abc\r\n250-PrivateKey=ED25519-V3:SECRET\r\n\
                      250-ClientAuthV3=SECRET\r\n250 OK\r\n";
        assert_eq!(gist(b"513 Unacceptable: SECRET\r\n", 9).status(), Some(513));
        for size in 1..reply.len() {
            let gist = gist(reply, size);
            assert_eq!(
                (gist.service(), gist.status()),
                (Some(&b"abc"[..]), Some(250))
            );
            assert!(gist.has_agreed());
        }
        let maps = gist(
            b"250-a.b=SECRET\r\n512 syntax error=SECRET\r\n250 .c=SECRET",
            7,
        );
        assert_eq!(maps.status(), Some(512), "the last line has not ended");
        assert_eq!(maps.names().collect::<Vec<_>>(), [b"a.b"]);
        assert!(!maps.has_agreed() && !maps.ends_well());
        let twice = gist(b"512 x\r\n250 OK\r\n", 3);
        assert!(twice.ends_well() && !twice.has_agreed());
        assert_eq!(Gist::default().status(), None);
        assert_eq!(Gist::of_status(551).status(), Some(551));
    }

    #[test]
    fn no_reply_takes_more_than_a_few_octets() {
        let long = [b"250-".repeat(10_000), b"\r\n".to_vec()].concat();
        let all = [long.repeat(100), b"250 OK\r\n".to_vec()].concat();
        let gist = gist(&all, 1000);
        assert!(gist.held <= MOST && gist.has_agreed());
    }
}
