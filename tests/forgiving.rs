//! The client commands forgive what can only be meant one way, and say what is so where they
//! cannot.

mod peer;
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use peer::{Peer, Ran, onionbus};
use support::{can, has, install, is_root};
use tempfile::TempDir;

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

/// A directory that everybody may look into, with the program in it.
fn open_to_strangers() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    set_mode(directory.path(), 0o755);
    let program = directory.path().join("program");
    install(env!("CARGO_BIN_EXE_onionbus").as_ref(), &program);
    (directory, program)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn who_may_not_connect_is_told_who_may() {
    if !is_root() {
        return;
    }
    let (directory, program) = open_to_strangers();
    let parent = directory.path().join("parent");
    fs::create_dir(&parent).expect("it is ours");
    let socket = parent.join("control");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    // Debian's group `daemon`, of the user `daemon`, is 1 everywhere.
    for path in [&parent, &socket] {
        chown(path, None, Some(1)).expect("it is ours");
    }
    let is_told = |mode: u32, socket_mode: u32, user: u32, told: &str| {
        set_mode(&parent, mode);
        set_mode(&socket, socket_mode);
        let mut command = Command::new(&program);
        command
            .env_remove("ONIONBUS_SOCKET")
            .uid(user)
            .gid(STRANGER);
        command.args(["controllers", "--socket"]).arg(&socket);
        let ran = Ran::new(command.output().expect("it starts"), 3);
        ran.complained("Permission denied");
        ran.complained(&told.replace("DIR", &parent.display().to_string()));
    };
    for (mode, socket_mode, user, told) in [
        (
            0o755,
            0o660,
            STRANGER,
            "`sudo adduser $USER daemon`, and log in again",
        ),
        (
            0o755,
            0o660,
            1,
            "You are one, but have been none when you logged in: log in again",
        ),
        (0o755, 0o600, STRANGER, "Only user root may connect"),
        (0o711, 0o600, STRANGER, "Only user root may connect"),
        (0o700, 0o660, STRANGER, "Only user root may look into DIR"),
        (
            0o710,
            0o660,
            STRANGER,
            "Only members of the group daemon may look into DIR: become one",
        ),
        (
            0o710,
            0o660,
            1,
            "Only members of the group daemon may look into DIR. You are one",
        ),
    ] {
        is_told(mode, socket_mode, user, told);
    }
    // Nobody is sent into root's own group.
    for path in [&parent, &socket] {
        chown(path, None, Some(0)).expect("it is ours");
    }
    is_told(0o755, 0o660, STRANGER, "Only user root may connect");
    is_told(0o750, 0o660, STRANGER, "Only user root may look into DIR");
}

/// The program as a stranger whose daemon would listen below `own`, where the system's does in
/// `system`. `None` where that cannot be had.
fn beside_the_systems(program: &Path, own: &Path, system: &Path) -> Option<Command> {
    let script = "mount -t tmpfs tmpfs /run && mkdir /run/onionbus && \
                  mount --bind \"$0\" /run/onionbus && exec \"$@\"";
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]);
    let mut is_possible = || probe.output().is_ok_and(|output| output.status.success());
    if !is_root() || !has("setpriv") || !can("a mount namespace", is_possible()) {
        return None;
    }
    set_mode(system, 0o755);
    if system.join("control").exists() {
        set_mode(&system.join("control"), 0o666);
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(system);
    let stranger = STRANGER.to_string();
    command.args(["setpriv", "--reuid", &stranger, "--regid", &stranger]);
    command.arg("--clear-groups").arg(program);
    command.env_remove("ONIONBUS_SOCKET");
    command.env("XDG_RUNTIME_DIR", own);
    Some(command)
}

#[test]
fn the_systems_daemon_is_used_where_there_is_no_other() {
    let (directory, program) = open_to_strangers();
    let peer = Peer::new(|peer| {
        // Nobody is there to ask where this cannot be tried.
        if let Some(line) = peer.line() {
            assert_eq!(line, b"GETINFO list-controllers");
            peer.say("250-list-controllers=x\r\n250 OK\r\n");
        }
    });
    let socket = peer.socket();
    let system = socket.parent().expect("a directory");
    if let Some(mut command) = beside_the_systems(&program, directory.path(), system) {
        let output = command.arg("controllers").output().expect("it starts");
        peer.finish(output, 0).printed(b"x\n");
    }
}

