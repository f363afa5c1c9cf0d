//! What controllers do that nobody should, and what the system refuses: the daemon lives on, and
//! nobody else notices.

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use onionbus::wire::binary::{Fragments, Gathered, kind};
use support::{Controller, Daemon, PATIENCE, Place, eventually, frame};

/// A command with a reply much longer than itself.
const LONG: &str = "GETINFO info/names\r\n";

#[test]
fn what_was_asked_before_the_end_is_answered_to_the_last_octet() {
    let place = Place::new();
    let daemon = place.daemon();
    let keys = " config/names".repeat(5000);
    for farewell in ["QUIT\r\n", ""] {
        let mut controller = daemon.connect();
        // More than the kernel takes at once: the daemon has to wait for its reader.
        controller.send(format!("GETINFO{keys}\r\n{farewell}"));
        let half = controller.stream().shutdown(Shutdown::Write);
        half.expect("it is connected");
        daemon.connect().ok("GETINFO version");
        let read = String::from_utf8(controller.rest()).expect("ASCII");
        assert!(read.contains("\r\n250 OK\r\n"), "{} octets", read.len());
        assert_eq!(
            read.ends_with("250 closing connection\r\n"),
            !farewell.is_empty()
        );
    }
}

/// What a controller's last commands caused is for itself too, in whichever thread it is sent.
#[test]
fn what_happened_before_the_end_is_told_before_it() {
    let place = Place::new();
    let daemon = place.daemon();
    for id in 1..=100 {
        let mut controller = daemon.connect();
        controller.ok("SETEVENTS POSTMESSAGE");
        controller.send("POSTMESSAGE @all bye\r\nQUIT\r\n");
        let read = String::from_utf8(controller.rest()).expect("ASCII");
        let posted = format!("650 POSTMESSAGE {id} unset @all bye\r\n");
        assert_eq!(
            read,
            format!("250 OK\r\n250 closing connection\r\n{posted}")
        );
    }
}

/// Its replies take the way of its events, which the other thread sends.
#[test]
fn a_subscriber_that_asks_for_much_at_once_gets_it() {
    let place = Place::new();
    let daemon = place.serve().set("BusMaxQueue 1 MB").ready();
    let mut poster = daemon.connect();
    for _ in 0..8 {
        poster.ok(&format!("POSTMESSAGE @all {}", "x".repeat(40_000)));
    }
    let mut subscriber = daemon.connect();
    let count = 50;
    let questions = "GETINFO recent-messages\r\n".repeat(count);
    subscriber.send(format!("SETEVENTS POSTMESSAGE\r\n{questions}"));
    assert_eq!(subscriber.reply(), "250 OK");
    for _ in 0..count {
        assert!(subscriber.reply().len() > 8 * 40_000);
    }
}

#[test]
fn asking_faster_than_reading_costs_no_memory() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut reader = daemon.connect();
    let mut other = daemon.connect();
    let mut writer = reader.stream().try_clone().expect("a descriptor");
    let before = daemon.memory();
    thread::scope(|scope| {
        scope.spawn(|| {
            let flood = LONG.repeat(5000);
            while writer.write_all(flood.as_bytes()).is_ok() {}
        });
        let mut buffer = vec![0; 256 << 10];
        for _ in 0..500 {
            reader.read_exact(&mut buffer);
            // Meanwhile the daemon has made as many replies as it wants to.
            for _ in 0..10 {
                other.ok("GETINFO version");
            }
        }
        let grown = daemon.memory().saturating_sub(before);
        // Wakes the writer, whose words nobody takes any more.
        let _ = reader.stream().shutdown(Shutdown::Both);
        assert!(grown < 8 * 1024, "{grown} KiB more");
    });
    daemon.connect().ok("GETINFO version");
}

/// Octets that look random and are the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // An xorshift generator: its state is never 0.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn octets(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[test]
fn random_octets_and_sudden_ends_hurt_nobody() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut other = daemon.connect();
    other.ok("SETEVENTS POSTMESSAGE");
    let mut noise = Noise(197);
    for round in 0..400 {
        let mut controller = daemon.connect();
        let length = noise.next() % 3000;
        let mut octets = noise.octets(usize::try_from(length).expect("it is small"));
        match round % 4 {
            // Whatever comes first decides, then a frame that claims more than there is.
            0 => {}
            1 => octets
                .splice(..0, *b"\0\0\0\x07\xff\xff\xf0\x01")
                .for_each(drop),
            2 => octets
                .splice(..0, *b"SETEVENTS BW CONTROLLER\r\n+LOADCONF\r\n")
                .for_each(drop),
            _ => octets.iter_mut().for_each(|octet| *octet &= 0x7f),
        }
        // The daemon may have closed it by now.
        let _ = controller.stream().write_all(&octets);
        if round % 3 == 0 {
            let _ = controller.stream().shutdown(Shutdown::Write);
            controller.rest();
        }
    }
    other.ok("POSTMESSAGE @all x");
    other.next_message();
    daemon.stop();
}

