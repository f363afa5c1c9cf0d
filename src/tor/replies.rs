//! Where Tor's replies end (control-spec 2.3).

/// Follows replies, octet by octet if need be: whether the last one is whole.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// The beginning of a line, as far as it matters.
    line: Vec<u8>,
    /// Within the data of a `NNN+` line.
    data: bool,
    /// Between the first and the last line of a reply.
    open: bool,
}

/// How much of a line's beginning tells what it is.
const TELLING: usize = 5;

impl Replies {
    /// Takes what has come next. Returns how many replies ended in it.
    pub fn take(&mut self, octets: &[u8]) -> usize {
        let mut ended = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', octets) {
            self.begin_line(&octets[start..=end]);
            ended += usize::from(self.end_line());
            start = end + 1;
        }
        self.begin_line(&octets[start..]);
        ended
    }

    /// Whether something of a reply has come whose end has not.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.open || !self.line.is_empty()
    }

    /// Keeps what tells what a line is.
    fn begin_line(&mut self, part: &[u8]) {
        let room = TELLING.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Judges a whole line; `true` if it is the last of a reply.
    fn end_line(&mut self) -> bool {
        let ends_data = matches!(&self.line[..], b".\r\n" | b".\n");
        let kind = self.line.get(3).copied();
        self.line.clear();
        if self.data {
            self.data = !ends_data;
            return false;
        }
        match kind {
            Some(b'+') => {
                self.data = true;
                self.open = true;
                false
            }
            Some(b'-') => {
                self.open = true;
                false
            }
            _ => {
                self.open = false;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_end_where_they_end() {
        for (octets, ended, inside) in [
            (&b"250 OK\r\n"[..], 1, false),
            (b"250 OK\r", 0, true),
            (b"250-a=b\r\n", 0, true),
            (b"250-a=b\r\n250 OK\r\n510 x\r\n", 2, false),
            (b"250+a=\r\n250 OK\r\n..\r\n", 0, true),
            (b"250+a=\r\n250 OK\r\n..\r\n.\r\n", 0, true),
            (b"250+a=\r\n250 OK\r\n..\r\n.\r\n250 OK\r\n", 1, false),
            (b"250-127.0.0.1=a\r\n512 syntax\r\n", 1, false),
        ] {
            let mut whole = Replies::default();
            assert_eq!(whole.take(octets), ended);
            assert_eq!(whole.is_inside(), inside);
            let mut cut = Replies::default();
            let one_by_one: usize = octets.chunks(1).map(|octet| cut.take(octet)).sum();
            assert_eq!((one_by_one, cut.is_inside()), (ended, inside));
        }
    }
}
