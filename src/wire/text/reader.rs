//! The reader of replies and events (control-spec 2.3 and 4.1): Tor's, and those of the daemon.

use thiserror::Error;
use zeroize::Zeroize as _;

/// The octets of a line's beginning that tell its kind: a status and what stands behind it.
const TELLING: usize = 4;

/// The line that ends nearly every reply, and is known without a search for its end.
const DONE: &[u8] = b"250 OK\r\n";

/// The octets of memory that a [`Reader`] keeps while it holds nothing.
const KEPT: usize = 64 * 1024;

/// The tracker of where replies and events end, which copies nothing of them.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// The beginning of a line that is not whole, as far as it tells the line's kind.
    line: [u8; TELLING],
    /// The octets of it that have come.
    begun: u8,
    /// Within the data of a `NNN+` line.
    data: bool,
    /// Between the first and the last line of a reply.
    open: bool,
}

impl Replies {
    /// Follows the octets that have come next, and returns how many replies ended in them.
    pub fn take(&mut self, octets: &[u8]) -> usize {
        let mut ended = 0;
        let mut rest = octets;
        while let Some(end) = self.end(rest) {
            ended += 1;
            rest = rest.get(end..).unwrap_or_default();
        }
        ended
    }

    /// Follows the octets that have come next up to the end of a reply, and returns where that is;
    /// follows all of them if no reply ends there.
    pub fn end(&mut self, octets: &[u8]) -> Option<usize> {
        let mut end = 0;
        loop {
            let rest = octets.get(end..)?;
            end += if !self.data && self.begun == 0 && rest.starts_with(DONE) {
                self.open = false;
                DONE.len()
            } else {
                self.end_of_line(rest)?
            };
            if !self.open {
                return Some(end);
            }
        }
    }

    /// Whether a reply has begun whose end has not come.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.open || self.begun > 0
    }

    /// Follows the octets up to the end of a line, and returns where that is. Lines of data that
    /// cannot be the last are passed over: there may be megabytes of them.
    fn end_of_line(&mut self, octets: &[u8]) -> Option<usize> {
        let start = if self.data && self.begun == 0 {
            may_end_data(octets)
        } else {
            0
        };
        let rest = octets.get(start..)?;
        let Some(newline) = memchr::memchr(b'\n', rest) else {
            self.begin_line(rest);
            return None;
        };
        let line = rest.get(..=newline)?;
        if self.begun == 0 {
            self.judge(line);
        } else {
            self.begin_line(line);
            let begun = usize::from(std::mem::take(&mut self.begun));
            let line = self.line;
            self.judge(line.get(..begun).unwrap_or_default());
        }
        Some(start + line.len())
    }

    /// Keeps as much of a line as tells its kind.
    fn begin_line(&mut self, part: &[u8]) {
        for &octet in part {
            let Some(place) = self.line.get_mut(usize::from(self.begun)) else {
                break;
            };
            *place = octet;
            self.begun += 1;
        }
    }

    /// Judges a line by its beginning. A line that is none of the protocol's is the last of a
    /// reply, so that nobody waits for more of it.
    fn judge(&mut self, line: &[u8]) {
        if self.data {
            self.data = !matches!(line, b".\r\n" | b".\n");
            return;
        }
        let kind = status(line).and(line.get(3));
        self.data = kind == Some(&b'+');
        self.open = self.data || kind == Some(&b'-');
    }
}

/// Where in `data`, which begins with a line, the first line is that may end the data: no other
/// needs to be looked at. The line may not be whole.
fn may_end_data(data: &[u8]) -> usize {
    if data.starts_with(b".") {
        return 0;
    }
    memchr::memmem::find(data, b"\n.")
        .or_else(|| memchr::memrchr(b'\n', data))
        .map_or(0, |newline| newline + 1)
}

/// The status that a line begins with.
fn status(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    digits.iter().try_fold(0, |status, &digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        Some(status * 10 + u16::from(digit))
    })
}

