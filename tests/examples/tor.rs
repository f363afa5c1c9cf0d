//! The Tor in a conversation: it hears and says what the example shows, and a real one is asked
//! whether it says the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use onionbus::wire::text::Replies;

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
    /// Each line of a command, and the connection that it came over.
    heard: Receiver<(String, Arc<Asker>)>,
    /// The connection that the last command came over.
    asker: Option<Arc<Asker>>,
    /// Tells where the answer to it ends.
    ends: Replies,
    /// Where events go to.
    feed: Arc<Mutex<Option<UnixStream>>>,
}

/// A connection of the daemon.
struct Asker {
    stream: UnixStream,
    /// While the example has not answered a command: what is to be said behind its answer.
    behind: Mutex<Option<String>>,
}

impl Asker {
    fn says(&self, octets: &str) -> std::io::Result<()> {
        (&self.stream).write_all(octets.as_bytes())
    }
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
                let behind = Mutex::default();
                let asker = Arc::new(Asker { stream, behind });
                thread::spawn(move || converse(&asker, &sender, &events));
            }
        });
        Self {
            heard,
            asker: None,
            ends: Replies::default(),
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
    pub fn says(&mut self, line: &str, at: &str) {
        let octets = format!("{line}\r\n");
        if line.starts_with("650") {
            let feed = self.feed.lock().expect("no panic");
            let mut feed = feed.as_ref().unwrap_or_else(|| panic!("{at}: to whom?"));
            return feed.write_all(octets.as_bytes()).expect("the daemon reads");
        }
        let asker = self.asker.as_ref();
        let asker = asker.unwrap_or_else(|| panic!("{at}: to whom?"));
        let mut behind = asker.behind.lock().expect("no panic");
        asker.says(&octets).expect("the daemon reads");
        if self.ends.take(octets.as_bytes()) > 0 {
            let octets = behind.take().unwrap_or_default();
            asker.says(&octets).expect("the daemon reads");
        }
    }

    /// Everything that the daemon has sent is in the example.
    pub fn nothing_more(&self, at: &str) {
        let more = self.heard.try_recv().map(|(line, _)| line);
        assert!(more.is_err(), "{at}: Tor was sent more: {more:?}");
    }
}

/// Answers what every connection of the daemon says by itself, and passes the rest on.
fn converse(
    asker: &Arc<Asker>,
    heard: &Sender<(String, Arc<Asker>)>,
    feed: &Mutex<Option<UnixStream>>,
) {
    let again = || asker.stream.try_clone().expect("a descriptor");
    let mut lines = BufReader::new(again()).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = match line.split(' ').next().unwrap_or_default() {
            "GETINFO" if line == "GETINFO bus/chain" => "552 Unrecognized key \"bus/chain\"",
            "PROTOCOLINFO" => {
                "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
                 250-VERSION Tor=\"0.4.9.11\"\r\n250 OK"
            }
            "AUTHENTICATE" => "250 OK",
            "SETEVENTS" => {
                *feed.lock().expect("no panic") = Some(again());
                "250 OK"
            }
            fence if fence.starts_with("ONIONBUS_FENCE_") => {
                &format!("510 Unrecognized command \"{fence}\"")
            }
            _ => {
                asker
                    .behind
                    .lock()
                    .expect("no panic")
                    .get_or_insert_default();
                // Nobody listens once the example has ended.
                let _ = heard.send((line, Arc::clone(asker)));
                continue;
            }
        };
        let answer = format!("{answer}\r\n");
        match &mut *asker.behind.lock().expect("no panic") {
            Some(behind) => behind.push_str(&answer),
            // The daemon may be gone already.
            None => drop(asker.says(&answer)),
        }
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
