//! One controller and a Tor: directly, through onionbus, and through socat, which only copies.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Case, Figure, Scale, figure, median};
use crate::fake_tor;
use crate::peers::{Running, Server, ask, connect, onionbus, socat, take, tor};
use crate::script::{Crowd, Script};

/// The ways to Tor.
pub const WAYS: [Server; 3] = [Server::Tor, Server::Onionbus, Server::Socat];

/// A way to the Tor `behind`, which stays alive as long as this: its socket is where to connect, and
/// its first process is what was put before Tor, if anything was.
pub fn way(server: Server, program: &Path, behind: Running) -> Result<Running> {
    match server {
        Server::Socat => socat(behind),
        Server::Onionbus => {
            let tor = format!("BusTor unix:{}", behind.socket.display());
            let mut bus = onionbus(program, &[&tor])?;
            bus.processes.extend(behind.processes);
            bus.behind = Some((behind.socket, behind.place));
            // It takes commands for Tor once it has logged in there.
            let mut stream = connect(&bus.socket)?;
            stream.write_all(b"GETINFO version\r\nQUIT\r\n")?;
            let mut said = Vec::new();
            stream.read_to_end(&mut said)?;
            ensure!(said.starts_with(b"250-version="), "onionbus has no Tor");
            Ok(bus)
        }
        _ => Ok(behind),
    }
}

/// The four ways to use the relay.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let (trips, replies) = (scale.of(20_000, 20), scale.of(200_000, 20));
    let (large, huge) = (scale.of(5_000, 20), scale.of(60, 10));
    for server in WAYS {
        let program = scale.onionbus.clone();
        let mut case = |variant: &str, run: super::Run| {
            cases.push(Case {
                load: "relay",
                variant: variant.into(),
                server,
                run,
            });
        };
        let path = program.clone();
        case(
            "GETINFO version, one at a time",
            Box::new(move || round_trips(&way(server, &path, tor()?)?, trips)),
        );
        let path = program.clone();
        case(
            "GETINFO version, pipelined",
            Box::new(move || {
                let running = way(server, &path, tor()?)?;
                let command = b"GETINFO version\r\n";
                throughput(server, &running, command, replies, 64 * 1024, 2)
            }),
        );
        let path = program.clone();
        case(
            "config/names info/names",
            Box::new(move || {
                let running = way(server, &path, tor()?)?;
                let command = b"GETINFO config/names info/names\r\n";
                throughput(server, &running, command, large, 0, 4)
            }),
        );
        let path = program.clone();
        case(
            "replies of 10 MB",
            Box::new(move || {
                let running = way(server, &path, fake_tor::start()?)?;
                let command = b"GETINFO ns/all\r\n";
                throughput(server, &running, command, huge, 0, 2)
            }),
        );
    }
    // Those that are compared stand together.
    cases.sort_by(|one, other| one.variant.cmp(&other.variant));
    cases
}

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

fn round_trips(running: &Running, trips: usize) -> Result<Vec<Figure>> {
    let command = b"GETINFO version\r\n";
    let reply = reply(&running.socket, command)?;
    let mut stream = connect(&running.socket)?;
    ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
    let mut times = Vec::with_capacity(trips);
    for _ in 0..trips {
        let begun = Instant::now();
        stream.write_all(command)?;
        take(&mut stream, &reply)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(vec![figure("round trip", "us", median(&mut times))])
}

fn throughput(
    server: Server,
    running: &Running,
    command: &[u8],
    replies: usize,
    chunk: usize,
    in_flight: usize,
) -> Result<Vec<Figure>> {
    let reply = reply(&running.socket, command)?;
    let mut script = Script::default();
    for _ in 0..replies {
        script.message(chunk, |post, expected, _| {
            post.extend_from_slice(command);
            expected.extend_from_slice(&reply);
        });
    }
    let mut stream = connect(&running.socket)?;
    ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
    let mut crowd = Crowd::new(stream, Vec::new())?;
    let warm = script.chunks() / 10 + 1;
    crowd.play(&script, 0..warm, in_flight)?;
    let memory = || running.processes[0].memory("VmHWM:");
    let before = memory()?;
    let begun = Instant::now();
    crowd.play(&script, warm..script.chunks(), in_flight)?;
    let seconds = begun.elapsed().as_secs_f64();
    let share = (script.chunks() - warm) as f64 / script.chunks() as f64;
    let octets = script.replied() as f64 * share;
    let peak = memory()?;
    let mut figures = vec![figure("throughput", "MB/s", octets / seconds / 1e6)];
    if server == Server::Onionbus {
        figures.push(figure("peak memory", "KiB", peak));
        let growth = peak - before;
        figures.push(figure("growth after the first tenth", "KiB", growth));
    }
    Ok(figures)
}
