//! One controller and a Tor: directly, through onionbus, and through socat, which only copies.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Case, Figure, Round, Scale, TURNS, Turns, alone, figure, median};
use crate::fake_tor;
use crate::peers::{Running, Server, ask, connect, onionbus, socat, take, tor, tor_with_addresses};
use crate::script::{Crowd, Script};

/// The ways to Tor.
pub const WAYS: [Server; 3] = [Server::Tor, Server::Onionbus, Server::Socat];

/// A way to the Tor `behind`, which stays alive as long as this: its socket is where to connect, and
/// its first process is what was put before Tor, if anything was.
pub fn way(server: Server, program: &Path, behind: Running) -> Result<Running> {
    let Some(mut front) = front(server, program, &behind.socket)? else {
        return Ok(behind);
    };
    front.processes.extend(behind.processes);
    front.behind = Some((behind.socket, behind.place));
    Ok(front)
}

/// What is to be put before the Tor at `socket`, if anything is.
fn front(server: Server, program: &Path, socket: &Path) -> Result<Option<Running>> {
    match server {
        Server::Socat => Ok(Some(socat(socket)?)),
        Server::Onionbus => {
            let tor = format!("BusTor unix:{}", socket.display());
            let bus = onionbus(program, &[&tor])?;
            awaits_version(&bus)?;
            Ok(Some(bus))
        }
        _ => Ok(None),
    }
}

/// Waits until a bus answers: where it has a Tor, once it has logged in there.
pub fn awaits_version(bus: &Running) -> Result<()> {
    let mut stream = connect(&bus.socket)?;
    stream.write_all(b"GETINFO version\r\nQUIT\r\n")?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    ensure!(said.starts_with(b"250-version="), "onionbus has no version");
    Ok(())
}

/// The ways to use the relay.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for server in WAYS {
        let mut case = |variant: &str, start: super::Start| {
            cases.push(Case {
                load: "relay",
                variant: variant.into(),
                server,
                start,
            });
        };
        let program = scale.onionbus.clone();
        let trips = scale.of(20_000, 20);
        case(
            "GETINFO version, one at a time",
            alone(move || round_trips(&way(server, &program, tor()?)?, trips)),
        );
        for used in USES {
            let (program, tors) = (scale.onionbus.clone(), Rc::clone(&scale.tors));
            let each = scale.of(used.commands / TURNS, 20);
            case(
                used.variant,
                Box::new(move || {
                    let mut tors = tors.borrow_mut();
                    let tor = tors.entry(used.variant).or_default();
                    let behind = match tor.upgrade() {
                        Some(behind) => behind,
                        None => Rc::new((used.behind)()?),
                    };
                    *tor = Rc::downgrade(&behind);
                    let front = front(server, &program, &behind.socket)?;
                    let stream = Stream::new(&used, each, server, front, behind)?;
                    Ok(Round::Turns(Box::new(stream)))
                }),
            );
        }
    }
    cases
}

/// A way to use the relay as fast as it goes.
#[derive(Clone, Copy)]
struct Use {
    variant: &'static str,
    behind: fn() -> Result<Running>,
    command: &'static [u8],
    /// How often, in a whole round.
    commands: usize,
    /// The most octets of them in a chunk, which is sent at once; 0 makes each command one.
    chunk: usize,
    /// The most chunks on the way at a time.
    in_flight: usize,
}

/// A command whose reply is short.
const VERSION: &[u8] = b"GETINFO version\r\n";

