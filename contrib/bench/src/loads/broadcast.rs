//! One publisher and many subscribers who get every message: pipelined, with a window, and one at a
//! time.

use anyhow::Result;

use super::{Case, Figure, Scale, Start, alone, figure, median};
use crate::peers::{Running, Server, Speaker, speaker, text};
use crate::script::{Crowd, Script};

const SERVERS: [Server; 6] = [
    Server::Floor,
    Server::Floor2,
    Server::Onionbus,
    Server::Redis,
    Server::Tor,
    Server::Dbus,
];

/// The posts that may be ahead of the slowest subscriber.
pub struct Flight {
    /// The most octets in a chunk, which is one write; 0 makes each message one.
    chunk: usize,
    /// The most chunks on the way at a time.
    chunks: usize,
}

/// A flight that keeps the server busy: one that reads 64 KiB always has as much to read.
pub const PIPELINE: Flight = Flight {
    chunk: 64 * 1024,
    chunks: 2,
};

/// A flight of small clients, which wait for their posts now and then.
const WINDOW: Flight = Flight {
    chunk: 0,
    chunks: 256,
};

/// Posts as many as the server takes.
pub fn pipelined(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &scale.sizes {
        for &subscribers in &scale.subscribers {
            for server in SERVERS {
                let variant = format!("{size} B to {subscribers}");
                let start = start(scale, server, subscribers, size, &PIPELINE);
                cases.push(Case {
                    load: "broadcast",
                    variant,
                    server,
                    start,
                });
            }
        }
    }
    cases
}

/// Posts the next message when everybody has the one that is 256 before it.
pub fn window(scale: &Scale) -> Vec<Case> {
    let (size, subscribers) = (64, scale.of(1000, 10));
    SERVERS
        .into_iter()
        .map(|server| Case {
            load: "window",
            variant: format!("{size} B to {subscribers}, {} under way", WINDOW.chunks),
            server,
            start: start(scale, server, subscribers, size, &WINDOW),
        })
        .collect()
}

fn start(
    scale: &Scale,
    server: Server,
    subscribers: usize,
    size: usize,
    flight: &'static Flight,
) -> Start {
    // About as long for each server, but not too many messages.
    let deliveries = match server {
        Server::Dbus => 1_000_000,
        Server::Redis | Server::Tor => 8_000_000,
        _ => 20_000_000,
    };
    let octets = scale.of(200_000_000, 20);
    let messages = scale.of(deliveries / subscribers, 20);
    let messages = messages.min(octets / size / 10).max(2000);
    let onionbus = scale.onionbus.clone();
    alone(move || {
        let mut speaker = speaker(server, &onionbus);
        let running = speaker.start()?;
        pipeline(&mut *speaker, &running, subscribers, messages, size, flight)
    })
}

/// Lets `running` deliver messages as fast as the `flight` lets it.
pub fn pipeline(
    speaker: &mut dyn Speaker,
    running: &Running,
    subscribers: usize,
    messages: usize,
    size: usize,
    flight: &Flight,
) -> Result<Vec<Figure>> {
    let mut crowd = gather(speaker, running, subscribers)?;
    let script = write(speaker, messages, size, flight.chunk);
    // The first tenth fills the caches and the buffers.
    let warm = script.chunks() / 10 + 1;
    crowd.play(&script, 0..warm, flight.chunks)?;
    let before = running.cpu()?;
    crowd.play(&script, warm..script.chunks(), flight.chunks)?;
    let used = running.cpu()? - before;
    let share = (script.chunks() - warm) as f64 / script.chunks() as f64;
    let deliveries = messages as f64 * share * subscribers as f64;
    Ok(vec![figure("CPU per delivery", "us", used / deliveries)])
}

/// Posts each when everybody has the one before.
pub fn single(scale: &Scale) -> Vec<Case> {
    let (size, subscribers) = (64, scale.of(1000, 10));
    let messages = scale.of(1000, 10);
    SERVERS
        .into_iter()
        .map(|server| {
            let onionbus = scale.onionbus.clone();
            Case {
                load: "single",
                variant: format!("{size} B to {subscribers}"),
                server,
                start: alone(move || {
                    let mut speaker = speaker(server, &onionbus);
                    let running = speaker.start()?;
                    one_at_a_time(&mut *speaker, &running, subscribers, messages, size)
                }),
            }
        })
        .collect()
}

/// Lets `running` deliver one message after the other.
pub fn one_at_a_time(
    speaker: &mut dyn Speaker,
    running: &Running,
    subscribers: usize,
    messages: usize,
    size: usize,
) -> Result<Vec<Figure>> {
    let mut crowd = gather(speaker, running, subscribers)?;
    let script = write(speaker, messages, size, 0);
    let warm = messages / 10;
    crowd.play(&script, 0..warm, 1)?;
    let before = running.cpu()?;
    let times = crowd.play(&script, warm..messages, 1)?;
    let used = running.cpu()? - before;
    let deliveries = (times.len() * subscribers) as f64;
    let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    Ok(vec![
        figure("CPU per delivery", "us", used / deliveries),
        figure("the last has it after", "us", median(&mut times)),
    ])
}

fn gather(speaker: &mut dyn Speaker, running: &Running, subscribers: usize) -> Result<Crowd> {
    let subscribers = (0..subscribers)
        .map(|_| speaker.subscriber(&running.socket))
        .collect::<Result<_>>()?;
    Crowd::new(speaker.publisher(running.source())?, subscribers)
}

fn write(speaker: &mut dyn Speaker, messages: usize, size: usize, chunk: usize) -> Script {
    let mut script = Script::default();
    for number in 0..messages {
        let text = text(number, size);
        script.message(chunk, |post, reply, delivery| {
            speaker.message(&text, post, reply, delivery);
        });
    }
    script
}