/// The parts of a whole reply: one for each key or value of it, with the line's end and the data.
/// Without the closing `250 OK`.
#[must_use]
pub fn parts(reply: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut lines = Replies::default();
    let (mut part, mut rest) = (0, reply);
    while let Some(length) = lines.end_of_line(rest) {
        part += length;
        rest = rest.get(length..).unwrap_or_default();
        if !lines.data {
            let end = reply.len() - rest.len();
            parts.extend(reply.get(end - part..end));
            part = 0;
        }
    }
    if matches!(parts.last(), Some(&(b"250 OK\r\n" | b"250 OK\n"))) {
        parts.pop();
    }
    parts
}

/// The reader that collects octets and gives out each reply and event whole.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The most octets of one reply or event.
    most: usize,
    received: Vec<u8>,
    /// Where the first message begins that was not given out.
    start: usize,
    /// Where the octets begin that `ends` has not seen.
    unseen: usize,
    ends: Replies,
}

/// A reply or event with more octets than any should have. Nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a reply or event of more than {most} octets")]
pub struct TooLong {
    /// The most octets that it may have.
    pub most: usize,
}

impl Reader {
    /// A reader of replies and events that have no more than `most` octets.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            received: Vec::new(),
            start: 0,
            unseen: 0,
            ends: Replies {
                line: [0; TELLING],
                begun: 0,
                data: false,
                open: false,
            },
        }
    }

    /// Takes the octets that have come next. [`Self::poll_message`] gives out what is whole then.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        self.received.drain(..self.start);
        self.unseen -= self.start;
        self.start = 0;
        self.received.extend_from_slice(octets);
    }

    /// The next whole reply or event, if there is one.
    pub fn poll_message(&mut self) -> Result<Option<Message<'_>>, TooLong> {
        let unseen = self.received.get(self.unseen..).unwrap_or_default();
        let end = self.ends.end(unseen);
        self.unseen += end.unwrap_or(unseen.len());
        let seen = self.start..self.unseen;
        if seen.len() > self.most {
            return Err(TooLong { most: self.most });
        }
        if end.is_none() {
            if seen.is_empty() {
                // Nobody knows when more comes, so a long message must not be kept until then.
                self.received.clear();
                self.received.shrink_to(KEPT);
                (self.start, self.unseen) = (0, 0);
            }
            return Ok(None);
        }
        self.start = self.unseen;
        let octets = self.received.get(seen);
        Ok(Some(Message(octets.unwrap_or_default())))
    }

    /// Overwrites what was given out, as far as it is kept: it had keys in it.
    pub fn forget(&mut self) {
        if self.received.is_empty() {
            self.received.zeroize();
        } else if let Some(given) = self.received.get_mut(..self.start) {
            given.zeroize();
        }
    }

    /// The octets of memory that those take which have come.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.received.capacity()
    }

    /// The octets that have come and were not given out.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.received.get(self.start..).unwrap_or_default()
    }
}

