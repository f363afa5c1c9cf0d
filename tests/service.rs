//! The daemon as a service: sockets that are passed on, what the manager is told, signals, how it
//! ends and with which code.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use support::{Controller, Daemon, Place, eventually, has};

#[test]
fn one_passed_socket_is_served_and_its_file_stays() {
    let place = Place::new();
    let path = place.path("passed");
    let listener = UnixListener::bind(&path).expect("a socket");
    let start = place.configured("BusSocket fd:control Protocol=text\n");
    let start = start.state(place.path("state"));
    let mut daemon = start.passing(Some("control"), vec![listener]).ready();
    Controller::at(&path).ok("GETINFO version");
    let mut controller = Controller::at(&path);
    controller.send(b"\0\0\0\x07\r\n");
    assert!(
        controller.reply().starts_with("510 "),
        "Protocol=text counts"
    );
    daemon.stop();
    assert!(path.exists(), "whoever made it removes it");
}

/// As the package does it: the socket unit makes the socket, and no line names it.
#[test]
fn a_passed_socket_is_known_by_its_path_and_by_its_name() {
    for lines in ["", "BusSocket fd:control\n"] {
        let place = Place::new();
        let path = place.path("passed");
        let shown = path.display();
        let listener = UnixListener::bind(&path).expect("a socket");
        let policy = format!(
            "Profile fd\nMatch socket=fd:control\nProfile other\nMatch socket=fd:other\n\
             Profile path\nMatch socket={shown}\nAllow getinfo status controllers/detail\n"
        );
        let policy = place.file("own.policy", &policy);
        let config = format!("{lines}BusPolicy {}\n", policy.display());
        let config = place.file("onionbus.conf", &config);
        let start = place.serve_bare().state(place.path("state"));
        let start = start.arg("--config").arg(config);
        let mut daemon = start.passing(Some("control"), vec![listener]).ready();
        let mut controller = Controller::at(&path);
        let whoami = controller.info("whoami");
        let end = format!(" SOCKET=\"{shown}\" PROFILES=fd,path");
        assert!(whoami.ends_with(&end), "{whoami}");
        let status = controller.ask("GETINFO status controllers/detail");
        let socket = format!("SOCKET=\"{shown}\"");
        assert_eq!(status.matches(&socket).count(), 2, "{status}");
        daemon.logs(&format!("listening at {shown}"));
        daemon.stop();
    }
}

#[test]
fn a_policy_says_at_its_start_what_this_kernel_does_not_tell() {
    let missing = onionbus::sys::peer::missing().expect("a pair of sockets");
    let place = Place::new();
    let policy = place.file("own.policy", "Profile p\nMatch any\nAllow all\n");
    let line = format!("BusPolicy {}\n", policy.display());
    let said = format!("this kernel does not tell {}", missing.join(", "));
    // Nobody connects, neither where it is there from the start nor where it comes by a reload.
    for first in [&line[..], ""] {
        let mut daemon = place.configured(first).ready();
        if first.is_empty() {
            place.file("onionbus.conf", &line);
            daemon.signal(Signal::SIGHUP);
            daemon.notified("RELOADING=1");
            daemon.notified("READY=1");
        }
        if !missing.is_empty() {
            daemon.logs(&said);
        }
        daemon.stop();
        let count = daemon.log().matches("this kernel does not tell").count();
        assert_eq!(count, usize::from(!missing.is_empty()), "{}", daemon.log());
    }
}

