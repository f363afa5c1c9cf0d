//! onionbus, and the floor servers, which speak as much of the same protocol as is needed here.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::{Running, ask, connect};
use crate::process::place;

/// Starts `program` as an onionbus, with further `options` as `--set` takes them.
pub fn onionbus(program: &Path, options: &[&str]) -> Result<Running> {
    let place = place()?;
    let (command, socket) = onionbus_command(program, &place, options)?;
    Running::start(command, place, socket)
}

/// The same, with options that the directory of its files is needed for.
pub fn onionbus_with(
    program: &Path,
    options: impl FnOnce(&Path) -> Result<Vec<String>>,
) -> Result<Running> {
    let place = place()?;
    let options = options(place.path())?;
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let (command, socket) = onionbus_command(program, &place, &options)?;
    Running::start(command, place, socket)
}

/// How it is started, and where it will listen.
pub fn onionbus_command(
    program: &Path,
    place: &TempDir,
    options: &[&str],
) -> Result<(Command, PathBuf)> {
    ensure!(program.is_file(), "{} is not built", program.display());
    let socket = place.path().join("control");
    let mut command = Command::new(program);
    command.arg("serve").arg("--socket").arg(&socket);
    command.arg("--state").arg(place.path().join("state"));
    for option in ["BusMaxControllersPerUser 16384"].iter().chain(options) {
        command.args(["--set", option]);
    }
    Ok((command, socket))
}

/// Starts the floor server with so many threads.
pub fn floor(threads: u8) -> Result<Running> {
    let place = place()?;
    let socket = place.path().join("control");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--threads", &threads.to_string()]);
    command.arg(&socket);
    Running::start(command, place, socket)
}

enum Program {
    Onionbus(PathBuf),
    Floor(u8),
}

/// One publisher and its subscribers. The numbers of the messages are known: a fresh server begins
/// with 1.
pub struct Speaker {
    program: Program,
    number: u64,
}

impl Speaker {
    pub fn onionbus(program: &Path) -> Self {
        Self {
            program: Program::Onionbus(program.into()),
            number: 0,
        }
    }

    pub fn floor(threads: u8) -> Self {
        Self {
            program: Program::Floor(threads),
            number: 0,
        }
    }
}

impl super::Speaker for Speaker {
    fn start(&self) -> Result<Running> {
        match &self.program {
            Program::Onionbus(program) => onionbus(program, &[]),
            Program::Floor(threads) => floor(*threads),
        }
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"SETEVENTS POSTMESSAGE\r\n", b"250 OK\r\n")?;
        Ok(stream)
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"CONTROLLERNAME pub\r\n", b"250 OK\r\n")?;
        Ok(stream)
    }

    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        self.number += 1;
        post.extend_from_slice(b"POSTMESSAGE @all ");
        post.extend_from_slice(text);
        post.extend_from_slice(b"\r\n");
        reply.extend_from_slice(b"250 OK\r\n");
        // Writing to a vector cannot fail.
        let _ = write!(delivery, "650 POSTMESSAGE {} pub @all ", self.number);
        delivery.extend_from_slice(text);
        delivery.extend_from_slice(b"\r\n");
    }
}
