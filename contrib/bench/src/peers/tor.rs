//! Tor without a network, and socat in front of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Running, Speaker, ask, connect};
use crate::process::{find, place};

/// Starts a Tor with a control socket and no login.
pub fn tor() -> Result<Running> {
    let program = find("tor")?;
    let place = place()?;
    let path = place.path().display();
    let torrc = format!(
        "DataDirectory {path}/data\nControlSocket unix:{path}/control\nSocksPort 0\n\
         DisableNetwork 1\nLog warn stdout\n__OwningControllerProcess {}\n",
        std::process::id()
    );
    fs::write(place.path().join("torrc"), torrc)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(place.path().join("torrc"));
    command
        .arg("--defaults-torrc")
        .arg(place.path().join("none"));
    let socket = place.path().join("control");
    Running::start(command, place, socket)
}

/// A Tor whose `GETINFO address-mappings/all` has 10 MB.
pub fn tor_with_addresses() -> Result<Running> {
    const ADDRESSES: usize = 100_000;
    let running = tor()?;
    let mut stream = connect(&running.socket)?;
    ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
    let numbers: Vec<_> = (0..ADDRESSES).collect();
    for numbers in numbers.chunks(100) {
        let addresses = numbers.iter().map(|number| {
            let (from, to) = (format!("from{number:06}"), format!("to{number:06}"));
            format!(
                "{from}.a-rather-long-name.example.com={to}.another-rather-long-name.example.net"
            )
        });
        let addresses: Vec<_> = addresses.collect();
        let last = addresses.len() - 1;
        let lines = addresses.iter().enumerate().map(|(index, address)| {
            let divider = if index == last { ' ' } else { '-' };
            format!("250{divider}{address}\r\n")
        });
        let reply: String = lines.collect();
        let command = format!("MAPADDRESS {}\r\n", addresses.join(" "));
        ask(&mut stream, command.as_bytes(), reply.as_bytes())?;
    }
    Ok(running)
}

/// Starts a socat before the Tor at `behind`.
pub fn socat(behind: &Path) -> Result<Running> {
    let place = place()?;
    let socket = place.path().join("socat");
    let mut command = Command::new(find("socat")?);
    command.arg(format!(
        "UNIX-LISTEN:{},fork,backlog=1024",
        socket.display()
    ));
    command.arg(format!("UNIX-CONNECT:{}", behind.display()));
    Running::start(command, place, socket)
}

/// Each MAPADDRESS makes an ADDRMAP event, which costs Tor less than any other that one can make
/// on demand.
pub struct Events;

impl Speaker for Events {
    fn start(&self) -> Result<Running> {
        tor()
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
        ask(&mut stream, b"SETEVENTS ADDRMAP\r\n", b"250 OK\r\n")?;
        Ok(stream)
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
        Ok(stream)
    }

    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        for (octets, parts) in [
            (post, [&b"MAPADDRESS a.b="[..], text, b"\r\n"]),
            (reply, [b"250 a.b=", text, b"\r\n"]),
            (
                delivery,
                [b"650 ADDRMAP a.b ", text, b" NEVER CACHED=\"YES\"\r\n"],
            ),
        ] {
            octets.extend(parts.concat());
        }
    }
}
