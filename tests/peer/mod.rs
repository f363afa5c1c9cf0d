//! A daemon that says what it is told to, for tests of the client commands.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The time that a client may take to close.
const LONGEST: Duration = Duration::from_secs(30);

/// A socket, and the thread that plays a script to the first who connects.
pub struct Peer {
    directory: TempDir,
    player: JoinHandle<()>,
}

impl Peer {
    /// Plays `script` after a login that asks for nothing.
    pub fn new(script: impl FnOnce(&mut Conversation) + Send + 'static) -> Self {
        Self::before_login(|peer| {
            peer.hear("PROTOCOLINFO 1");
            peer.say("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n");
            peer.say("250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n");
            peer.hear("AUTHENTICATE");
            peer.say("250 OK\r\n");
            script(peer);
        })
    }

    /// Plays `script` from the first octet on.
    pub fn before_login(script: impl FnOnce(&mut Conversation) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("control")).expect("a socket");
        let player = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            script(&mut Conversation(BufReader::new(stream)));
        });
        Self { directory, player }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// The program, told to use this socket.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = onionbus(arguments);
        command.env("ONIONBUS_SOCKET", self.socket());
        command
    }

    /// Runs the program to its end, checks its exit code, and ends the script.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(self, arguments: &[A], code: i32) -> Ran {
        let output = self.command(arguments).output().expect("it starts");
        self.finish(output, code)
    }

    /// As [`Peer::run`] with `input` on standard input.
    #[track_caller]
    pub fn run_with<A: AsRef<OsStr>>(self, input: &[u8], arguments: &[A], code: i32) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // A program that stops reading early is for its exit code to judge.
        let writer = thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("it does not panic");
        self.finish(output, code)
    }

    /// Checks how the program ended, then that the script came to its end.
    #[track_caller]
    pub fn finish(self, output: Output, code: i32) -> Ran {
        let ran = Ran::new(output, code);
        self.end();
        ran
    }

    /// Checks that the script comes to its end.
    #[track_caller]
    pub fn end(self) {
        self.player.join().expect("the script holds");
    }
}

/// The program, in an environment that names no socket.
pub fn onionbus<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command.args(arguments).env_remove("ONIONBUS_SOCKET");
    command.stdin(Stdio::null());
    command
}

/// What the program printed.
pub struct Ran {
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn new(output: Output, code: i32) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "standard error: {err}");
        let out = output.stdout;
        Self { out, err }
    }

    /// Checks that standard output is `expected`, and that nothing else was said.
    #[track_caller]
    pub fn printed(&self, expected: &[u8]) {
        let (out, expected) = (self.out.escape_ascii(), expected.escape_ascii());
        assert_eq!(out.to_string(), expected.to_string());
        assert_eq!(self.err, "");
    }

    /// Checks that standard error has this text in it, and nothing was printed.
    #[track_caller]
    pub fn complained(&self, text: &str) {
        assert!(self.err.contains(text), "{:?} lacks {text:?}", self.err);
        assert_eq!(self.out, b"");
    }
}

/// The daemon's end of a connection.
pub struct Conversation(BufReader<UnixStream>);

impl Conversation {
    /// Waits for this very line.
    #[track_caller]
    pub fn hear(&mut self, expected: impl AsRef<[u8]>) {
        let line = self.line().expect("the client is there");
        let expected = expected.as_ref().escape_ascii().to_string();
        assert_eq!(line.escape_ascii().to_string(), expected);
    }

    /// The next line without its CRLF, or `None` when the client is gone.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("it can be read");
        if line.is_empty() {
            return None;
        }
        let content = line.strip_suffix(b"\r\n").expect("lines end with CRLF");
        Some(content.to_vec())
    }

    /// Sends octets as they are.
    pub fn say(&mut self, octets: impl AsRef<[u8]>) {
        let sent = self.0.get_ref().write_all(octets.as_ref());
        sent.expect("the client takes it");
    }

    /// Whether the client waits: nothing more of it has come by now.
    pub fn is_idle(&mut self) -> bool {
        if !self.0.buffer().is_empty() {
            return false;
        }
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).expect("a socket");
        let idle = matches!(self.0.fill_buf(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        let stream = self.0.get_ref();
        stream.set_nonblocking(false).expect("a socket");
        idle
    }

    /// Says the same again and again until the client closes: what another test starts at this moment
    /// may hold the other end of the client's pipe a little longer, and so one write to that may fail
    /// to fail.
    pub fn say_until_closed(&mut self, octets: impl AsRef<[u8]>) {
        let begun = Instant::now();
        let pause = Some(Duration::from_millis(20));
        let paused = self.0.get_ref().set_read_timeout(pause);
        paused.expect("a socket");
        while self.0.get_ref().write_all(octets.as_ref()).is_ok() {
            assert!(begun.elapsed() < LONGEST, "the client does not close");
            match self.0.fill_buf() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Waits until the client closes, and takes no notice of what it says.
    pub fn until_closed(&mut self) {
        let mut rest = Vec::new();
        // An error says the same as an end: it has closed.
        let _ = self.0.read_to_end(&mut rest);
    }
}