#[test]
fn several_passed_sockets_are_told_apart_by_name() {
    let place = Place::new();
    let (text, tc) = (place.path("one"), place.path("two"));
    let listeners = [&text, &tc].map(|path| UnixListener::bind(path).expect("a socket"));
    let own = place.path("own");
    let options = format!(
        "BusSocket fd:second Protocol=tc\nBusSocket {}\nBusSocket fd:first Protocol=text\n",
        own.display()
    );
    let start = place.configured(&options);
    let mut daemon = start
        .passing(Some("first:second"), listeners.into())
        .ready();
    assert!(Controller::at(&text).ask("x").starts_with("510 "));
    let mut controller = Controller::at(&tc);
    controller.send_frame(0x0007, b"");
    assert_eq!(controller.frame().0, 0x0001);
    Controller::at(&own).ok("GETINFO version");
    daemon.stop();
    assert!(text.exists() && tc.exists() && !own.exists());
}

#[test]
fn passed_sockets_without_a_line_of_their_own_are_served_as_well() {
    let place = Place::new();
    let paths = [place.path("one"), place.path("two")];
    for names in [None, Some("unknown:other")] {
        let listeners = paths.each_ref().map(|path| {
            let _ = fs::remove_file(path);
            UnixListener::bind(path).expect("a socket")
        });
        let daemon = place.serve().passing(names, listeners.into()).ready();
        for path in &paths {
            Controller::at(path).ok("GETINFO version");
        }
        drop(daemon);
    }
}

#[test]
fn passed_sockets_take_the_place_of_the_default() {
    let place = Place::new();
    let path = place.path("one");
    let listener = UnixListener::bind(&path).expect("a socket");
    let daemon = place
        .serve_bare()
        .state(place.path("state"))
        .env(
            "ONIONBUS_SOCKET",
            place.socket().to_str().expect("a temporary path"),
        )
        .passing(None, vec![listener])
        .ready();
    Controller::at(&path).ok("GETINFO version");
    assert!(!place.socket().exists());
    drop(daemon);
}

#[test]
fn a_path_that_was_passed_is_not_made_again() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).expect("a socket");
    let mut daemon = place.serve().passing(None, vec![listener]).ready();
    daemon.connect().ok("GETINFO version");
    daemon.stop();
    assert!(place.socket().exists());
}

#[test]
fn a_socket_that_was_not_passed_ends_it() {
    let place = Place::new();
    let path = place.path("passed");
    let listener = UnixListener::bind(&path).expect("a socket");
    let said = place
        .configured("BusSocket fd:missing\n")
        .passing(Some("control"), vec![listener])
        .fails(1);
    assert!(
        said.contains("fd:missing: no socket of this FileDescriptorName"),
        "{said}"
    );
    let said = place.configured("BusSocket fd:missing\n").fails(1);
    assert!(said.contains("FileDescriptorName=missing"), "{said}");
}

#[test]
fn systemd_starts_it_when_somebody_connects() {
    if !has("systemd-socket-activate") {
        return;
    }
    let place = Place::new();
    let path = place.path("activated");
    let listen = path.to_str().expect("ASCII");
    let activate = [
        "systemd-socket-activate",
        "--listen",
        listen,
        "--fdname",
        "control",
    ];
    let start = place.configured("BusSocket fd:control\n");
    let start = start.under(&[&activate[..], &["--setenv", "NOTIFY_SOCKET"]].concat());
    let mut daemon = start.spawn();
    // It says so once it listens.
    daemon.logs("Listening on");
    let mut controller = Controller::at(&path);
    daemon.notified("READY=1");
    controller.ok("GETINFO version");
    assert_eq!(controller.info("process/pid"), daemon.pid().to_string());
    daemon.stop();
    assert!(path.exists());
}

