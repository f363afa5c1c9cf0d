//! Messages to one: a round trip at a time, and many at once between many.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use super::{Case, Figure, Scale, alone, figure, median};
use crate::peers::{Running, Server, ask, connect, speaker, take, text};
use crate::process::PATIENCE;

/// How many messages a controller posts with one write, each to somebody else.
const BURST: usize = 8;

/// How many controllers' messages are on the way at a time.
const FLIGHT: usize = 8;

/// The octets of a message's text.
const SIZE: usize = 64;

/// Connects a controller with this name that waits for messages.
pub fn controller(socket: &Path, name: &str) -> Result<StdStream> {
    let mut stream = connect(socket)?;
    let command = format!("CONTROLLERNAME {name}\r\n");
    ask(&mut stream, command.as_bytes(), b"250 OK\r\n")?;
    ask(&mut stream, b"SETEVENTS POSTMESSAGE\r\n", b"250 OK\r\n")?;
    Ok(stream)
}

/// How often a server is started anew for the trips of a round: where the kernel puts its threads
/// is what they depend on most.
const STARTS: usize = 10;

/// One posts to another, and again when that one has it.
pub fn round_trip(scale: &Scale) -> Vec<Case> {
    let trips = scale.of(30_000, 20);
    [
        Server::Floor,
        Server::Floor2,
        Server::Onionbus,
        Server::Redis,
    ]
    .into_iter()
    .map(|server| {
        let program = scale.onionbus.clone();
        Case {
            load: "round-trip",
            variant: format!("{SIZE} B to one"),
            server,
            start: alone(move || {
                let mut times = Vec::with_capacity(trips);
                for _ in 0..STARTS {
                    times.extend(trip(server, &program, trips / STARTS)?);
                }
                Ok(vec![figure("post to delivery", "us", median(&mut times))])
            }),
        }
    })
    .collect()
}

fn trip(server: Server, program: &Path, trips: usize) -> Result<Vec<f64>> {
    let mut speaker = speaker(server, program);
    let running = speaker.start()?;
    let is_bus = server != Server::Redis;
    let (mut to, mut from) = if is_bus {
        let to = controller(&running.socket, "to")?;
        (to, controller(&running.socket, "from")?)
    } else {
        let to = speaker.subscriber(&running.socket)?;
        (to, speaker.publisher(&running.socket)?)
    };
    let mut times = Vec::with_capacity(trips);
    for number in 1..=trips {
        let text = text(number, SIZE);
        let [mut post, mut reply, mut delivery] = [const { Vec::new() }; 3];
        if is_bus {
            let event = format!("650 POSTMESSAGE {number} from @to ");
            post.extend([b"POSTMESSAGE @to ", &text[..], b"\r\n"].concat());
            reply.extend_from_slice(b"250 OK\r\n");
            delivery.extend([event.as_bytes(), &text[..], b"\r\n"].concat());
        } else {
            speaker.message(&text, &mut post, &mut reply, &mut delivery);
        }
        let begun = Instant::now();
        from.write_all(&post)?;
        take(&mut to, &delivery)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        take(&mut from, &reply)?;
    }
    Ok(times)
}

/// Named controllers post to random others. The same number of them, so that there is the same to
/// do, while more and more others are connected too.
pub fn many(scale: &Scale) -> Vec<Case> {
    let messages = scale.of(200_000, 20);
    let forms: &[(usize, usize)] = if scale.quick {
        &[(10, 10), (10, 100)]
    } else {
        &[
            (10, 10),
            (10, 100),
            (10, 1000),
            (10, 10_000),
            (1000, 1000),
            (1000, 10_000),
        ]
    };
    let mut cases = Vec::new();
    for &(active, connected) in forms {
        for server in [Server::Floor, Server::Floor2, Server::Onionbus] {
            let program = scale.onionbus.clone();
            cases.push(Case {
                load: "directed",
                variant: format!("{active} of {connected} post"),
                server,
                start: alone(move || post_around(server, &program, active, connected, messages)),
            });
        }
    }
    cases
}

fn post_around(
    server: Server,
    program: &Path,
    active: usize,
    connected: usize,
    messages: usize,
) -> Result<Vec<Figure>> {
    let running = speaker(server, program).start()?;
    let mut town = Town::new(&running, active, connected)?;
    let warm = messages / 10;
    town.post(warm)?;
    let before = running.cpu()?;
    town.post(messages)?;
    let used = running.cpu()? - before;
    town.check_ids()?;
    let posted = (town.messages.len() - warm) as f64;
    Ok(vec![figure("CPU per message", "us", used / posted)])
}

/// A controller.
struct Resident {
    stream: UnixStream,
    /// A line whose end has not come.
    begun: Vec<u8>,
    /// Which of its bursts is on the way.
    burst: Option<usize>,
    last_id: u64,
}

/// One message.
struct Posted {
    from: usize,
    to: usize,
    /// Its `MessageID`, once it was delivered.
    id: Option<u64>,
}

/// All controllers and all messages.
struct Town {
    poll: Poll,
    residents: Vec<Resident>,
    /// So many of the residents post and get messages.
    active: usize,
    messages: Vec<Posted>,
    /// For each burst: how many deliveries and replies have not come.
    bursts: Vec<usize>,
    random: fastrand::Rng,
    buffer: Vec<u8>,
}

