//! A controller as a test has it: it sends, and waits for what must come.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{PATIENCE, frame};

/// One end of a connection to the daemon.
pub struct Controller(BufReader<UnixStream>);

impl Controller {
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        Self::try_at(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn try_at(path: &Path) -> io::Result<Self> {
        Self::over(UnixStream::connect(path)?)
    }

    /// Over a stream that leads to a daemon, whoever has connected it.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn stream(&self) -> &UnixStream {
        self.0.get_ref()
    }

    #[track_caller]
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let sent = self.0.get_mut().write_all(octets.as_ref());
        sent.unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// The next line, without its CRLF.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.0.read_until(b'\n', &mut line);
        let read = read.unwrap_or_else(|error| panic!("no line: {error}"));
        assert!(read > 0, "the connection has ended");
        let line = line.strip_suffix(b"\r\n").expect("every line ends in CRLF");
        String::from_utf8(line.to_vec()).expect("the tests send ASCII")
    }

    /// The next reply or event, its lines joined by `\n`.
    #[track_caller]
    pub fn reply(&mut self) -> String {
        let mut lines = vec![self.line()];
        loop {
            let last = lines.last().expect("there is one").clone();
            match last.as_bytes().get(3) {
                Some(b'+') => loop {
                    lines.push(self.line());
                    if lines.last().is_some_and(|line| line == ".") {
                        break;
                    }
                },
                Some(b'-') => {}
                _ => return lines.join("\n"),
            }
            lines.push(self.line());
        }
    }

    /// Sends a command and returns its reply.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    /// Sends a command that succeeds.
    #[track_caller]
    pub fn ok(&mut self, command: &str) {
        let reply = self.ask(command);
        assert!(reply.ends_with("250 OK"), "{command}: {reply}");
    }

    /// Sends `GETINFO key` and returns the value of one line.
    #[track_caller]
    pub fn info(&mut self, key: &str) -> String {
        let reply = self.ask(&format!("GETINFO {key}"));
        let value = reply.strip_prefix(&format!("250-{key}="));
        let value = value.and_then(|value| value.strip_suffix("\n250 OK"));
        value.unwrap_or_else(|| panic!("{key}: {reply}")).to_owned()
    }

    /// Posts a message and returns the `MessageID` that an earlier subscriber is told.
    #[track_caller]
    pub fn next_message(&mut self) -> (u64, String) {
        let line = self.line();
        let rest = line.strip_prefix("650 POSTMESSAGE ");
        let (id, rest) = rest
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| {
                panic!("no message: {line}");
            });
        (
            id.parse().expect("a MessageID is a number"),
            rest.to_owned(),
        )
    }

    /// Sends one binary message.
    #[track_caller]
    pub fn send_frame(&mut self, kind: u16, body: &[u8]) {
        self.send(frame(kind, body));
    }

    /// The next binary message: its type and its body.
    #[track_caller]
    pub fn frame(&mut self) -> (u16, Vec<u8>) {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).expect("a frame's header");
        let [length @ .., a, b] = header;
        let mut body = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut body).expect("a frame's body");
        (u16::from_be_bytes([a, b]), body)
    }

    /// As many octets as `buffer` has.
    #[track_caller]
    pub fn read_exact(&mut self, buffer: &mut [u8]) {
        self.0.read_exact(buffer).expect("so many octets");
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        match self.0.read_to_end(&mut octets) {
            Ok(_) => {}
            // What the daemon had not read when it closed the connection resets it.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of the connection: {error}"),
        }
        octets
    }
}
