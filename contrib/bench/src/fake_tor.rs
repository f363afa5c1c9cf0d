//! A Tor that gives replies of 10 MB, as one does in a large network for `GETINFO ns/all`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::peers::Running;
use crate::process::place;

/// How many octets of routers it knows.
const SIZE: usize = 10_000_000;

/// Starts it as a process of its own.
pub fn start() -> Result<Running> {
    let place = place()?;
    let socket = place.path().join("control");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("fake-tor").arg(&socket);
    Running::start(command, place, socket)
}

/// Serves on `socket`, one thread for each connection, until it is killed.
pub fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let routers = b"r router1 AAAAAAAAAAAAAAAAAAAAAAAAAAA 2038-01-01 00:00:00 127.0.0.1 9001 0\r\n";
    let mut reply = b"250+ns/all=\r\n".to_vec();
    while reply.len() < SIZE {
        reply.extend_from_slice(routers);
    }
    reply.extend_from_slice(b".\r\n250 OK\r\n");
    let reply: &'static [u8] = reply.leak();
    for stream in listener.incoming() {
        let stream = stream?;
        // A controller that goes away ends its thread.
        thread::spawn(move || converse(&stream, reply));
    }
    Ok(())
}

fn converse(stream: &UnixStream, large: &[u8]) -> std::io::Result<()> {
    let mut output = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let word = line.split(' ').next().unwrap_or_default();
        match word {
            "GETINFO" if line.ends_with("ns/all") => output.write_all(large)?,
            "GETINFO" if line.ends_with("version") => {
                output.write_all(b"250-version=0.4.9.0 (fake)\r\n250 OK\r\n")?;
            }
            "PROTOCOLINFO" => output.write_all(
                b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
                  250-VERSION Tor=\"0.4.9.0\"\r\n250 OK\r\n",
            )?,
            "AUTHENTICATE" | "SETEVENTS" | "USEFEATURE" => output.write_all(b"250 OK\r\n")?,
            "QUIT" => {
                output.write_all(b"250 closing connection\r\n")?;
                return output.shutdown(std::net::Shutdown::Both);
            }
            _ => write!(output, "510 Unrecognized command \"{word}\"\r\n")?,
        }
    }
    Ok(())
}
