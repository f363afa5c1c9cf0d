//! Users who make the daemon keep all that it can: it stays within its bound, and another user
//! notices nothing.
//!
//! The only test here, because the user that connects is that of the whole process.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use nix::unistd::{Uid, seteuid};

use support::{Controller, Place, is_root};

/// The first of the users.
const USER: u32 = 64_400;

/// `BusMaxMemory`, and the most besides, in KiB.
const MOST: u64 = (256 + 64) * 1024;

/// Messages of [`LONG`] octets to all.
const MESSAGES: usize = 172;

const LONG: usize = 65_000;

/// Less than half of `BusMaxQueue`.
const ANSWER: usize = 7_000_000;

struct User<'a> {
    place: &'a Place,
    uid: u32,
}

impl User<'_> {
    fn connect(&self) -> Controller {
        seteuid(Uid::from_raw(self.uid)).expect("root may");
        let controller = Controller::try_at(&self.place.socket());
        seteuid(Uid::from_raw(0)).expect("root may");
        controller.expect("everybody may connect")
    }

    fn many(&self, count: usize) -> Vec<Controller> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// Begins commands and does not end them. Whoever is cut off cannot go on.
    fn begin_commands(&self) -> Vec<Controller> {
        let command = vec![b'x'; (1 << 20) - 1];
        let controllers = self.many(180);
        for controller in &controllers {
            let _ = (&mut controller.stream()).write_all(&command);
        }
        controllers
    }

    /// Posts to names whose holders read nothing.
    fn fill_mail(&self) -> Vec<Controller> {
        let mut poster = self.connect();
        let text = "x".repeat(LONG);
        let mut holders = self.many(120);
        for (number, holder) in holders.iter_mut().enumerate() {
            holder.ok(&format!("CONTROLLERNAME holder{number}"));
            for _ in 0..10 {
                poster.ok(&format!("POSTMESSAGE @holder{number} {text}"));
            }
        }
        holders.push(poster);
        holders
    }

    /// Asks, and reads no replies.
    fn leave_replies(&self) -> Vec<Controller> {
        let controllers = self.many(150);
        let questions = "GETINFO info/names config/names\r\n".repeat(2000);
        for controller in &controllers {
            let _ = (&mut controller.stream()).write_all(questions.as_bytes());
        }
        controllers
    }

    /// Asks bus and Tor together, which does not end its answer.
    fn begin_answers(&self) -> Vec<Controller> {
        let mut controllers = self.many(30);
        for controller in &mut controllers {
            controller.send("GETINFO info/names long\r\n");
        }
        controllers
    }

    fn leave_events(&self) -> Vec<Controller> {
        let mut controllers = self.many(250);
        for controller in &mut controllers {
            controller.ok("SETEVENTS POSTMESSAGE");
        }
        controllers
    }
}

/// Plays a Tor that answers `GETINFO long` with [`ANSWER`] octets and no end.
fn answers(stream: UnixStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let answer = match line.trim_end() {
            "PROTOCOLINFO 1" => "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
                 250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
                .into(),
            "GETINFO info/names long" => format!("250-{}\r\n", "x".repeat(ANSWER)),
            fence if fence.starts_with("ONIONBUS_FENCE_") => {
                format!("510 Unrecognized command \"{fence}\"\r\n")
            }
            _ => "250 OK\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

#[test]
fn several_users_fill_everything_and_another_notices_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::open_to_all();
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // It ends with the daemon.
            thread::spawn(|| answers(stream.expect("a connection")));
        }
    });
    let socket = format!("BusSocket {} Mode=0666", place.socket().display());
    let tor = format!("BusTor unix:{}", place.path("tor").display());
    let daemon = place.configured(&format!("{socket}\n{tor}\n")).ready();
    let user = |number: u32| User {
        place: &place,
        uid: USER + number,
    };
    let good = user(0);
    let mut reader = good.connect();
    reader.ok("CONTROLLERNAME reader");
    reader.ok("SETEVENTS POSTMESSAGE");
    let mut poster = good.connect();
    let reads = thread::spawn(move || {
        let mut lengths = Vec::new();
        loop {
            let (_, message) = reader.next_message();
            if message.ends_with(" end") {
                return lengths;
            }
            lengths.push(message.len());
        }
    });
    let mut held = user(1).begin_commands();
    held.extend(user(2).leave_events());
    held.extend(user(3).fill_mail());
    held.extend(user(4).leave_replies());
    held.extend(user(5).begin_answers());
    let text = "x".repeat(LONG);
    for number in 0..MESSAGES {
        poster.ok(&format!("POSTMESSAGE @all {text}"));
        poster.ok(&format!("POSTMESSAGE @reader {number}"));
        assert_eq!(poster.ask("GETCONF BusHistory"), "250 BusHistory=100");
    }
    poster.ok("POSTMESSAGE @reader end");
    let lengths = reads.join().expect("it has read everything");
    let (long, short): (Vec<usize>, Vec<usize>) =
        lengths.iter().partition(|&&length| length > LONG);
    assert_eq!((long.len(), short.len()), (MESSAGES, MESSAGES));
    drop(held);
    let said = daemon.log();
    for bound in ["BusMaxMemoryPerUser", "BusMaxMemory "] {
        assert!(said.contains(bound), "nobody has exceeded {bound}");
    }
    assert!(!said.contains(&format!("(uid {USER},")), "{said}");
    let peak = daemon.peak();
    assert!((MOST / 4 * 3..MOST).contains(&peak), "{peak} KiB");
}