#[test]
fn the_manager_is_told_of_a_reload_and_of_the_end() {
    let place = Place::new();
    let file = place.file("onionbus.conf", "BusHistory 5\n");
    let mut daemon = place.serve().arg("--config").arg(&file).ready();
    for text in ["BusHistory 7\n", "BusHistory x\n"] {
        fs::write(&file, text).expect("it is ours");
        daemon.signal(Signal::SIGHUP);
        let note = daemon.notified("RELOADING=1");
        let time = note
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(
            time.is_some_and(|time| time.parse::<u64>().is_ok()),
            "{note}"
        );
        daemon.notified("READY=1");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.notified("STOPPING=1");
    daemon.ends(0);
}

#[test]
fn the_watchdog_is_fed() {
    let place = Place::new();
    let begun = Instant::now();
    let mut daemon = place.serve().env("WATCHDOG_USEC", "200000").ready();
    for _ in 0..4 {
        daemon.notified("WATCHDOG=1");
    }
    // One at the start, then one every 100 ms.
    assert!(begun.elapsed().as_millis() >= 300);
}

#[test]
fn a_reload_takes_a_good_file_and_leaves_a_bad_one() {
    let place = Place::new();
    let daemon = place.configured("BusHistory 5\n").ready();
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS CONF_CHANGED SIGNAL");
    place.file("onionbus.conf", "BusHistory 6\n");
    daemon.signal(Signal::SIGHUP);
    assert_eq!(
        controller.reply(),
        "650-CONF_CHANGED\n650-BusHistory=6\n650 OK"
    );
    assert_eq!(controller.reply(), "650 SIGNAL RELOAD");

    let bad = "BusHistory 7\nBusHistory many\n\nBusHistry 3\nBusLog loud\n";
    let file = place.file("onionbus.conf", bad);
    daemon.signal(Signal::SIGHUP);
    daemon.logs("the options stay as they were");
    for (line, part) in [
        (2, "BusHistory cannot be 'many'"),
        (4, "BusHistry"),
        (5, "'loud'"),
    ] {
        let line = daemon.logs(&format!("{}:{line}: ", file.display()));
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(controller.ask("GETCONF BusHistory"), "250 BusHistory=6");

    place.file("onionbus.conf", "BusStateDirectory /elsewhere\n");
    let reply = controller.ask("SIGNAL RELOAD");
    // The command line sets the state directory, so the file's is not in force: nothing to refuse.
    assert_eq!(reply, "250 OK");
    place.file("onionbus.conf", "BusCookieAuthentication 1\n");
    let reply = daemon.connect().ask("SIGNAL RELOAD");
    assert!(reply.starts_with("551 Unable to reload: "), "{reply}");
    assert!(reply.contains("BusCookieAuthentication"), "{reply}");
}

#[test]
fn a_bad_file_is_told_whole_and_nothing_is_opened() {
    let place = Place::new();
    let text = "BusHistory x\nBusSocket relative\nBusMaxQueue 1\n\nBusNothing 1\nBusLog \"a\n";
    let file = place.file("onionbus.conf", text);
    let start = place.serve_bare().arg("--config").arg(&file);
    let start = start.arg("--socket").arg(place.path("run/control"));
    let said = start.state(place.path("var/state")).fails(1);
    for line in [1, 2, 3, 5, 6] {
        let place = format!("{}:{line}: ", file.display());
        assert!(said.contains(&place), "{said}");
    }
    assert!(!place.path("run").exists() && !place.path("var").exists());
}

#[test]
fn exit_codes() {
    let place = Place::new();
    place.serve().arg("--frobnicate").fails(2);
    place
        .serve()
        .arg("--config")
        .arg(place.path("missing"))
        .fails(1);
    place.serve().set("BusHistory x").fails(1);
    let file = place.file("file", "");
    place.serve().state(file.join("state")).fails(1);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = place.daemon();
        daemon.signal(signal);
        daemon.ends(0);
    }
}

/// A controller to which as much was posted as the kernel takes, and more.
fn slow_reader(daemon: &Daemon, messages: u64) -> Controller {
    let mut slow = daemon.named("slow");
    slow.ok("SETEVENTS POSTMESSAGE");
    let mut poster = daemon.connect();
    let line = format!("POSTMESSAGE @slow {}\r\n", "x".repeat(10_000));
    for _ in 0..messages {
        poster.send(&line);
        assert_eq!(poster.reply(), "250 OK");
    }
    slow
}

#[test]
fn whoever_reads_gets_everything_before_the_end() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut slow = slow_reader(&daemon, 300);
    daemon.signal(Signal::SIGTERM);
    daemon.notified("STOPPING=1");
    let refused = || Controller::try_at(&place.socket()).is_err();
    eventually("nobody is let in", refused);
    for id in 1..=300 {
        assert_eq!(slow.next_message().0, id);
        // Asking twice does not cut it short.
        if id % 50 == 0 {
            daemon.signal(Signal::SIGTERM);
        }
    }
    assert!(slow.rest().is_empty());
    daemon.ends(0);
}