impl Town {
    fn new(running: &Running, active: usize, connected: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut residents = Vec::with_capacity(connected);
        for number in 0..connected {
            let stream = controller(&running.socket, &format!("controller{number}"))?;
            stream.set_nonblocking(true)?;
            let mut stream = UnixStream::from_std(stream);
            let token = Token(number);
            poll.registry()
                .register(&mut stream, token, Interest::READABLE)?;
            residents.push(Resident {
                stream,
                begun: Vec::new(),
                burst: None,
                last_id: 0,
            });
        }
        Ok(Self {
            poll,
            residents,
            active,
            messages: Vec::new(),
            bursts: Vec::new(),
            random: fastrand::Rng::with_seed(197),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Posts until there have been `total` messages and everything has come.
    fn post(&mut self, total: usize) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut waiting = HashSet::new();
        loop {
            while self.messages.len() < total && waiting.len() < FLIGHT {
                waiting.insert(self.begin_burst()?);
            }
            if waiting.is_empty() {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                let delivered = self.messages.iter().filter(|message| message.id.is_some());
                bail!(
                    "lost: {} of {} came",
                    delivered.count(),
                    self.messages.len()
                );
            }
            for event in &events {
                self.read(event.token().0)?;
            }
            waiting.retain(|burst| self.bursts[*burst] > 0);
        }
    }

    fn begin_burst(&mut self) -> Result<usize> {
        let from = loop {
            let from = self.random.usize(..self.active);
            if self.residents[from].burst.is_none() {
                break from;
            }
        };
        let others = (0..self.active).filter(|other| *other != from);
        let recipients = self.random.choose_multiple(others, BURST);
        let mut octets = Vec::new();
        for to in &recipients {
            let text = text(self.messages.len(), SIZE);
            // Writing to a vector cannot fail.
            let _ = write!(octets, "POSTMESSAGE @controller{to} ");
            octets.extend([&text[..], b"\r\n"].concat());
            let message = Posted {
                from,
                to: *to,
                id: None,
            };
            self.messages.push(message);
        }
        let burst = self.bursts.len();
        self.bursts.push(2 * recipients.len());
        let resident = &mut self.residents[from];
        resident.burst = Some(burst);
        let sent = resident.stream.write(&octets)?;
        ensure!(sent == octets.len(), "a socket takes less than one burst");
        Ok(burst)
    }

    fn read(&mut self, key: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let length = match self.residents[key].stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let mut octets = std::mem::take(&mut self.residents[key].begun);
            octets.extend_from_slice(&buffer[..length]);
            let mut rest = &octets[..];
            while let Some(at) = memchr::memchr(b'\n', rest) {
                let line = &rest[..=at];
                let taken = self.take_line(key, line);
                taken.with_context(|| format!("wrong: {:?}", String::from_utf8_lossy(line)))?;
                rest = &rest[at + 1..];
            }
            self.residents[key].begun.extend_from_slice(rest);
            if length < buffer.len() {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn take_line(&mut self, key: usize, line: &[u8]) -> Result<()> {
        let resident = &mut self.residents[key];
        if line == b"250 OK\r\n" {
            let burst = resident.burst.context("nothing was posted")?;
            self.bursts[burst] -= 1;
            self.release(burst);
            return Ok(());
        }
        let text = std::str::from_utf8(line)?;
        let mut words = text.trim_end().splitn(6, ' ');
        let mut word = || words.next().unwrap_or_default();
        ensure!(word() == "650" && word() == "POSTMESSAGE", "no event");
        let (id, from, to, text): (u64, _, _, _) = (word().parse()?, word(), word(), word());
        ensure!(id > resident.last_id, "behind {}", resident.last_id);
        resident.last_id = id;
        let number: usize = text.get(..8).unwrap_or_default().parse()?;
        ensure!(
            text.as_bytes() == crate::peers::text(number, SIZE),
            "another text"
        );
        let message = self.messages.get_mut(number).context("never posted")?;
        ensure!(
            message.to == key && to == format!("@controller{key}"),
            "for another one"
        );
        ensure!(
            from == format!("controller{}", message.from),
            "from another one"
        );
        ensure!(message.id.replace(id).is_none(), "twice");
        let burst = number / BURST;
        self.bursts[burst] -= 1;
        self.release(burst);
        Ok(())
    }

    /// Lets the poster of this burst post again, if all of it has come.
    fn release(&mut self, burst: usize) {
        if self.bursts[burst] == 0 {
            let from = self.messages[burst * BURST].from;
            self.residents[from].burst = None;
        }
    }

    /// All ids were given, each once, and for each poster in the order of its posts.
    fn check_ids(&self) -> Result<()> {
        let mut last = vec![0; self.residents.len()];
        let mut ids = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            let id = message.id.context("lost")?;
            ensure!(id > last[message.from], "ids out of order: {id}");
            last[message.from] = id;
            ids.push(id);
        }
        ids.sort_unstable();
        ensure!(ids.iter().copied().eq(1..=ids.len() as u64), "ids left out");
        Ok(())
    }
}
