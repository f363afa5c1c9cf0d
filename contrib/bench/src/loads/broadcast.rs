//! One publisher and many subscribers who get every message: pipelined, and one at a time.

use anyhow::Result;

use super::{Case, Figure, Scale, alone, figure, median};
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

/// So many octets of posts are sent at once, and two such chunks are on the way: a server that
/// reads 64 KiB always has as much to read.
const CHUNK: usize = 64 * 1024;

/// Posts as many as the server takes.
pub fn pipelined(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &scale.sizes {
        for &subscribers in &scale.subscribers {
            for server in SERVERS {
                // About as long for each: so many deliveries, but not too many messages.
                let deliveries = match server {
                    Server::Dbus => 1_000_000,
                    Server::Redis | Server::Tor => 8_000_000,
                    _ => 20_000_000,
                };
                let octets = scale.of(200_000_000, 20);
                let messages = scale.of(deliveries / subscribers, 20);
                let messages = messages.min(octets / size / 10).max(2000);
                let onionbus = scale.onionbus.clone();
                cases.push(Case {
                    load: "broadcast",
                    variant: format!("{size} B to {subscribers}"),
                    server,
                    start: alone(move || {
                        let mut speaker = speaker(server, &onionbus);
                        let running = speaker.start()?;
                        pipeline(&mut *speaker, &running, subscribers, messages, size)
                    }),
                });
            }
        }
    }
    cases
}

/// Lets `running` deliver as many messages as it takes.
pub fn pipeline(
    speaker: &mut dyn Speaker,
    running: &Running,
    subscribers: usize,
    messages: usize,
    size: usize,
) -> Result<Vec<Figure>> {
    let mut crowd = gather(speaker, running, subscribers)?;
    let script = write(speaker, messages, size, CHUNK);
    // The first tenth fills the caches and the buffers.
    let warm = script.chunks() / 10 + 1;
    crowd.play(&script, 0..warm, 2)?;
    let before = running.cpu()?;
    crowd.play(&script, warm..script.chunks(), 2)?;
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
