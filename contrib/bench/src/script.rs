//! What is posted and what must come of it, octet by octet, and the one loop that plays it: one
//! thread, one epoll, large reads, so that the readers are not what is measured.

use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::net::UnixStream as StdStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use crate::process::PATIENCE;

/// What is posted between two waits for everybody.
#[derive(Clone, Copy, Default)]
struct Chunk {
    posts: usize,
    replies: usize,
    deliveries: usize,
}

/// Posts, and the octets that must come back: to the publisher, and to each subscriber.
#[derive(Default)]
pub struct Script {
    posts: Vec<u8>,
    replies: Vec<u8>,
    deliveries: Vec<u8>,
    /// Where each chunk ends in the three.
    chunks: Vec<Chunk>,
}

impl Script {
    /// Appends one message as `write(posts, replies, deliveries)` says it, to the last chunk or,
    /// if that would have more than `chunk` octets of posts, to a new one.
    pub fn message(
        &mut self,
        chunk: usize,
        write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>),
    ) {
        write(&mut self.posts, &mut self.replies, &mut self.deliveries);
        let end = Chunk {
            posts: self.posts.len(),
            replies: self.replies.len(),
            deliveries: self.deliveries.len(),
        };
        let before = self.chunks.len().checked_sub(2);
        let begin = before.map_or(0, |before| self.chunks[before].posts);
        match self.chunks.last_mut() {
            Some(last) if end.posts - begin <= chunk => *last = end,
            _ => self.chunks.push(end),
        }
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many octets come back to the publisher.
    pub fn replied(&self) -> usize {
        self.replies.len()
    }
}

/// Someone who has to get octets that are known.
struct Party {
    stream: UnixStream,
    got: usize,
    /// The chunk that it is in.
    chunk: usize,
}

/// The publisher and the subscribers of one server.
pub struct Crowd {
    poll: Poll,
    publisher: Party,
    subscribers: Vec<Party>,
    buffer: Vec<u8>,
    /// How long nothing may come before what is missing counts as lost.
    patience: Duration,
}

const PUBLISHER: Token = Token(usize::MAX);

