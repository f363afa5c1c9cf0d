//! `onionbus watch --reconnect` outlives daemons, and Tors behind them.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::{Daemon, Place};

fn watching(socket: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command
        .args(["watch", "--reconnect", "--socket"])
        .arg(socket);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// The end of the command, and that it had this code.
#[track_caller]
fn ended(child: Child, code: i32) -> Output {
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    output
}

/// Waits until a controller has this name.
fn await_name(daemon: &Daemon, name: &str) {
    let mut witness = daemon.connect();
    witness.ok("SETEVENTS CONTROLLER");
    // Another asks, so that no event comes between.
    if daemon
        .connect()
        .ask("GETINFO list-controllers")
        .contains(name)
    {
        return;
    }
    loop {
        let event = witness.line();
        if event.contains(" NAMED ") && event.contains(name) {
            return;
        }
    }
}

#[test]
fn it_goes_on_with_the_next_daemon() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut child = watching(&place.socket(), &["--as", "bob", "--count", "3"]);
    let mut printed = BufReader::new(child.stdout.take().expect("it is piped"));
    for round in 1..=3 {
        await_name(&daemon, "bob");
        let mut alice = daemon.connect();
        alice.ok(&format!("POSTMESSAGE @bob {round}"));
        let mut line = String::new();
        printed.read_line(&mut line).expect("it is text");
        assert_eq!(
            line,
            format!("650 POSTMESSAGE {round} unset @bob {round}\n")
        );
        if round < 3 {
            daemon.stop();
            daemon = place.daemon();
        }
    }
    let output = ended(child, 0);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error.matches("closed the connection").count(), 2, "{error}");
    assert_eq!(error.matches("connected again").count(), 2, "{error}");
}

/// One conversation with a client.
struct Asker(BufReader<UnixStream>);

impl Asker {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("it connects");
        let mut asker = Self(BufReader::new(stream));
        asker.hear("PROTOCOLINFO 1");
        asker.say("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n");
        asker.hear("AUTHENTICATE");
        asker.say("250 OK\r\n");
        asker.hear("SETEVENTS POSTMESSAGE");
        asker
    }

    #[track_caller]
    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it is text");
        assert_eq!(line, format!("{expected}\r\n"));
    }

    fn say(&self, text: &str) {
        let sent = self.0.get_ref().write_all(text.as_bytes());
        sent.expect("it reads");
    }
}

#[test]
fn a_tor_that_is_away_is_waited_for_and_no_other_refusal() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).expect("a socket");
    let child = watching(&place.socket(), &[]);
    Asker::accept(&listener).say("250 OK\r\n650 X 1\r\n");
    Asker::accept(&listener).say("551 Tor is not reachable\r\n");
    Asker::accept(&listener).say("250 OK\r\n650 X 2\r\n");
    Asker::accept(&listener).say("552 Unrecognized event\r\n");
    let output = ended(child, 1);
    assert_eq!(output.stdout, b"650 X 1\n650 X 2\n");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.ends_with("onionbus: 552 Unrecognized event\n"),
        "{error}"
    );
}

#[test]
fn whoever_never_was_there_is_not_waited_for() {
    let place = Place::new();
    let output = ended(watching(&place.socket(), &[]), 3);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no daemon answers"), "{error}");
}
