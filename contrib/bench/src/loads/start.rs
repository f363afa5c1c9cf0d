//! From exec to the first connection that is served, and how large the program is.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Case, Figure, Scale, alone, figure, median};
use crate::peers::{Server, onionbus_command};
use crate::process::{PATIENCE, Process, place};

/// Starts it again and again.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let starts = scale.of(50, 10);
    let program = scale.onionbus.clone();
    vec![Case {
        load: "start",
        variant: "exec to first reply".into(),
        server: Server::Onionbus,
        start: alone(move || start(&program, starts)),
    }]
}

fn start(program: &Path, starts: usize) -> Result<Vec<Figure>> {
    let mut times = Vec::new();
    for _ in 0..starts {
        let place = place()?;
        let (command, socket) = onionbus_command(program, &place, &[])?;
        let begun = Instant::now();
        let _process = Process::start(command, place.path())?;
        let mut stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) => ensure!(begun.elapsed() < PATIENCE, "it does not start"),
            }
            // Rather noticed late than in its way.
            thread::sleep(Duration::from_micros(50));
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PROTOCOLINFO\r\n")?;
        stream.read_exact(&mut [0]).context("no reply")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(vec![
        figure("first reply after", "ms", median(&mut times)),
        figure("program", "KiB", program.metadata()?.len() as f64 / 1024.0),
    ])
}