#[test]
fn whoever_does_not_read_delays_the_end_by_two_seconds_at_most() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let slow = slow_reader(&daemon, 300);
    let begun = Instant::now();
    let log = daemon.stop();
    let taken = begun.elapsed().as_millis();
    assert!((1900..8000).contains(&taken), "{taken} ms");
    assert!(log.contains("1 controllers did not read"), "{log}");
    let mut some = vec![0; 100_000];
    slow.stream()
        .read_exact(&mut some)
        .expect("what the kernel had");
}

#[test]
fn the_daemon_ends_with_its_owner() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut other = daemon.connect();
    let mut owner = daemon.connect();
    owner.ok("TAKEOWNERSHIP");
    drop(owner);
    daemon.ends(0);
    assert!(other.rest().is_empty());
    assert!(!place.socket().exists());

    let mut daemon = place.daemon();
    let mut owner = daemon.connect();
    owner.ok("TAKEOWNERSHIP");
    owner.ok("DROPOWNERSHIP");
    drop(owner);
    daemon.connect().ok("GETINFO version");
    daemon.stop();
}

#[test]
fn an_owner_that_is_killed_has_left() {
    if !has("socat") {
        return;
    }
    let place = Place::new();
    let mut daemon = place.daemon();
    let address = format!("UNIX-CONNECT:{}", place.socket().display());
    let mut owner = Command::new("socat");
    // Its standard input stays open: only the signal ends it.
    owner.args(["-", &address]).stdin(Stdio::piped());
    let mut owner = owner.spawn().expect("it is installed");
    let input = owner.stdin.as_mut().expect("it is piped");
    input.write_all(b"TAKEOWNERSHIP\n").expect("it reads");
    daemon.logs("has taken ownership");
    owner.kill().expect("it is our child");
    owner.wait().expect("it is our child");
    daemon.ends(0);
}

#[test]
fn signals_from_controllers() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS SIGNAL");
    for (signal, logged) in [
        ("RELOAD", "the options were read again"),
        ("DUMP", "named unset: "),
        ("USR1", "octets wait to be sent"),
        ("HEARTBEAT", "controllers are connected"),
        ("DEBUG", "logging everything"),
    ] {
        controller.send(format!("SIGNAL {signal}\r\n"));
        assert_eq!(controller.reply(), "250 OK", "{signal}");
        assert!(controller.reply().starts_with("650 SIGNAL "), "{signal}");
        daemon.logs(logged);
    }
    for (number, name) in [
        (Signal::SIGHUP, "RELOAD"),
        (Signal::SIGUSR1, "DUMP"),
        (Signal::SIGUSR2, "DEBUG"),
    ] {
        daemon.signal(number);
        assert_eq!(controller.reply(), format!("650 SIGNAL {name}"));
    }
    assert!(controller.ask("SIGNAL NEWNYM").starts_with("551 "));
    assert!(controller.ask("SIGNAL NONSENSE").starts_with("552 "));
    assert_eq!(controller.ask("SIGNAL SHUTDOWN"), "250 OK");
    assert_eq!(controller.reply(), "650 SIGNAL SHUTDOWN");
    assert!(controller.rest().is_empty());
    daemon.ends(0);

    let mut daemon = place.daemon();
    daemon.connect().ok("SIGNAL HALT");
    daemon.ends(0);
}