#[test]
fn the_systems_daemon_is_named_where_another_was_meant() {
    let (directory, program) = open_to_strangers();
    let system = tempfile::tempdir().expect("a temporary directory");
    let _listener = UnixListener::bind(system.path().join("control")).expect("a socket");
    // Nobody listens any more.
    let stale = directory.path().join("onionbus/control");
    fs::create_dir(directory.path().join("onionbus")).expect("it is ours");
    drop(UnixListener::bind(&stale).expect("a socket"));
    set_mode(&stale, 0o666);
    for (arguments, path) in [
        (
            &["controllers"][..],
            stale.to_str().expect("a path of ours"),
        ),
        (
            &["controllers", "--socket", "/nonexistent/x"],
            "/nonexistent/x",
        ),
    ] {
        let Some(mut command) = beside_the_systems(&program, directory.path(), system.path())
        else {
            return;
        };
        let ran = Ran::new(command.args(arguments).output().expect("it starts"), 3);
        ran.complained(&format!("no daemon answers at {path}"));
        ran.complained("The system has one at /run/onionbus/control: name that with --socket.");
    }
}

#[test]
fn who_has_no_daemon_anywhere_is_told_how_to_start_one() {
    let (directory, program) = open_to_strangers();
    let system = tempfile::tempdir().expect("a temporary directory");
    let is_told_to_start_one = || {
        let named = &["controllers", "--socket", "/nonexistent/x"][..];
        for arguments in [&["controllers"][..], named] {
            let command = beside_the_systems(&program, directory.path(), system.path());
            let Some(mut command) = command else { return };
            let ran = Ran::new(command.args(arguments).output().expect("it starts"), 3);
            ran.complained("Start one with `onionbus serve`, or name its socket");
        }
    };
    is_told_to_start_one();
    // The file that a killed daemon leaves.
    drop(UnixListener::bind(system.path().join("control")).expect("a socket"));
    is_told_to_start_one();
}

#[test]
fn a_tor_itself_at_the_other_end_is_recognised_and_so_is_a_policy() {
    for (arguments, asked, refusal) in [
        (
            &["controllers"][..],
            "GETINFO list-controllers",
            "552 Unrecognized key \"list-controllers\"",
        ),
        (
            &["post", "@a", "x"],
            "POSTMESSAGE @a x",
            "510 Unrecognized command \"POSTMESSAGE\"",
        ),
        (
            &["post", "@a"],
            "POSTMESSAGE @a x",
            "510 Unrecognized command \"POSTMESSAGE\"",
        ),
        (
            &["post", "--as", "me", "@a", "x"],
            "CONTROLLERNAME me",
            "510 Unrecognized command \"CONTROLLERNAME\"",
        ),
        (
            &["watch"],
            "SETEVENTS POSTMESSAGE",
            "552 Unrecognized event \"POSTMESSAGE\"",
        ),
        (
            &["watch", "BW", "controller"],
            "SETEVENTS BW controller",
            "552 Unrecognized event \"controller\"",
        ),
    ] {
        for (answer, told) in [
            (
                "552 Unrecognized key \"posted-message\"\r\n",
                "No onionbus answers at ",
            ),
            (
                "250-posted-message=0\r\n250 OK\r\n",
                "The policy of this bus refuses it",
            ),
        ] {
            let peer = Peer::new(move |peer| {
                peer.hear(asked);
                peer.say(format!("{refusal}\r\n"));
                peer.hear("GETINFO posted-message");
                peer.say(answer);
            });
            let ran = peer.run_with(b"x\n", arguments, 1);
            ran.complained(refusal);
            ran.complained(told);
        }
    }
}

#[test]
fn a_name_that_is_only_wrong_is_nobodys_fault() {
    let refusal = b"552 Unrecognized event \"POSTMESAGE\"\r\n";
    let arguments = ["watch", "CONTROLLER", "POSTMESAGE"];
    let ran = answering("SETEVENTS CONTROLLER POSTMESAGE", refusal).run(&arguments, 1);
    assert_eq!(ran.err, "onionbus: 552 Unrecognized event \"POSTMESAGE\"\n");
    // Nor does it matter that it cannot be found out.
    let refusal = b"552 Unrecognized key \"status\"\r\n";
    let ran = answering("GETINFO status", refusal).run(&["status"], 1);
    assert_eq!(ran.err, "onionbus: 552 Unrecognized key \"status\"\n");
}

