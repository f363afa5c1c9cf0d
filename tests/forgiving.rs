//! The client commands forgive what can only be meant one way, and say what is so where they
//! cannot.

mod peer;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use peer::{Peer, Ran, onionbus};

/// Somebody who is neither root nor in any group of ours.
const STRANGER: u32 = 64_600;

fn answering(line: &'static str, reply: &'static [u8]) -> Peer {
    Peer::new(move |peer| {
        peer.hear(line);
        peer.say(reply);
    })
}

#[test]
fn a_socket_may_be_named_before_the_command() {
    let peer = answering("GETINFO version", b"250-version=1\r\n250 OK\r\n");
    let socket = peer.socket();
    let socket = socket.to_str().expect("a path of ours");
    let output = onionbus(&["--socket", socket, "info", "version"]).output();
    peer.finish(output.expect("it starts"), 0).printed(b"1\n");
    let useless = onionbus(&["--socket", socket, "check", "x"]).output();
    Ran::new(useless.expect("it starts"), 2).complained("commands that need a daemon");
}

#[test]
fn help_is_found_in_both_ways() {
    for arguments in [["help", "serve"], ["serve", "--help"]] {
        let output = onionbus(&arguments).output().expect("it starts");
        let ran = Ran::new(output, 0);
        assert!(String::from_utf8_lossy(&ran.out).contains("--tor <ADDRESS>"));
    }
}

#[test]
fn a_command_needs_no_quotes() {
    let peer = answering("GETINFO version  uptime", b"250-version=1\r\n250 OK\r\n");
    peer.run(&["command", "GETINFO", "version ", "uptime"], 0)
        .printed(b"250-version=1\n250 OK\n");
}

#[test]
fn a_name_is_a_name() {
    let peer = Peer::new(|peer| {
        peer.hear("CONTROLLERNAME bob");
        peer.say("250 OK\r\n");
        peer.hear("POSTMESSAGE @a x");
        peer.say("250 OK\r\n");
    });
    peer.run(&["post", "--name", "bob", "@a", "x"], 0)
        .printed(b"");
}

#[test]
fn the_file_to_check_needs_no_option() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("conf");
    fs::write(&file, "BusHistory 5\n").expect("it is ours");
    let file = file.to_str().expect("a path of ours");
    for arguments in [&["check", file][..], &["check", "--config", file]] {
        let output = onionbus(arguments).output().expect("it starts");
        Ran::new(output, 0).printed(format!("{file}: ok\n").as_bytes());
    }
    for arguments in [&["check"][..], &["check", file, "--config", file]] {
        Ran::new(onionbus(arguments).output().expect("it starts"), 2).complained("<FILE>");
    }
}

#[test]
fn empty_lines_and_ends_of_other_systems_are_no_matter() {
    let post = |input: &[u8], arguments: &[&str], code| {
        let peer = Peer::new(|peer| {
            while let Some(line) = peer.line() {
                let is_bad = !line.ends_with(b" ok");
                peer.say(if is_bad { "512 no\r\n" } else { "250 OK\r\n" });
            }
        });
        peer.run_with(input, &[&["post"], arguments, &["@all"]].concat(), code)
    };
    let ran = post(b"\nan ok\r\n\r\n\nok ok", &[], 0);
    ran.complained("onionbus: 3 empty lines were left out\n");
    post(b"\nan ok\n", &[], 0).complained("1 empty line was left out");
    post(b"an ok\n\nbad\n", &[], 1).complained("line 3: 512 no");
    post(b"an ok\n\n", &["--strict"], 1).complained("line 2: 512 no");
    post(b"an ok\r\n", &["--strict"], 2).complained("line 1 contains a carriage return");
}

#[test]
fn what_is_no_socket_is_called_by_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("it is ours");
    for (path, what) in [(directory.path(), "a directory"), (&file, "a file")] {
        let output = onionbus(&["controllers", "--socket"]).arg(path).output();
        let ran = Ran::new(output.expect("it starts"), 3);
        ran.complained(&format!("That is {what} and no socket"));
    }
}

/// Runs the program as a stranger. `None` where that cannot be done.
fn as_stranger(program: &Path, socket: &Path) -> Option<Output> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has root");
        eprintln!("SKIPPED: only root can run something as somebody else");
        return None;
    }
    let mut command = Command::new(program);
    command
        .env_remove("ONIONBUS_SOCKET")
        .uid(STRANGER)
        .gid(STRANGER);
    let output = command
        .arg("controllers")
        .arg("--socket")
        .arg(socket)
        .output();
    Some(output.expect("it starts"))
}

#[test]
fn who_may_not_connect_is_told_who_may() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = directory.path().join("onionbus");
    fs::copy(env!("CARGO_BIN_EXE_onionbus"), &program).expect("it is ours");
    let socket = directory.path().join("control");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (parent, mode, told) in [
        (
            0o755,
            0o660,
            "`sudo adduser $USER daemon`, and log in again",
        ),
        (0o755, 0o600, "Only user 0 may connect"),
        (0o711, 0o600, "Only user 0 may connect"),
    ] {
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        set(directory.path(), parent).expect("it is ours");
        set(&socket, mode).expect("it is ours");
        // Debian's group `daemon` is 1 everywhere.
        if chown(&socket, None, Some(1)).is_err() {
            return;
        }
        let Some(output) = as_stranger(&program, &socket) else {
            return;
        };
        let ran = Ran::new(output, 3);
        ran.complained("Permission denied");
        ran.complained(told);
    }
}

#[test]
fn a_tor_itself_at_the_other_end_is_recognised() {
    for (arguments, asked, answer) in [
        (
            &["controllers"][..],
            "GETINFO list-controllers",
            &b"552 Unrecognized key \"list-controllers\"\r\n"[..],
        ),
        (
            &["post", "@a", "x"],
            "POSTMESSAGE @a x",
            b"510 Unrecognized command \"POSTMESSAGE\"\r\n",
        ),
    ] {
        let ran = answering(asked, answer).run(arguments, 1);
        ran.complained("Unrecognized");
        ran.complained("No onionbus answers at ");
    }
}

#[test]
fn an_event_that_only_a_tor_has_is_said_not_to_come() {
    let peer = Peer::new(|peer| {
        peer.hear("SETEVENTS BW CIRC");
        peer.say("250 OK\r\n");
        peer.hear("GETCONF BusTor");
        peer.say("250 BusTor=none\r\n650 BW 1 2\r\n");
    });
    let ran = peer.run(&["watch", "--count", "1", "BW", "CIRC"], 0);
    assert_eq!(ran.out, b"650 BW 1 2\n");
    assert!(ran.err.contains("so no CIRC will come"), "{}", ran.err);
}