/// One whole reply or event, as it came. It is of the protocol's form only if it has a
/// [status](Self::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// The octets, all line ends included.
    #[must_use]
    pub const fn octets(self) -> &'a [u8] {
        self.0
    }

    /// The name of an event, which nobody asked for at this moment; `None` is a reply.
    #[must_use]
    pub fn event(self) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(b"650")?;
        let name = rest.get(1..).unwrap_or_default();
        name.split(u8::is_ascii_whitespace).next()
    }

    /// The last line, without its end.
    #[must_use]
    pub fn last_line(self) -> &'a [u8] {
        let line = self.0.strip_suffix(b"\n").unwrap_or(self.0);
        let line = line.rsplit(|&octet| octet == b'\n').next();
        let line = line.unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// The status of the last line; `None` if this is no reply of the control protocol.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        let line = self.last_line();
        status(line).filter(|_| line.get(3) == Some(&b' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets, the messages in them, and the rest.
    type Sample = (&'static [u8], &'static [&'static [u8]], &'static [u8]);

    const SAMPLES: &[Sample] = &[
        (b"250 OK\r\n", &[b"250 OK\r\n"], b""),
        (b"250 OK\r", &[], b"250 OK\r"),
        (b"250-a=b\r\n", &[], b"250-a=b\r\n"),
        (
            b"250-a=b\r\n250 OK\r\n510 x\r\n",
            &[b"250-a=b\r\n250 OK\r\n", b"510 x\r\n"],
            b"",
        ),
        (
            b"250+a=\r\n250 OK\r\n..\r\n",
            &[],
            b"250+a=\r\n250 OK\r\n..\r\n",
        ),
        (
            b"250+a=\r\n250 OK\r\n..\r\n.\r\n",
            &[],
            b"250+a=\r\n250 OK\r\n..\r\n.\r\n",
        ),
        (
            b"250+a=\r\n250 OK\r\n..\r\n.\r\n250 OK\r\n25",
            &[b"250+a=\r\n250 OK\r\n..\r\n.\r\n250 OK\r\n"],
            b"25",
        ),
        (
            b"250+a=\r\n.x\r\ny\r\n.\r\n250+b=\n.\n250 OK\n",
            &[b"250+a=\r\n.x\r\ny\r\n.\r\n250+b=\n.\n250 OK\n"],
            b"",
        ),
        // It looks like the last line, and is the end of another.
        (
            b"250-a=b\r\n250-c=250 OK\r\n250 OK\r\n250 OK\r\n",
            &[b"250-a=b\r\n250-c=250 OK\r\n250 OK\r\n", b"250 OK\r\n"],
            b"",
        ),
        (
            b"250-127.0.0.1=a\r\n512 syntax\r\n",
            &[b"250-127.0.0.1=a\r\n512 syntax\r\n"],
            b"",
        ),
        (
            b"650 BW 1 2\r\n650-CONF_CHANGED\r\n650-A=b\r\n650 OK\r\n250 OK\r\n650 FUTURE\r\n",
            &[
                b"650 BW 1 2\r\n",
                b"650-CONF_CHANGED\r\n650-A=b\r\n650 OK\r\n",
                b"250 OK\r\n",
                b"650 FUTURE\r\n",
            ],
            b"",
        ),
        (
            b"650+NS\r\nr x\r\n..\r\n650 OK\r\n.\r\n650 OK\r\n",
            &[b"650+NS\r\nr x\r\n..\r\n650 OK\r\n.\r\n650 OK\r\n"],
            b"",
        ),
        // Not the protocol: nobody waits for the end of it.
        (
            b"SSH-2.0-x\r\n\r\n250\r\nabc+\n250-a\r\n\xff\n",
            &[
                b"SSH-2.0-x\r\n",
                b"\r\n",
                b"250\r\n",
                b"abc+\n",
                b"250-a\r\n\xff\n",
            ],
            b"",
        ),
    ];

    /// Every way to cut octets into equal pieces, and every way to cut them in two.
    fn cuts(octets: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
        let equal = (1..=octets.len()).map(|size| octets.chunks(size).collect());
        let in_two = (0..=octets.len()).map(|at| {
            let (first, second) = octets.split_at(at);
            vec![first, second]
        });
        equal.chain(in_two)
    }

    #[test]
    fn messages_are_whole_and_unchanged_wherever_they_are_cut() {
        for (octets, messages, rest) in SAMPLES {
            for pieces in cuts(octets) {
                let (mut reader, mut read) = (Reader::new(octets.len()), Vec::new());
                let (mut replies, mut ended) = (Replies::default(), 0);
                for piece in &pieces {
                    reader.handle_octets(piece);
                    while let Some(message) = reader.poll_message().unwrap() {
                        read.push(message.octets().to_vec());
                    }
                    ended += replies.take(piece);
                }
                let shown = octets.escape_ascii();
                assert_eq!(read, *messages, "{shown} cut in {pieces:?}");
                assert_eq!(reader.rest(), *rest, "{shown} cut in {pieces:?}");
                assert_eq!(ended, messages.len(), "{shown} cut in {pieces:?}");
                assert_eq!(replies.is_inside(), !rest.is_empty(), "{shown}");
            }
        }
    }

    #[test]
    fn the_end_of_a_reply_is_the_octet_behind_its_last() {
        for (octets, messages, rest) in SAMPLES {
            let (mut replies, mut at) = (Replies::default(), 0);
            for message in *messages {
                assert_eq!(replies.end(&octets[at..]), Some(message.len()));
                at += message.len();
            }
            assert_eq!(replies.end(&octets[at..]), None);
            assert_eq!(&octets[at..], *rest);
        }
    }

    #[test]
    fn nothing_is_longer_than_it_may_be_wherever_it_is_cut() {
        let octets = b"250 OK\r\n250+a=\r\nlong\r\n.\r\n250 OK\r\n250 OK\r\n";
        let longest = octets.len() - 2 * b"250 OK\r\n".len();
        for pieces in cuts(octets) {
            for (most, expected) in [(longest, 3), (longest - 1, 1), (8, 1), (7, 0)] {
                let mut reader = Reader::new(most);
                let (mut read, mut failed) = (0, false);
                for piece in &pieces {
                    reader.handle_octets(piece);
                    loop {
                        match reader.poll_message() {
                            Ok(Some(_)) => read += 1,
                            Ok(None) => break,
                            Err(error) => {
                                assert_eq!(error, TooLong { most });
                                failed = true;
                                break;
                            }
                        }
                    }
                    // It stays so.
                    assert_eq!(reader.poll_message().is_err(), failed);
                }
                assert_eq!((read, failed), (expected, expected < 3), "{pieces:?}");
            }
        }
    }

    #[test]
    fn the_name_of_an_event_and_the_last_line_of_a_reply() {
        for (octets, event, last, status) in [
            (&b"250 OK\r\n"[..], None, &b"250 OK"[..], Some(250)),
            (
                b"650 BW 1 2\r\n",
                Some(&b"BW"[..]),
                b"650 BW 1 2",
                Some(650),
            ),
            (
                b"650+NS\r\n.\r\n650 OK\r\n",
                Some(b"NS"),
                b"650 OK",
                Some(650),
            ),
            (b"650\n", Some(b""), b"650", None),
            (b"650-A\nx\n", Some(b"A"), b"x", None),
            (b"250-x\r\n512 no\n", None, b"512 no", Some(512)),
            (b"512-x\r\n250 \xff\r\n", None, b"250 \xff", Some(250)),
            (b"HTTP/1.0 501 No\r\n", None, b"HTTP/1.0 501 No", None),
            (b"250*OK\r\n", None, b"250*OK", None),
            (b"2 0 OK\r\n", None, b"2 0 OK", None),
            (b"\r\n", None, b"", None),
        ] {
            let mut reader = Reader::new(100);
            reader.handle_octets(octets);
            let message = reader.poll_message().unwrap().unwrap();
            assert_eq!(message.event(), event);
            assert_eq!(message.last_line(), last);
            assert_eq!(message.status(), status);
        }
    }

    #[test]
    fn the_parts_of_a_reply() {
        let parts_of: [(&[u8], &[&[u8]]); 6] = [
            (b"250 OK\r\n", &[]),
            (b"250 A=b\r\n", &[b"250 A=b\r\n"]),
            (
                b"250-version=1\r\n250+info/names=\r\na -- b\r\n..\r\n250 OK\r\n.\r\n250 OK\r\n",
                &[
                    b"250-version=1\r\n",
                    b"250+info/names=\r\na -- b\r\n..\r\n250 OK\r\n.\r\n",
                ],
            ),
            (
                b"250+a=\r\n.\r\n250+b=\n.x\n.\n250 OK\n",
                &[b"250+a=\r\n.\r\n", b"250+b=\n.x\n.\n"],
            ),
            (
                b"250-1=a\r\n512 syntax error\r\n",
                &[b"250-1=a\r\n", b"512 syntax error\r\n"],
            ),
            (b"", &[]),
        ];
        for (reply, expected) in parts_of {
            assert_eq!(parts(reply), expected, "{}", reply.escape_ascii());
        }
    }

    #[test]
    fn forgetting_takes_nothing_of_what_comes_next() {
        let mut reader = Reader::new(100);
        for (octets, message) in [
            (&b"250 a\r\n250 "[..], &b"250 a\r\n"[..]),
            (b"b\r\n250 c\r\n", b"250 b\r\n"),
            (b"", b"250 c\r\n"),
            (b"250 d\r\n", b"250 d\r\n"),
        ] {
            reader.handle_octets(octets);
            let next = reader.poll_message().unwrap().map(Message::octets);
            assert_eq!(next, Some(message));
            reader.forget();
        }
        assert_eq!(reader.poll_message(), Ok(None));
        reader.forget();
        assert_eq!(reader.rest(), b"");
    }
}
