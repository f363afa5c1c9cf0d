//! Controllers that are connected and say nothing: what they cost at rest.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::relay::{reply, way};
use super::{Case, Figure, Scale, alone, figure};
use crate::peers::{Running, Server, ask, connect, onionbus, take, tor};

/// What controllers have done before they rest.
#[derive(Clone, Copy)]
struct Life {
    what: &'static str,
    number: usize,
    named: bool,
    /// They have asked Tor something, and so have a connection to it.
    tor: bool,
}

const LIVES: [Life; 3] = [
    Life {
        what: "logged in",
        number: 10_000,
        named: false,
        tor: false,
    },
    Life {
        what: "named and subscribed",
        number: 10_000,
        named: true,
        tor: false,
    },
    Life {
        what: "the same, and have asked Tor",
        number: 5000,
        named: true,
        tor: true,
    },
];

/// One case for each life.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let rest = Duration::from_secs(if scale.quick { 1 } else { 3 });
    LIVES
        .into_iter()
        .map(|life| {
            let program = scale.onionbus.clone();
            let number = scale.of(life.number, 20);
            Case {
                load: "idle",
                variant: format!("{number} controllers, {}", life.what),
                server: Server::Onionbus,
                start: alone(move || {
                    let running = if life.tor {
                        way(Server::Onionbus, &program, tor()?)?
                    } else {
                        onionbus(&program, &[])?
                    };
                    idle(&running, life, number, rest)
                }),
            }
        })
        .collect()
}

fn idle(running: &Running, life: Life, number: usize, rest: Duration) -> Result<Vec<Figure>> {
    let daemon = &running.processes[0];
    let version = if life.tor {
        reply(&running.socket, b"GETINFO version\r\n")?
    } else {
        Vec::new()
    };
    let join = |number: usize| -> Result<UnixStream> {
        let mut stream = connect(&running.socket)?;
        ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
        if life.named {
            let name = format!("CONTROLLERNAME controller{number}\r\n");
            ask(&mut stream, name.as_bytes(), b"250 OK\r\n")?;
            ask(&mut stream, b"SETEVENTS POSTMESSAGE\r\n", b"250 OK\r\n")?;
        }
        if life.tor {
            stream.write_all(b"GETINFO version\r\n")?;
            take(&mut stream, &version)?;
        }
        Ok(stream)
    };
    // The first one makes what is there only once.
    let _first = join(0)?;
    let before = daemon.memory("VmRSS:")?;
    let _others: Vec<_> = (1..=number).map(join).collect::<Result<_>>()?;
    running.cpu()?;
    let each = (daemon.memory("VmRSS:")? - before) * 1024.0 / number as f64;
    let switches = daemon.switches()?;
    thread::sleep(rest);
    let wakes = (daemon.switches()? - switches) as f64 / rest.as_secs_f64();
    Ok(vec![
        figure("memory each", "B", each),
        figure("wake-ups at rest", "1/s", wakes),
    ])
}
