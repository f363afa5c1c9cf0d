//! The Tor in a conversation: it hears and says what the example shows, and a real one is asked
//! whether it says the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::document::Example;
use crate::real_tor::{Home, has_tor};
use crate::support::PATIENCE;
use crate::transcript::split;

/// An example with this note shows what no Tor without a network says.
const OF_A_NETWORK: &str = "of a Tor with a network";

/// What the name of the Tor is in the examples.
pub const NAME: &str = "Tor";

/// A Tor that says what it is told to.
pub struct Played {
    /// Each line of a command, and where its answer goes to.
    heard: Receiver<(String, UnixStream)>,
    /// Where the last command came from.
    asker: Option<UnixStream>,
    /// Where events go to.
    feed: Arc<Mutex<Option<UnixStream>>>,
}

impl Played {
    /// Takes connections at this path.
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let (sender, heard) = mpsc::channel();
        let feed = Arc::new(Mutex::new(None));
        let events = Arc::clone(&feed);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, events) = (sender.clone(), Arc::clone(&events));
                thread::spawn(move || converse(&stream, &sender, &events));
            }
        });
        Self {
            heard,
            asker: None,
            feed,
        }
    }

    /// The daemon sends this line.
    pub fn hears(&mut self, expected: &str, at: &str) {
        let heard = self.heard.recv_timeout(PATIENCE);
        let (line, asker) = heard.unwrap_or_else(|error| panic!("{at}: {error}, but: {expected}"));
        assert_eq!(line, expected, "{at}");
        self.asker = Some(asker);
    }

    /// Tor answers with this line, or sends this event.
    pub fn says(&self, line: &str, at: &str) {
        let feed = self.feed.lock().expect("no panic");
        let stream = if line.starts_with("650") {
            &feed
        } else {
            &self.asker
        };
        let mut stream = stream.as_ref().unwrap_or_else(|| panic!("{at}: to whom?"));
        write!(stream, "{line}\r\n").expect("the daemon reads");
    }

    /// Everything that the daemon has sent is in the example.
    pub fn nothing_more(&self, at: &str) {
        let more = self.heard.try_recv().map(|(line, _)| line);
        assert!(more.is_err(), "{at}: Tor was sent more: {more:?}");
    }
}

/// Answers what every connection of the daemon says by itself, and passes the rest on.
fn converse(
    mut stream: &UnixStream,
    heard: &Sender<(String, UnixStream)>,
    feed: &Mutex<Option<UnixStream>>,
) {
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = match line.split(' ').next().unwrap_or_default() {
            "PROTOCOLINFO" => {
                "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
                 250-VERSION Tor=\"0.4.9.11\"\r\n250 OK"
            }
            "AUTHENTICATE" => "250 OK",
            "SETEVENTS" => {
                let again = stream.try_clone().expect("a descriptor");
                *feed.lock().expect("no panic") = Some(again);
                "250 OK"
            }
            fence if fence.starts_with("ONIONBUS_FENCE_") => {
                &format!("510 Unrecognized command \"{fence}\"")
            }
            _ => {
                let answers = stream.try_clone().expect("a descriptor");
                // Nobody listens once the example has ended.
                let _ = heard.send((line, answers));
                continue;
            }
        };
        // The daemon may be gone already.
        let _ = write!(stream, "{answer}\r\n");
    }
}

/// Asks a real Tor the same, and wants the same answers.
pub fn compare(example: &Example) {
    let said: Vec<_> = example
        .lines
        .iter()
        .filter_map(|line| split(line))
        .collect();
    let said: Vec<_> = said.iter().filter(|line| line.0 == NAME).collect();
    if said.is_empty() || example.note(OF_A_NETWORK).is_some() || !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let stream = UnixStream::connect(home.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    let mut answer = || lines.next().expect("it answers").expect("in time");
    write!(&stream, "AUTHENTICATE\r\n").expect("it reads");
    assert_eq!(answer(), "250 OK");
    for (_, side, line) in said {
        if *side == 'C' {
            write!(&stream, "{line}\r\n").expect("it reads");
        } else {
            assert_eq!(answer(), *line, "{}", example.place);
        }
    }
}
