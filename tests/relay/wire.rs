//! A connection as octets: nothing is taken for granted about what comes, or whether it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::PATIENCE;

/// A keyword that neither Tor nor the bus has.
const FENCE: &str = "NEITHERTORNORBUS";

/// One end of a connection, with all that has come so far.
pub struct Wire {
    stream: UnixStream,
    /// What is being done, for whoever reads a failure.
    pub about: String,
    pub received: Vec<u8>,
    /// How much of it was waited for.
    waited: usize,
    pub ended: bool,
}

impl Wire {
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        let stream = UnixStream::connect(path);
        let stream = stream.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).expect("a time that is not zero");
        }
        Self {
            stream,
            about: String::new(),
            received: Vec::new(),
            waited: 0,
            ended: false,
        }
    }

    /// Sends octets; `false` if the other end does not take them any more.
    pub fn send(&mut self, octets: &[u8]) -> bool {
        match self.stream.write_all(octets) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                panic!("{}: it does not read: {error}", self.about)
            }
            Err(_) => false,
        }
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        // It fails if the other end has closed, which the next read says too.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads once, as much as there is.
    #[track_caller]
    fn read(&mut self) {
        let mut buffer = [0; 1 << 14];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            // What the other end had not read when it closed the connection resets it.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{}: {error}, after {}", self.about, tail(&self.received)),
        }
    }

    /// Reads until `octets` come, behind what was waited for before, or the connection ends.
    /// Returns whether they came.
    #[track_caller]
    pub fn until(&mut self, octets: &[u8]) -> bool {
        let mut from = self.waited;
        loop {
            if let Some(found) = memchr::memmem::find(&self.received[from..], octets) {
                self.waited = from + found + octets.len();
                return true;
            }
            if self.ended {
                return false;
            }
            from = self.received.len().saturating_sub(octets.len()).max(from);
            self.read();
        }
    }

    /// Sends an unknown keyword and reads until the answer to it, which is not kept.
    #[track_caller]
    pub fn fence(&mut self) -> bool {
        self.send(format!("{FENCE}\r\n").as_bytes());
        self.until_fence()
    }

    /// As [`fence`](Self::fence) behind these octets, to one that may take them only as its replies
    /// are read.
    #[track_caller]
    pub fn fence_behind(&mut self, octets: &[u8]) -> bool {
        let mut writer = self.stream.try_clone().expect("a descriptor");
        let octets = [octets, FENCE.as_bytes(), b"\r\n"].concat();
        // If it fails, the answer does not come either.
        let writer = thread::spawn(move || writer.write_all(&octets).is_ok());
        let came = self.until_fence();
        writer.join().expect("no panic") && came
    }

    #[track_caller]
    fn until_fence(&mut self) -> bool {
        let answer = format!("510 Unrecognized command \"{FENCE}\"\r\n");
        let came = self.until(answer.as_bytes());
        if came {
            let begun = self.waited - answer.len();
            self.received.drain(begun..self.waited);
            self.waited = begun;
        }
        came
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn until_closed(&mut self) {
        while !self.ended {
            self.read();
        }
    }

    /// What has come since the last call of this.
    pub fn take(&mut self) -> Vec<u8> {
        self.waited = 0;
        std::mem::take(&mut self.received)
    }

    /// Sends a command and returns the next line that comes, without its CRLF.
    #[track_caller]
    pub fn first_line(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.line()
    }

    /// The next line that was not waited for, without its CRLF.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let begun = self.waited;
        assert!(self.until(b"\r\n"), "no line: {}", tail(&self.received));
        let line = &self.received[begun..self.waited - 2];
        String::from_utf8(line.to_vec()).expect("the tests send ASCII")
    }

    /// Sends a command and returns all that comes up to a fence behind it.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        assert!(self.fence(), "{command}: {}", tail(&self.received));
        String::from_utf8(self.take()).expect("the tests send ASCII")
    }
}

/// Sets a flag when it goes, in a failure too: threads that look at it would run for ever.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The end of what came, for a panic.
pub fn tail(octets: &[u8]) -> String {
    let from = octets.len().saturating_sub(500);
    octets[from..].escape_ascii().to_string()
}