#[test]
fn a_connection_may_end_within_any_octet() {
    let place = Place::new();
    let daemon = place.daemon();
    let text = b"AUTHENTICATE\r\nCONTROLLERNAME a\r\nSETEVENTS CONTROLLER\r\nGETINFO version\r\n";
    let binary = [frame(7, b""), frame(5, b"\0\x04"), frame(0xF000, b"b\0")].concat();
    for octets in [&text[..], &binary] {
        for end in 0..=octets.len() {
            daemon.connect().send(&octets[..end]);
        }
    }
    let mut controller = daemon.connect();
    // Every name is free again, once the last of them has left.
    let alone =
        || controller.ask("GETINFO list-controllers") == "250-list-controllers=unset\n250 OK";
    eventually("they have left", alone);
    daemon.named("a");
}

/// Raises this process's limit of descriptors as far as it goes.
fn descriptors() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has one");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    hard
}

/// The longest of some round trips.
fn round_trip(controller: &mut Controller) -> Duration {
    let trips = (0..50).map(|_| {
        let begun = Instant::now();
        controller.ok("GETINFO version");
        begun.elapsed()
    });
    trips.max().expect("there are some")
}

#[test]
fn ten_thousand_that_say_nothing() {
    let place = Place::new();
    let wanted: u64 = 10_000;
    // The other tests of this file need some as well.
    let count = wanted.min(descriptors().saturating_sub(1000));
    support::can("a limit of 11000 descriptors", count == wanted);
    let mut daemon = place.daemon();
    let mut controller = daemon.connect();
    controller.ok("GETINFO version");
    let before = daemon.memory();
    let silent: Vec<UnixStream> = (0..count)
        .map(|_| UnixStream::connect(place.socket()).expect("there is room"))
        .collect();
    // Connections are accepted in order: with this one all are.
    let mut last = daemon.connect();
    last.ok("SIGNAL HEARTBEAT");
    daemon.logs(&format!("{} controllers are connected", count + 2));
    let each = (daemon.memory() - before) * 1024 / count;
    assert!(each < 3 * 1024, "{each} octets each");
    let longest = round_trip(&mut controller);
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    drop(silent);
    let longest = round_trip(&mut controller);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    daemon.stop();
}

#[test]
fn a_slow_reader_is_dropped_and_nobody_else_notices() {
    let place = Place::new();
    let daemon = place.serve().set("BusMaxQueue 1 MB").ready();
    let mut slow = daemon.named("sleepyhead");
    slow.ok("SETEVENTS POSTMESSAGE");
    let mut readers = [daemon.connect(), daemon.connect()];
    for reader in &mut readers {
        reader.ok("SETEVENTS POSTMESSAGE");
    }
    let mut poster = daemon.connect();
    let before = daemon.memory();
    let count: u64 = 3000;
    // On a busy machine the others would fall as far behind if nobody waited for them.
    let (so_far, readers_are) = channel();
    thread::scope(|scope| {
        for reader in &mut readers {
            let so_far = so_far.clone();
            scope.spawn(move || {
                for id in 1..=count {
                    assert_eq!(reader.next_message().0, id);
                    if id.is_multiple_of(50) {
                        so_far.send(id).expect("the poster waits for it");
                    }
                }
            });
        }
        let line = format!("POSTMESSAGE @all {}", "x".repeat(5000));
        for id in 1..=count {
            poster.ok(&line);
            if id.is_multiple_of(50) {
                for _ in 0..2 {
                    assert_eq!(readers_are.recv_timeout(PATIENCE), Ok(id));
                }
            }
        }
    });
    let line = daemon.logs("was dropped");
    let process = std::process::id();
    let user = nix::unistd::getuid();
    for part in [
        "sleepyhead",
        &format!("pid {process}"),
        &format!("uid {user}"),
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(daemon.log().matches("was dropped").count(), 1);
    // Its history, what waited for the slow one, and what the allocator keeps of both.
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB more");
    let before_the_end = slow.rest().len();
    assert!(before_the_end < 2 << 20, "{before_the_end} octets");
    daemon.named("sleepyhead");
}

#[test]
fn whoever_never_reads_replies_gets_none_made() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut other = daemon.connect();
    let before = daemon.memory();
    let deaf: Vec<Controller> = (0..8).map(|_| daemon.connect()).collect();
    for controller in &deaf {
        // It ends once the kernel takes no more of what the daemon does not read.
        let mut stream = controller.stream();
        stream.set_nonblocking(true).expect("a socket");
        let flood = LONG.repeat(1000);
        let mut taken = 0;
        let mut idle = 0;
        while idle < 20 {
            match stream.write(flood.as_bytes()) {
                Ok(length) => (taken, idle) = (taken + length, 0),
                Err(_) => idle += 1,
            }
            other.ok("GETINFO version");
        }
        assert!(taken < 4 << 20, "{taken} octets were taken");
    }
    let grown = daemon.memory().saturating_sub(before);
    // Twice PAUSE for each at the worst.
    assert!(grown < 8 * 1024, "{grown} KiB more");
    let longest = round_trip(&mut other);
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

#[test]
fn thousands_of_keys_in_one_command() {
    let place = Place::new();
    let daemon = place.serve().set("BusMaxQueue 2 MB").ready();
    let mut controller = daemon.connect();
    let before = daemon.memory();
    for (key, count, refusal) in [
        ("info/names", 10_000, "551 The reply would have more than"),
        (
            "config/defaults",
            10_000,
            "551 The reply would have more than",
        ),
        ("info/names", 10_001, "551 Too many keys"),
        ("version", 125_000, "551 Too many keys"),
    ] {
        let keys = format!(" {key}").repeat(count);
        let reply = controller.ask(&format!("GETINFO{keys}"));
        assert!(reply.starts_with(refusal), "{reply:.99}");
    }
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 100 * 1024, "{grown} KiB more");
}

