//! Users who make the daemon keep all that it can: it stays within its bound, and another user
//! notices nothing.
//!
//! The only test here, because the user that connects is that of the whole process.

mod support;

use std::io::Write as _;
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

    fn leave_events(&self) -> Vec<Controller> {
        let mut controllers = self.many(250);
        for controller in &mut controllers {
            controller.ok("SETEVENTS POSTMESSAGE");
        }
        controllers
    }
}

#[test]
fn several_users_fill_everything_and_another_notices_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::open_to_all();
    let socket = format!("BusSocket {} Mode=0666", place.socket().display());
    let daemon = place.configured(&format!("{socket}\n")).ready();
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
    let text = "x".repeat(LONG);
    for number in 0..MESSAGES {
        poster.ok(&format!("POSTMESSAGE @all {text}"));
        poster.ok(&format!("POSTMESSAGE @reader {number}"));
        assert!(poster.info("version").contains("onionbus"));
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