#[test]
fn an_event_that_only_a_tor_has_is_said_not_to_come() {
    let peer = Peer::new(|peer| {
        // An event between the two would be missed the other way round.
        peer.hear("GETCONF BusTor");
        peer.say("250 BusTor=none\r\n");
        peer.hear("SETEVENTS BW CIRC");
        peer.say("250 OK\r\n650 BW 1 2\r\n");
    });
    let ran = peer.run(&["watch", "--count", "1", "BW", "CIRC"], 0);
    assert_eq!(ran.out, b"650 BW 1 2\n");
    assert!(ran.err.contains("so no CIRC will come"), "{}", ran.err);
}

#[test]
fn what_the_daemon_does_not_know_may_have_been_meant_otherwise() {
    let cases: [(&[&str], _, _, _, _, _); 5] = [
        (
            &["info", "vresion"],
            "GETINFO vresion",
            "552 Unrecognized key \"vresion\"",
            "info/names",
            "uptime -- The time.\r\nversion -- The version.",
            "version",
        ),
        (
            &["conf", "get", "BusHistry"],
            "GETCONF BusHistry",
            "552 Unrecognized configuration key \"BusHistry\"",
            "config/names",
            "BusHistory Integer\r\nORPort LineList",
            "BusHistory",
        ),
        (
            &["conf", "set", "OrPrt=1"],
            "SETCONF OrPrt=\"1\"",
            "552 Unrecognized option: Unknown option 'OrPrt'.  Failing.",
            "config/names",
            "BusHistory Integer\r\nORPort LineList",
            "ORPort",
        ),
        (
            &["watch", "STREM"],
            "SETEVENTS STREM",
            "552 Unrecognized event \"STREM\"",
            "events/names",
            "CIRC STREAM",
            "STREAM",
        ),
        (
            &["command", "SIGNAL", "NEWNIM"],
            "SIGNAL NEWNIM",
            "552 Unrecognized signal code \"NEWNIM\"",
            "signal/names",
            "RELOAD NEWNYM",
            "NEWNYM",
        ),
    ];
    for (arguments, sent, refusal, key, names, meant) in cases {
        let peer = Peer::new(move |peer| {
            peer.hear(sent);
            peer.say(format!("{refusal}\r\n"));
            peer.hear(format!("GETINFO {key}"));
            peer.say(format!("250+{key}=\r\n{names}\r\n.\r\n250 OK\r\n"));
        });
        let ran = peer.run(arguments, 1);
        let hint = format!("did you mean {meant}?\n");
        if arguments[0] == "command" {
            assert_eq!(ran.out, format!("{refusal}\n").as_bytes());
            assert_eq!(ran.err, format!("onionbus: {hint}"));
        } else {
            assert_eq!(ran.err, format!("onionbus: {refusal}\n{hint}"));
        }
    }
}

#[test]
fn a_policy_may_be_why_something_is_not_known() {
    for (grants, is_told) in [
        (
            "250+policy=\r\nAllow getinfo version\r\n.\r\n250 OK\r\n",
            true,
        ),
        (
            "250+policy=\r\nAllow all\r\nDeny busconf\r\n.\r\n250 OK\r\n",
            true,
        ),
        ("250+policy=\r\nAllow all\r\n.\r\n250 OK\r\n", false),
        ("250-policy=Allow all\r\n250 OK\r\n", false),
        ("552 Unrecognized key \"policy\"\r\n", false),
    ] {
        let peer = Peer::new(move |peer| {
            peer.hear("GETCONF BusHistory");
            peer.say("552 Unrecognized configuration key \"BusHistory\"\r\n");
            peer.hear("GETINFO config/names");
            peer.say("552 Unrecognized key \"config/names\"\r\n");
            peer.hear("GETINFO policy");
            peer.say(grants);
        });
        let ran = peer.run(&["conf", "get", "BusHistory"], 1);
        ran.complained("Unrecognized configuration key");
        let said = &ran.err;
        assert_eq!(said.contains("`onionbus info policy`"), is_told, "{said}");
    }
}

#[test]
fn what_is_like_nothing_is_only_refused() {
    let peer = Peer::new(|peer| {
        peer.hear("GETINFO nonsense");
        peer.say("552 Unrecognized key \"nonsense\"\r\n");
        peer.hear("GETINFO info/names");
        // Nor does it matter that the names cannot be had.
        peer.say("552 no\r\n");
    });
    let ran = peer.run(&["info", "nonsense"], 1);
    assert_eq!(ran.err, "onionbus: 552 Unrecognized key \"nonsense\"\n");
}
