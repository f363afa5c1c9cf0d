//! The log: as events in their place, and written without anybody waiting for its reader.

mod support;

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use support::{Controller, Place, eventually};

#[test]
fn lines_come_behind_the_replies_of_the_commands_that_caused_them() {
    let daemon = Place::new();
    let daemon = daemon.daemon();
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS NOTICE");
    // One turn of the loop: nothing comes between.
    let questions = 14;
    controller.send("SIGNAL HEARTBEAT\r\n".to_owned() + &"GETCONF BusLog\r\n".repeat(questions));
    assert_eq!(controller.reply(), "250 OK");
    for _ in 0..questions {
        assert_eq!(controller.reply(), "250 BusLog=notice");
    }
    assert!(controller.reply().starts_with("650 NOTICE "));
}

/// A flood of one kind of line is ten lines and a count, in the log and as events; other kinds are
/// told as ever.
#[test]
fn a_flood_of_lines_is_ten_and_a_count() {
    let place = Place::new();
    let mut daemon = place.serve().set("BusMaxControllersPerUser 3").ready();
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS WARN NOTICE");
    let mut owner = daemon.connect();
    owner.ok("GETINFO version");
    let mut guest = daemon.connect();
    guest.ok("GETINFO version");
    for _ in 0..2000 {
        let refused = Controller::at(&place.socket()).reply();
        assert!(refused.contains("BusMaxControllersPerUser"), "{refused}");
    }
    owner.ok("TAKEOWNERSHIP");
    daemon.logs("has taken ownership");
    let count = daemon.logs("more lines were left out, like: ");
    assert!(count.contains("was turned away"), "{count}");
    watcher.send("POSTMESSAGE @all x\r\n");
    let (mut told, mut counted) = (0, 0);
    loop {
        let line = watcher.reply();
        if line == "250 OK" {
            continue;
        }
        if let Some(text) = line.strip_prefix("650 WARN ") {
            if let Some((count, _)) = text.split_once(" more lines were left out") {
                counted += count.parse::<u32>().expect("it is a number");
            } else {
                told += 1;
            }
        }
        if told + counted == 2000 {
            break;
        }
        // What the writing thread has counted is an event with the loop's next turn.
        watcher.send("POSTMESSAGE @all x\r\n");
    }
    // As many seconds as the machine took, ten lines each.
    assert!(told < 400, "{told} lines");
    let log = daemon.stop();
    let turned_away = log.matches("was turned away").count();
    assert!(turned_away < 500, "{turned_away} lines");
}

/// `SIGNAL DUMP` without end lists the controllers once in a second, and not all of them.
#[test]
fn what_a_dump_lists_has_a_bound() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut controllers: Vec<_> = (0..150).map(|_| daemon.connect()).collect();
    for controller in &mut controllers {
        controller.ok("GETINFO version");
    }
    let asker = &mut controllers[0];
    let before = std::time::Instant::now();
    asker.send("SIGNAL DUMP\r\n".repeat(2000));
    for _ in 0..2000 {
        assert_eq!(asker.reply(), "250 OK");
    }
    daemon.logs("50 more are connected, for whom less waits");
    let seconds = before.elapsed().as_secs() + 2;
    let log = daemon.stop();
    let listed = log.matches("octets wait to be sent").count() as u64;
    assert!(
        listed >= 100 && listed <= 100 * seconds,
        "{listed} in {seconds} s"
    );
}

/// `systemd.exec(5)`: the variable is inherited by programs whose output goes elsewhere.
#[test]
fn the_journal_is_where_standard_error_is_and_nowhere_else() {
    let place = Place::new();
    let of_stderr = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@""#;
    let of_another = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /dev/null) exec "$@""#;
    let of_none = r#"JOURNAL_STREAM= exec "$@""#;
    for (script, is_journal) in [(of_stderr, true), (of_another, false), (of_none, false)] {
        let mut daemon = place.serve().under(&["sh", "-c", script, "sh"]).ready();
        let line = daemon.logs(" is ready");
        assert_eq!(line.starts_with("<5>onionbus "), is_journal, "{line}");
        assert_eq!(line.contains("Z [notice] onionbus "), !is_journal, "{line}");
        daemon.stop();
    }
}

/// A pipe holds 64 KiB: a thousand lines fill it.
#[test]
fn nobody_waits_for_a_log_that_is_not_read() {
    let place = Place::new();
    // A pipe that is full before the first line.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
    fcntl(&writer, FcntlArg::F_SETFL(flags)).expect("it is open");
    while nix::unistd::write(&writer, &[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_WRONLY)).expect("it is open");
    let mut unread = Command::new(env!("CARGO_BIN_EXE_onionbus"))
        .arg("serve")
        .arg("--socket")
        .arg(place.socket())
        .arg("--state")
        .arg(place.path("state"))
        .args(["--set", "BusLog debug"])
        .stderr(Stdio::from(OwnedFd::from(writer)))
        .spawn()
        .expect("the program is built");
    eventually("the daemon listens", || {
        Controller::try_at(&place.socket()).is_ok()
    });
    let mut noisy = Controller::at(&place.socket());
    for _ in 0..20_000 {
        assert_eq!(
            noisy.ask("NONSENSE"),
            "510 Unrecognized command \"NONSENSE\""
        );
    }
    Controller::at(&place.socket()).ok("GETINFO version");
    noisy.ok("SIGNAL SHUTDOWN");
    // Its own end waits a moment for the reader, and no longer.
    assert!(unread.wait().expect("it is our child").success());
    drop(reader);
}