impl Crowd {
    /// All of them have said and heard what comes before the first post.
    pub fn new(publisher: StdStream, subscribers: Vec<StdStream>) -> Result<Self> {
        let poll = Poll::new()?;
        let party = |stream: StdStream, token, interest| -> Result<Party> {
            stream.set_nonblocking(true)?;
            let mut stream = UnixStream::from_std(stream);
            poll.registry().register(&mut stream, token, interest)?;
            Ok(Party {
                stream,
                got: 0,
                chunk: 0,
            })
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let publisher = party(publisher, PUBLISHER, both)?;
        let subscribers = subscribers.into_iter().enumerate();
        let subscribers = subscribers
            .map(|(key, stream)| party(stream, Token(key), Interest::READABLE))
            .collect::<Result<_>>()?;
        Ok(Self {
            poll,
            publisher,
            subscribers,
            buffer: vec![0; 256 * 1024],
            patience: PATIENCE,
        })
    }

    /// Lets a script begin with its first chunk, after all of the last one was played.
    pub fn begin_again(&mut self) {
        for party in self.subscribers.iter_mut().chain([&mut self.publisher]) {
            (party.got, party.chunk) = (0, 0);
        }
    }

    /// Plays those `chunks` of `script`, each with a write of its own and at most `in_flight` of them
    /// on the way at a time, and returns how long each took from its first octet posted until the
    /// last subscriber (without any: the publisher) had it. The chunks before must have been played.
    pub fn play(
        &mut self,
        script: &Script,
        chunks: Range<usize>,
        in_flight: usize,
    ) -> Result<Vec<Duration>> {
        let begin = chunks.start.checked_sub(1);
        let mut sent = begin.map_or(0, |before| script.chunks[before].posts);
        let mut next = chunks.start;
        let mut progress = Progress::new(chunks.clone(), self.subscribers.len());
        if script.replies.is_empty() {
            progress.waiting.fill((self.subscribers.len(), true));
        }
        let mut events = Events::with_capacity(1024);
        loop {
            while next < chunks.end.min(progress.done + in_flight) {
                let end = script.chunks[next].posts;
                let now = Instant::now();
                match self.publisher.stream.write(&script.posts[sent..end]) {
                    Ok(taken) => {
                        sent += taken;
                        progress.posted(script, sent, now);
                        next += usize::from(sent == end);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if progress.done == chunks.end {
                return Ok(progress.times);
            }
            self.poll.poll(&mut events, Some(self.patience))?;
            if events.is_empty() {
                bail!(
                    "lost: of the chunks {chunks:?} only {} came everywhere within {:?}",
                    progress.done - chunks.start,
                    self.patience
                );
            }
            for event in &events {
                if !event.is_readable() && !event.is_read_closed() {
                    continue;
                }
                if event.token() == PUBLISHER {
                    let expected = (&script.replies[..], &script.chunks[..]);
                    self.publisher.read(
                        &mut self.buffer,
                        expected,
                        |chunk| chunk.replies,
                        |chunk| {
                            progress.replied(chunk);
                        },
                    )?;
                } else {
                    let expected = (&script.deliveries[..], &script.chunks[..]);
                    self.subscribers[event.token().0].read(
                        &mut self.buffer,
                        expected,
                        |chunk| chunk.deliveries,
                        |chunk| {
                            progress.delivered(chunk);
                        },
                    )?;
                }
            }
        }
    }
}

impl Party {
    /// Reads what has come, compares it with what is `expected`, and calls `passed` with each
    /// chunk that is whole now.
    fn read(
        &mut self,
        buffer: &mut [u8],
        (expected, chunks): (&[u8], &[Chunk]),
        end: impl Fn(&Chunk) -> usize,
        mut passed: impl FnMut(usize),
    ) -> Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let octets = &buffer[..length];
            let rest = &expected[self.got..];
            if rest.get(..length) != Some(octets) {
                let rest = &rest[..length.min(rest.len())];
                let same = octets.iter().zip(rest).take_while(|(a, b)| a == b).count();
                let around = |octets: &[u8]| {
                    let begin = same.saturating_sub(40);
                    String::from_utf8_lossy(&octets[begin..octets.len().min(same + 80)])
                        .into_owned()
                };
                bail!(
                    "wrong: {:?} came where {:?} was due",
                    around(octets),
                    around(rest)
                );
            }
            self.got += length;
            while self.chunk < chunks.len() && end(&chunks[self.chunk]) <= self.got {
                passed(self.chunk);
                self.chunk += 1;
            }
            if length < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Who still has to get what.
struct Progress {
    first: usize,
    /// All chunks before this one are everywhere.
    done: usize,
    begun: Vec<Instant>,
    times: Vec<Duration>,
    /// For each chunk: how many subscribers lack it, and whether the replies are there.
    waiting: Vec<(usize, bool)>,
    subscribers: usize,
}

impl Progress {
    fn new(chunks: Range<usize>, subscribers: usize) -> Self {
        Self {
            first: chunks.start,
            done: chunks.start,
            begun: Vec::with_capacity(chunks.len()),
            times: vec![Duration::ZERO; chunks.len()],
            waiting: vec![(subscribers, false); chunks.len()],
            subscribers,
        }
    }

    /// Notes when the chunks that have begun with the first `sent` octets did so.
    fn posted(&mut self, script: &Script, sent: usize, now: Instant) {
        let begin = |chunk: usize| {
            let before = chunk.checked_sub(1);
            before.map_or(0, |before| script.chunks[before].posts)
        };
        while self.begun.len() < self.times.len() && begin(self.first + self.begun.len()) < sent {
            self.begun.push(now);
        }
    }

    fn delivered(&mut self, chunk: usize) {
        let index = chunk - self.first;
        self.waiting[index].0 -= 1;
        if self.waiting[index].0 == 0 {
            self.times[index] = self.begun[index].elapsed();
        }
        self.advance();
    }

    fn replied(&mut self, chunk: usize) {
        let index = chunk - self.first;
        self.waiting[index].1 = true;
        if self.subscribers == 0 {
            self.times[index] = self.begun[index].elapsed();
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.waiting.get(self.done - self.first) == Some(&(0, true)) {
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three chunks: `a`, `b`, and `c`.
    fn abc() -> Script {
        let mut script = Script::default();
        for letter in *b"abc" {
            script.message(0, |posts, replies, deliveries| {
                posts.push(letter);
                replies.push(b'.');
                deliveries.push(letter);
            });
        }
        script
    }

    /// The verdict on a server that delivers this to its second subscriber, where `abc` is due.
    fn verdict(delivered: &[u8]) -> String {
        let [(publisher, served), (first, to_first), (second, to_second)] =
            [(); 3].map(|()| StdStream::pair().unwrap());
        (&served).write_all(b"...").unwrap();
        (&to_first).write_all(b"abc").unwrap();
        (&to_second).write_all(delivered).unwrap();
        let mut crowd = Crowd::new(publisher, vec![first, second]).unwrap();
        crowd.patience = Duration::from_millis(50);
        match crowd.play(&abc(), 0..3, 3) {
            Ok(times) => format!("{} chunks", times.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn whatever_is_not_delivered_as_posted_is_found() {
        assert_eq!(verdict(b"abc"), "3 chunks");
        assert!(verdict(b"ab").starts_with("lost: "));
        for wrong in [&b"acb"[..], b"abb", b"bc", b"abcd"] {
            assert!(verdict(wrong).starts_with("wrong: "), "{wrong:?}");
        }
    }

    #[test]
    fn no_more_is_posted_than_may_be_on_the_way() {
        // All have come but the delivery of `b`, so `c` may be posted only if two may be missing.
        for (in_flight, posted) in [(1, "ab"), (2, "abc")] {
            let [(publisher, mut served), (subscriber, mut to)] =
                [(); 2].map(|()| StdStream::pair().unwrap());
            served.write_all(b"...").unwrap();
            to.write_all(b"a").unwrap();
            let mut crowd = Crowd::new(publisher, vec![subscriber]).unwrap();
            crowd.patience = Duration::from_millis(50);
            crowd.play(&abc(), 0..3, in_flight).unwrap_err();
            drop(crowd);
            let mut octets = String::new();
            served.read_to_string(&mut octets).unwrap();
            assert_eq!(octets, posted);
        }
    }
}