#[test]
fn more_messages_than_may_wait_cut_no_reader_off() {
    let place = Place::new();
    let (text, v0) = (place.socket(), place.path("v0"));
    let (text, v0_path) = (text.display(), v0.display());
    let options =
        format!("BusSocket {text}\nBusSocket {v0_path} Protocol=v0\nBusMaxQueue 256 KB\n");
    let daemon = place.configured(&options).ready();
    let mut poster = daemon.connect();
    let length = 60_000;
    for number in 0..10 {
        poster.ok(&format!(
            "POSTMESSAGE @all {number}{}",
            "x".repeat(length - 1)
        ));
    }
    let mut reader = Controller::at(&v0);
    reader.send_frame(kind::RECENTMESSAGES, b"");
    let mut octets = Vec::new();
    let body = loop {
        let (kind, body) = reader.frame();
        octets.extend_from_slice(&frame(kind, &body));
        match Fragments::default().next(&octets) {
            Gathered::Message { kind, body, .. } => {
                assert_eq!(kind, kind::MESSAGES);
                break body;
            }
            Gathered::Incomplete => {}
            other => panic!("{other:?}"),
        }
    };
    // MessageID, source, destination and text, of the newest that half the queue holds.
    let size = 8 + "unset\0all\0".len() + length + 1;
    assert_eq!(body.len(), 2 * size);
    let numbers: Vec<_> = body
        .chunks(size)
        .map(|one| one[size - length - 1])
        .collect();
    assert_eq!(numbers, b"89");
}

/// Connects until the daemon lets nobody in, and returns those it did.
fn fill(daemon: &Daemon) -> Vec<Controller> {
    let mut inside = Vec::new();
    while !daemon.log().contains("accepting pauses") {
        let controller = daemon.connect();
        // Enough of a turn of the loop for it to find out: the first one is always let in.
        if let Some(first) = inside.first_mut() {
            Controller::ok(first, "GETINFO version");
        }
        inside.push(controller);
    }
    inside
}

#[test]
fn out_of_descriptors_accepting_pauses_and_nothing_spins() {
    let place = Place::new();
    let start = place.serve().set("BusMaxControllers 100");
    let mut daemon = start.under(&["prlimit", "--nofile=40:40"]).ready();
    daemon.logs("only 40 descriptors are allowed: 20 controllers fit");
    let mut inside = fill(&daemon);
    let mut waiting = daemon.connect();
    waiting.send("GETINFO version\r\n");
    // Somebody's clock: BW comes every second.
    inside[0].ok("SETEVENTS BW");
    let before = daemon.ticks();
    for _ in 0..3 {
        assert!(inside[0].reply().starts_with("650 BW "));
    }
    let spent = daemon.ticks() - before;
    assert!(spent < 30, "{spent} ticks in 3 seconds");
    inside.truncate(5);
    assert!(waiting.reply().starts_with("250-version="));
    daemon.stop();
}

