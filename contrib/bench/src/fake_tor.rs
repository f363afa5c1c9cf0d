//! A Tor that gives replies of 10 MB, as one does in a large network for `GETINFO ns/all`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::peers::Running;
use crate::process::place;

/// How many octets all the routers that it knows take.
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
    for stream in UnixListener::bind(socket)?.incoming() {
        let stream = stream?;
        // A controller that goes away ends its thread.
        thread::spawn(move || converse(&stream));
    }
    Ok(())
}

/// Made anew for each reply, as Tor does it: what took no time to make could be relayed at no rate
/// that compares.
fn routers() -> Vec<u8> {
    let mut reply = b"250+ns/all=\r\n".to_vec();
    for number in 0_u64.. {
        if reply.len() > SIZE {
            break;
        }
        let [.., a, b, c] = number.to_be_bytes();
        // Writing to a vector cannot fail.
        let _ = write!(
            reply,
            "r router{number:06} {:027X} {:027X} 2038-01-19 03:14:07 10.{a}.{b}.{c} 9001 0\r\n\
             s Fast Running Stable Valid\r\nw Bandwidth={number}\r\n",
            number * 197,
            number * 2004
        );
    }
    reply.extend_from_slice(b".\r\n250 OK\r\n");
    reply
}

fn converse(stream: &UnixStream) -> std::io::Result<()> {
    let mut output = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let word = line.split(' ').next().unwrap_or_default();
        match word {
            "GETINFO" if line.ends_with("ns/all") => output.write_all(&routers())?,
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
