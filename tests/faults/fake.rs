//! A Tor that is played: it answers as a test wants, or not at all.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::PATIENCE;

/// A socket where somebody answers; connections are numbered from 0.
pub struct Fake {
    commands: Receiver<(usize, String)>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl Fake {
    /// Listens at `path`, in the place of whatever is there. `answer` gets each connection's number
    /// and command: `None` is the answer of [`usual`], an empty one is silence.
    #[track_caller]
    pub fn at<A>(path: &Path, answer: A) -> Self
    where
        A: Fn(usize, &str) -> Option<String> + Send + Sync + 'static,
    {
        // Renamed, since whoever waits for the file must be able to connect when it is there.
        let new = path.with_extension("new");
        let listener = UnixListener::bind(&new).expect("a socket");
        fs::rename(&new, path).expect("it is ours");
        let (sender, commands) = channel();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&streams);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let stream = stream.expect("a connection");
                let copy = stream.try_clone().expect("a descriptor");
                all.lock().expect("no panic").push(copy);
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                thread::spawn(move || play(number, stream, &*answer, &sender));
            }
        });
        Self { commands, streams }
    }

    /// Waits for a command that begins with `start`, and returns the number of its connection.
    #[track_caller]
    pub fn hears(&self, start: &str) -> usize {
        loop {
            let heard = self.commands.recv_timeout(PATIENCE);
            let (number, command) = heard.unwrap_or_else(|error| panic!("no {start}: {error}"));
            if command.starts_with(start) {
                return number;
            }
        }
    }

    /// Says something that nobody asked for.
    #[track_caller]
    pub fn say(&self, connection: usize, octets: &[u8]) {
        let streams = self.streams.lock().expect("no panic");
        let said = (&streams[connection]).write_all(octets);
        said.expect("the daemon takes it");
    }
}

fn play(
    number: usize,
    stream: UnixStream,
    answer: &dyn Fn(usize, &str) -> Option<String>,
    commands: &Sender<(usize, String)>,
) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        let command = line.trim_end_matches(['\r', '\n']);
        let reply = answer(number, command).unwrap_or_else(|| usual(command));
        if stream.get_mut().write_all(reply.as_bytes()).is_err() {
            return;
        }
        // Nobody listens when the test has ended.
        let _ = commands.send((number, command.to_owned()));
        if command.eq_ignore_ascii_case("QUIT") {
            // The copy of it is still open.
            let _ = stream.get_mut().shutdown(Shutdown::Both);
        }
        line.clear();
    }
}

/// The answer of a Tor without a login.
pub fn usual(command: &str) -> String {
    let (keyword, arguments) = command.split_once(' ').unwrap_or((command, ""));
    match &*keyword.to_ascii_uppercase() {
        "PROTOCOLINFO" => "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
             250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
            .to_owned(),
        "GETINFO" => info(arguments),
        "QUIT" => "250 closing connection\r\n".to_owned(),
        "AUTHENTICATE" | "SETEVENTS" | "SETCONF" | "SIGNAL" => "250 OK\r\n".to_owned(),
        _ => format!("510 Unrecognized command \"{keyword}\"\r\n"),
    }
}

fn info(keys: &str) -> String {
    let mut reply = String::new();
    for key in keys.split_ascii_whitespace() {
        match key {
            "version" => reply += "250-version=0.4.9.11\r\n",
            "events/names" => reply += "250-events/names=CIRC BW SIGNAL CONF_CHANGED\r\n",
            _ => return format!("552 Unrecognized key \"{key}\"\r\n"),
        }
    }
    reply + "250 OK\r\n"
}
