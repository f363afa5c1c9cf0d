//! The client commands against a daemon that follows a script: every octet of both sides.

mod json;
mod login;
mod metrics;
#[path = "../peer/mod.rs"]
mod peer;
mod post;
mod print;
mod status;
mod terminal;
mod watch;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use peer::{Peer, Ran, onionbus};

/// A peer that hears one line and says one thing.
fn answering(line: &'static str, reply: &'static [u8]) -> Peer {
    Peer::new(move |peer| {
        peer.hear(line);
        peer.say(reply);
    })
}

/// A peer that nobody needs: wrong usage is found before anybody is connected to.
#[track_caller]
fn misused(arguments: &[&str]) -> Ran {
    let socket = ("ONIONBUS_SOCKET", "/nonexistent/control");
    let output = onionbus(arguments).env(socket.0, socket.1).output();
    Ran::new(output.expect("it starts"), 2)
}

#[test]
fn a_name_is_taken_first() {
    let peer = Peer::new(|peer| {
        peer.hear("CONTROLLERNAME bob");
        peer.say("250 OK\r\n");
        peer.hear("POSTMESSAGE @alice hi");
        peer.say("250 OK\r\n");
    });
    peer.run(&["post", "--as", "bob", "@alice", "hi"], 0)
        .printed(b"");
}

#[test]
fn a_refusal_is_told_and_exits_1() {
    let peer = answering(
        "POSTMESSAGE @nobody hi",
        b"552 Invalid destination controller name\r\n",
    );
    peer.run(&["post", "@nobody", "hi"], 1)
        .complained("552 Invalid destination controller name\n");
    let peer = answering(
        "CONTROLLERNAME bob",
        b"553 Controller name already in use\r\n",
    );
    peer.run(&["watch", "--as", "bob"], 1)
        .complained("553 Controller name already in use\n");
    let peer = answering(
        "GETINFO a b",
        b"552-Unrecognized key \"a\"\r\n552 Unrecognized key \"b\"\r\n",
    );
    peer.run(&["info", "a", "b"], 1)
        .complained("552-Unrecognized key \"a\"\n552 Unrecognized key \"b\"\n");
}

#[test]
fn wrong_usage_exits_2() {
    misused(&["post", "nobody", "hi"]).complained("begins with @");
    misused(&["post", "@a b", "hi"]).complained("one word");
    misused(&["post", "@a", "one\ntwo"]).complained("a line end");
    misused(&["post", "@a", "one\rtwo"]).complained("a carriage return");
    misused(&["post", "--as", "a b", "@a", "x"]).complained("one word");
    misused(&["post", "--as", "a\nb", "@a", "x"]).complained("one word");
    misused(&["watch", "A\r\nQUIT"]).complained("one word");
    misused(&["watch", "--count", "0"]).complained("--count");
    misused(&["info"]).complained("KEY");
    misused(&["info", "a b"]).complained("one word");
    misused(&["conf", "set", "BusHistory"]).complained("not KEY=VALUE");
    misused(&["conf", "get", ""]).complained("one word");
    misused(&["command", "A\nB"]).complained("a line end");
    misused(&["frobnicate"]).complained("frobnicate");
    misused(&[]).complained("Usage");
}

#[test]
fn no_daemon_exits_3() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("control");
    let mut command = onionbus(&["controllers", "--socket"]);
    let output = command.arg(&socket).output().expect("it starts");
    let ran = Ran::new(output, 3);
    ran.complained(&format!("no daemon answers at {}", socket.display()));
}

#[test]
fn a_daemon_that_leaves_exits_3() {
    let partly = b"250+recent-messages=\r\n650 POSTMESSAGE 1 a @all x\r\n";
    let peer = answering("GETINFO recent-messages", partly);
    peer.run(&["recent"], 3).complained("closed the connection");

    let peer = Peer::before_login(|_| ());
    peer.run(&["recent"], 3).complained("closed the connection");

    let peer = Peer::before_login(|peer| peer.say("HTTP/1.0 400 Bad Request\r\n"));
    peer.run(&["recent"], 3)
        .complained("no reply: \"HTTP/1.0 400 Bad Request\"");
}

#[test]
fn what_a_daemon_said_before_it_left_counts() {
    // It closes without reading the body, so that the client's writing fails.
    let peer = Peer::new(|peer| {
        peer.hear("+LOADCONF");
        peer.say("500 Line too long.\r\n");
    });
    let body = vec![b'x'; 1 << 20];
    let ran = peer.run_with(&body, &["command", "+LOADCONF"], 1);
    ran.printed(b"500 Line too long.\n");
}

#[test]
fn an_argument_wins_over_the_environment() {
    let peer = answering("GETINFO version", b"250-version=1\r\n250 OK\r\n");
    let mut command = onionbus(&["info", "version", "--socket"]);
    command.arg(peer.socket());
    command.env("ONIONBUS_SOCKET", "/nonexistent/control");
    let output = command.output().expect("it starts");
    peer.finish(output, 0).printed(b"1\n");
}

#[test]
fn a_directory_that_others_can_write_to_is_not_trusted() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let name = format!("onionbus-{}", nix::unistd::geteuid());
    let private = temporary.path().join(name);
    fs::create_dir(&private).expect("a directory");
    for (mode, text) in [
        (0o777, "can be written to by others"),
        (0o700, "No such file"),
    ] {
        fs::set_permissions(&private, Permissions::from_mode(mode)).expect("it is ours");
        let mut command = onionbus(&["controllers", "--socket"]);
        command.arg(private.join("control"));
        command.env("TMPDIR", temporary.path());
        let output = command.output().expect("it starts");
        Ran::new(output, 3).complained(text);
    }
}

#[test]
fn a_closed_pipe_is_no_failure_of_any_command() {
    let completions = onionbus(&["completions", "bash"]);
    let peer = answering("GETINFO a", b"250-a=b\r\n250 OK\r\n");
    for mut command in [peer.command(&["info", "a"]), completions] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command.stdout(writer).output().expect("it starts");
        Ran::new(output, 0).printed(b"");
    }
}

#[test]
fn the_help_shows_examples() {
    for (arguments, text) in [
        (&["--help"][..], "Exit codes:"),
        (&["post", "--help"], "Examples:"),
        (&["serve", "--help"], "ONIONBUS_SOCKET"),
    ] {
        let output = onionbus(arguments).output().expect("it starts");
        let help = String::from_utf8(Ran::new(output, 0).out).expect("text");
        assert!(help.contains(text), "{help}");
    }
}
