//! Redis: PUBLISH and SUBSCRIBE.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Running, Speaker, ask, connect};
use crate::process::{find, place};

/// Redis as it is, but for the limit at which it cuts slow subscribers off. It tells the publisher
/// how many there are.
#[derive(Default)]
pub struct Redis {
    subscribers: usize,
}

impl Speaker for Redis {
    fn start(&self) -> Result<Running> {
        let place = place()?;
        let socket = place.path().join("redis");
        let mut command = Command::new(find("redis-server")?);
        command.args(["--port", "0", "--save", "", "--maxclients", "15000"]);
        command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
        command.arg("--unixsocket").arg(&socket);
        Running::start(command, place, socket)
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n";
        ask(
            &mut stream,
            b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nb\r\n",
            subscribed,
        )?;
        self.subscribers += 1;
        Ok(stream)
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")?;
        Ok(stream)
    }

    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        // Writing to a vector cannot fail.
        let _ = write!(
            post,
            "*3\r\n$7\r\nPUBLISH\r\n$1\r\nb\r\n${}\r\n",
            text.len()
        );
        post.extend_from_slice(text);
        post.extend_from_slice(b"\r\n");
        let _ = write!(
            delivery,
            "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n${}\r\n",
            text.len()
        );
        delivery.extend_from_slice(text);
        delivery.extend_from_slice(b"\r\n");
        let _ = write!(reply, ":{}\r\n", self.subscribers);
    }
}