#[test]
fn one_controller_too_many_is_told() {
    let place = Place::new();
    let (auto, tc) = (place.path("auto"), place.path("tc"));
    for option in ["BusMaxControllers", "BusMaxControllersPerUser"] {
        let options = format!(
            "BusSocket {}\nBusSocket {} Protocol=tc\n{option} 2\n",
            auto.display(),
            tc.display()
        );
        let daemon = place.configured(&options).ready();
        let mut inside = [Controller::at(&auto), Controller::at(&tc)];
        inside[0].ok("GETINFO version");
        inside[1].send_frame(0x0007, b"");
        assert_eq!(inside[1].frame().0, 0x0001);

        let told = String::from_utf8(Controller::at(&auto).rest()).expect("ASCII");
        assert!(told.starts_with("551 ") && told.ends_with("\r\n"), "{told}");
        assert!(told.contains(&format!("({option})")), "{told}");
        let mut refused = Controller::at(&tc);
        let (kind, body) = refused.frame();
        assert_eq!((kind, &body[..2]), (0x0000, &[0, 0][..]));
        assert!(refused.rest().is_empty());
        daemon.logs(&format!("was turned away: {option}"));

        let [first, _second] = inside;
        drop(first);
        let mut next = || {
            let mut controller = Controller::at(&auto);
            // Who is turned away may be gone before it has asked.
            let asked = controller.stream().write_all(b"GETINFO version\r\n");
            asked.is_ok() && controller.line().starts_with("250-")
        };
        eventually("there is room again", &mut next);
    }
}

#[test]
fn of_many_posters_everybody_gets_each_message_once_and_in_order() {
    const POSTERS: usize = 4;
    const EACH: usize = 2500;
    let place = Place::new();
    let daemon = place.daemon();
    let mut readers: Vec<Controller> = (0..3).map(|_| daemon.connect()).collect();
    for reader in &mut readers {
        reader.ok("SETEVENTS POSTMESSAGE");
    }
    thread::scope(|scope| {
        for poster in 0..POSTERS {
            let mut controller = daemon.connect();
            scope.spawn(move || {
                for burst in 0..EACH / 100 {
                    let numbers = burst * 100..(burst + 1) * 100;
                    let posts = numbers.map(|n| format!("POSTMESSAGE @all {poster} {n}\r\n"));
                    controller.send(posts.collect::<String>());
                    for _ in 0..100 {
                        assert_eq!(controller.reply(), "250 OK");
                    }
                }
            });
        }
        for reader in &mut readers {
            scope.spawn(move || {
                let mut next = [0; POSTERS];
                for id in 1..=POSTERS * EACH {
                    let (told, text) = reader.next_message();
                    assert_eq!(told, id as u64);
                    let mut words = text.rsplit(' ').map(str::parse::<usize>);
                    let number = words.next().expect("a word").expect("a number");
                    let poster = words.next().expect("a word").expect("a number");
                    let next = &mut next[poster];
                    assert_eq!(number, *next);
                    *next += 1;
                }
            });
        }
    });
}

/// Much of the same for many is kept in a file in memory. Where files may not be that large, it is
/// written to each.
#[test]
fn much_for_many_arrives_whole_whatever_files_may_be() {
    for limit in ["--fsize=unlimited", "--fsize=8192"] {
        let place = Place::new();
        let daemon = place.serve().under(&["prlimit", limit]).ready();
        let mut readers: Vec<Controller> = (0..20).map(|_| daemon.connect()).collect();
        for reader in &mut readers {
            reader.ok("SETEVENTS POSTMESSAGE");
        }
        let _stalled = readers.pop();
        let mut poster = daemon.named("poster");
        let text = |number: usize| format!("{number:1000}");
        let mut due = String::new();
        for burst in 0..10 {
            let numbers = burst * 100 + 1..=burst * 100 + 100;
            let post = |number| format!("POSTMESSAGE @all {}\r\n", text(number));
            poster.send(numbers.clone().map(post).collect::<String>());
            for number in numbers {
                assert_eq!(poster.reply(), "250 OK");
                let head = format!("650 POSTMESSAGE {number} poster @all ");
                due.extend([&head, &text(number), "\r\n"].map(str::to_owned));
            }
        }
        let mut got = vec![0; due.len()];
        for reader in &mut readers {
            reader.read_exact(&mut got);
            assert!(got == due.as_bytes(), "{limit}");
        }
    }
}
