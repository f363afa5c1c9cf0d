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
        let mut rest = octets;
        while let Some(end) = self.end(rest) {
            ended += 1;
            rest = &rest[end..];
        }
        ended
    }

    /// Takes what has come next up to the end of a reply, and returns where that is; all of it if
    /// none ends there.
    pub fn end(&mut self, octets: &[u8]) -> Option<usize> {
        let mut start = 0;
        loop {
            if self.data && self.line.is_empty() {
                start += may_end_data(&octets[start..]);
            }
            let rest = &octets[start..];
            let Some(length) = memchr::memchr(b'\n', rest).map(|newline| newline + 1) else {
                self.begin_line(rest);
                return None;
            };
            let last = if self.line.is_empty() {
                self.judge(&rest[..length])
            } else {
                self.begin_line(&rest[..length]);
                let line = std::mem::take(&mut self.line);
                self.judge(&line)
            };
            start += length;
            if last {
                return Some(start);
            }
        }
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

    /// Judges a whole line by its beginning; `true` if it is the last of a reply.
    fn judge(&mut self, line: &[u8]) -> bool {
        if self.data {
            self.data = !matches!(line, b".\r\n" | b".\n");
            return false;
        }
        let kind = line.get(3);
        self.data = kind == Some(&b'+');
        self.open = self.data || kind == Some(&b'-');
        !self.open
    }
}

/// Where in `data`, which begins with a line, the first line is that may be its end: no other
/// needs to be looked at. It may be one that is not whole.
fn may_end_data(data: &[u8]) -> usize {
    if data.starts_with(b".") {
        return 0;
    }
    memchr::memmem::find(data, b"\n.")
        .or_else(|| memchr::memrchr(b'\n', data))
        .map_or(0, |newline| newline + 1)
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
            (b"250+a=\r\n.x\r\ny\r\n.\r\n250+b=\n.\n250 OK\n", 1, false),
            (b"250-127.0.0.1=a\r\n512 syntax\r\n", 1, false),
        ] {
            for size in 1..=octets.len() {
                let mut replies = Replies::default();
                let found: usize = octets.chunks(size).map(|cut| replies.take(cut)).sum();
                assert_eq!(
                    (found, replies.is_inside()),
                    (ended, inside),
                    "cut in {size}"
                );
            }
        }
    }
}
