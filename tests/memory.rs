//! Everything that one controller can make the daemon keep, by many at once, and to the limit: it
//! takes no more memory than onionbus(8) says.

mod support;

use support::{Controller, Place};

/// How many do all of it.
const GREEDY: u64 = 40;

/// `BusMaxQueue`, in octets.
const QUEUE: u64 = 1 << 20;

/// The longest command, in octets.
const COMMAND: u64 = 1 << 20;

/// `BusMaxMessageLength`, in octets.
const MESSAGE: u64 = 32 << 10;

/// Messages to a name that are kept for its holder.
const MAIL: u64 = 10;

/// `BusHistory`.
const HISTORY: u64 = 50;

#[test]
fn it_is_no_more_than_the_options_allow() {
    let place = Place::new();
    let daemon = place
        .serve()
        .set(&format!("BusMaxQueue {QUEUE}"))
        .set(&format!("BusMaxMessageLength {MESSAGE}"))
        .set(&format!("BusHistory {HISTORY}"))
        .ready();
    let mut poster = daemon.connect();
    let mut greedy: Vec<Controller> = (0..GREEDY)
        .map(|number| daemon.named(&format!("greedy{number}")))
        .collect();
    let before = daemon.memory() * 1024;

    // Mail to their names, and the history.
    let text = "x".repeat(usize::try_from(MESSAGE).expect("it is small"));
    for number in 0..GREEDY {
        for _ in 0..MAIL {
            poster.ok(&format!("POSTMESSAGE @greedy{number} {text}"));
        }
    }
    for _ in 0..HISTORY {
        poster.ok(&format!("POSTMESSAGE @all {text}"));
    }
    // The beginning of a command.
    let command = vec![b'x'; usize::try_from(COMMAND).expect("it is small") - 1];
    for controller in &mut greedy {
        controller.ok("SETEVENTS CONTROLLER");
        controller.send(&command);
    }
    // Events that they do not read, until one is cut off that has not read its replies either: more
    // than the kernel takes, so that it is well ahead of the others.
    let mut first = daemon.named("first");
    first.ok("SETEVENTS CONTROLLER");
    first.send("GETINFO info/names\r\n".repeat(250));
    while !daemon.log().contains("named first, was dropped") {
        let names = ["a", "b"].map(|end| format!("CONTROLLERNAME {end:_>60}\r\n"));
        poster.send(names.concat().repeat(25));
        for _ in 0..50 {
            assert_eq!(poster.reply(), "250 OK");
        }
    }

    let held = daemon.memory() * 1024 - before;
    let each = QUEUE + COMMAND + MAIL * MESSAGE;
    let most = GREEDY * each + HISTORY * MESSAGE;
    // It was really filled, and nobody else was cut off.
    assert!(held > most / 4 * 3, "{held} of {most} octets");
    let names = daemon.connect().ask("GETINFO list-controllers");
    assert_eq!(names.matches("greedy").count() as u64, GREEDY);
    // What the allocator needs, and what is on its way.
    let beside = most / 20 + (4 << 20);
    assert!(held < most + beside, "{held} octets, more than {most}");
}