const USES: [Use; 5] = [
    Use {
        variant: "GETINFO version, pipelined",
        behind: tor,
        command: VERSION,
        commands: 400_000,
        chunk: 64 * 1024,
        in_flight: 2,
    },
    Use {
        variant: "GETINFO version, batches of 128",
        behind: tor,
        command: VERSION,
        commands: 128 * 3000,
        chunk: 128 * VERSION.len(),
        in_flight: 1,
    },
    Use {
        variant: "config/names info/names",
        behind: tor,
        command: b"GETINFO config/names info/names\r\n",
        commands: 5000,
        chunk: 0,
        in_flight: 4,
    },
    Use {
        variant: "replies of 10 MB",
        behind: tor_with_addresses,
        command: b"GETINFO address-mappings/all\r\n",
        commands: 40,
        chunk: 0,
        in_flight: 2,
    },
    Use {
        variant: "replies of 10 MB, made faster",
        behind: fake_tor::start,
        command: b"GETINFO ns/all\r\n",
        commands: 60,
        chunk: 0,
        in_flight: 2,
    },
];

/// What comes for `command`, as Tor says it: until the final `250 OK`.
pub fn reply(socket: &Path, command: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(socket)?;
    ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
    stream.write_all(command)?;
    let mut reply = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    while !reply.ends_with(b"\r\n250 OK\r\n") {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "Tor closed the connection");
        reply.extend_from_slice(&buffer[..length]);
    }
    Ok(reply)
}

/// One controller that waits for each reply.
pub fn round_trips(running: &Running, trips: usize) -> Result<Vec<Figure>> {
    let reply = reply(&running.socket, VERSION)?;
    let mut stream = logged_in(running)?;
    let mut times = Vec::with_capacity(trips);
    for _ in 0..trips {
        let begun = Instant::now();
        stream.write_all(VERSION)?;
        take(&mut stream, &reply)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(vec![figure("round trip", "us", median(&mut times))])
}

/// One controller that asks the same as fast as it is answered.
struct Stream {
    crowd: Crowd,
    /// What is played in each turn.
    script: Script,
    in_flight: usize,
    seconds: f64,
    turns: usize,
    /// The most memory that was used before.
    memory: f64,
    server: Server,
    front: Option<Running>,
    _behind: Rc<Running>,
}

impl Stream {
    fn new(
        used: &Use,
        each: usize,
        server: Server,
        front: Option<Running>,
        behind: Rc<Running>,
    ) -> Result<Self> {
        let running = front.as_ref().unwrap_or(&behind);
        let reply = reply(&running.socket, used.command)?;
        let mut script = Script::default();
        for _ in 0..each {
            script.message(used.chunk, |post, expected, _| {
                post.extend_from_slice(used.command);
                expected.extend_from_slice(&reply);
            });
        }
        let mut crowd = Crowd::new(logged_in(running)?, Vec::new())?;
        crowd.play(&script, 0..script.chunks(), used.in_flight)?;
        Ok(Self {
            crowd,
            script,
            in_flight: used.in_flight,
            seconds: 0.0,
            turns: 0,
            memory: running.processes[0].memory("VmHWM:")?,
            server,
            front,
            _behind: behind,
        })
    }
}

impl Turns for Stream {
    fn turn(&mut self) -> Result<()> {
        self.crowd.begin_again();
        let begun = Instant::now();
        let chunks = 0..self.script.chunks();
        self.crowd.play(&self.script, chunks, self.in_flight)?;
        self.seconds += begun.elapsed().as_secs_f64();
        self.turns += 1;
        Ok(())
    }

    fn figures(&mut self) -> Result<Vec<Figure>> {
        let octets = (self.script.replied() * self.turns) as f64;
        let mut figures = vec![figure("throughput", "MB/s", octets / self.seconds / 1e6)];
        if let (Server::Onionbus, Some(front)) = (self.server, &self.front) {
            let peak = front.processes[0].memory("VmHWM:")?;
            figures.push(figure("peak memory", "KiB", peak));
            let growth = peak - self.memory;
            figures.push(figure("growth after the first turn", "KiB", growth));
        }
        Ok(figures)
    }
}

fn logged_in(running: &Running) -> Result<UnixStream> {
    let mut stream = connect(&running.socket)?;
    ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
    Ok(stream)
}
