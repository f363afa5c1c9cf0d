//! Controllers that are connected and say nothing: what they cost at rest.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Case, Figure, Scale, alone, figure};
use crate::peers::{Server, ask, connect, onionbus};

/// Those who have only logged in, and those with a name who wait for messages.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let controllers = scale.of(10_000, 20);
    let rest = Duration::from_secs(if scale.quick { 1 } else { 3 });
    [false, true]
        .into_iter()
        .map(|named| {
            let program = scale.onionbus.clone();
            let what = if named {
                "named and subscribed"
            } else {
                "logged in"
            };
            Case {
                load: "idle",
                variant: format!("{controllers} controllers, {what}"),
                server: Server::Onionbus,
                start: alone(move || idle(&program, controllers, named, rest)),
            }
        })
        .collect()
}

fn idle(
    program: &std::path::Path,
    controllers: usize,
    named: bool,
    rest: Duration,
) -> Result<Vec<Figure>> {
    let running = onionbus(program, &[])?;
    let daemon = &running.processes[0];
    let join = |number: usize| {
        let mut stream = connect(&running.socket)?;
        ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
        if named {
            let name = format!("CONTROLLERNAME controller{number}\r\n");
            ask(&mut stream, name.as_bytes(), b"250 OK\r\n")?;
            ask(&mut stream, b"SETEVENTS POSTMESSAGE\r\n", b"250 OK\r\n")?;
        }
        Ok(stream)
    };
    // The first one makes what is there only once.
    let _first = join(0)?;
    let before = daemon.memory("VmRSS:")?;
    let _others: Vec<_> = (1..=controllers).map(join).collect::<Result<_>>()?;
    running.cpu()?;
    let each = (daemon.memory("VmRSS:")? - before) * 1024.0 / controllers as f64;
    let switches = daemon.switches()?;
    thread::sleep(rest);
    let wakes = (daemon.switches()? - switches) as f64 / rest.as_secs_f64();
    Ok(vec![
        figure("memory each", "B", each),
        figure("wake-ups at rest", "1/s", wakes),
    ])
}
