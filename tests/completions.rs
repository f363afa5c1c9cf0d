//! Shells complete the program's arguments and the names that the daemon knows, as its scripts in
//! `contrib` tell them.

mod peer;
mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use peer::{Peer, Ran, onionbus};
use support::terminal::Terminal;
use support::{Place, has};

/// The scripts in `contrib`, by their shells.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", "onionbus.bash"),
    ("zsh", "_onionbus"),
    ("fish", "onionbus.fish"),
];

fn script(name: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/completions");
    scripts.join(name)
}

#[test]
fn the_completions_in_contrib_are_the_programs() {
    for (shell, file) in SCRIPTS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
        let output = command.args(["completions", shell]).output();
        let printed = output.expect("it starts").stdout;
        let kept = std::fs::read(script(file)).expect("it is there");
        // Not assert_eq: nobody reads two scripts as octets.
        assert!(
            printed == kept,
            "run: onionbus completions {shell} > contrib/completions/{file}"
        );
    }
}

/// A shell that finds this program and the daemon of `place`, and nothing of its user's.
fn shell(place: &Place, name: &str, arguments: &[&str]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_onionbus"));
    let mut path = program.parent().expect("it has one").as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.args(arguments).env("PATH", path);
    command
        .env("HOME", place.path(""))
        .current_dir(place.path(""));
    command.env_remove("ONIONBUS_SOCKET").env("PS1", "ready ");
    command
}

/// Types lines with TABs in them, and sees that they do what is meant.
fn complete(place: &Place, mut shell: Terminal) {
    let daemon = place.daemon();
    let mut alice = daemon.named("alice");
    alice.ok("SETEVENTS POSTMESSAGE");
    shell.shows(&["ready "]);
    let socket = place.socket();
    let socket = socket.display();
    // The socket of the line counts, and the variable where there is none.
    shell.types(&format!("onionbus conf set --socket {socket} BusHis\t7\r"));
    shell.shows(&["ready "]);
    shell.types(&format!("export ONIONBUS_SOCKET={socket}\r"));
    shell.shows(&["ready "]);
    shell.types("onionbus conf get BusHis\t\r");
    shell.shows(&["BusHistory=7"]);
    shell.types("onionbus info process/p\t\r");
    shell.shows(&[&format!("{}\r\n", daemon.pid())]);
    shell.types("onionbus command GETCONF BusHis\t\r");
    shell.shows(&["250 BusHistory=7"]);
    shell.types("onionbus post @ali\thi\r");
    assert_eq!(alice.reply(), "650 POSTMESSAGE 1 unset @alice hi");
    shell.types("onionbus post @\tl hi\r");
    assert_eq!(alice.reply(), "650 POSTMESSAGE 2 unset @all hi");
    // All else is as it was.
    shell.types("onionbus comp\tba\t | grep -c '^_onionbus() '\r");
    shell.shows(&["1\r\n"]);
    place.file("option-file", "BusHistory 7\n");
    shell.types("onionbus che\topt\t\r");
    shell.shows(&["option-file: ok"]);
    shell.types("exit\r");
    shell.ends(0);
}

/// What can stand in the place of the last word.
#[track_caller]
fn names(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let names = Ran::new(output, 0).out;
    String::from_utf8(names).expect("names")
}

#[test]
fn names_stand_where_a_command_has_them() {
    let place = Place::new();
    let daemon = place.daemon();
    let _alice = daemon.named("alice");
    for (line, expected) in [
        ("post @al", "@alice\n@all\n"),
        ("post --id --as bob @AL", "@alice\n@all\n"),
        ("watch --count 1 POSTM", "POSTMESSAGE\n"),
        ("watch BW posTM", "POSTMESSAGE\n"),
        ("info version process/p", "process/pid\n"),
        ("conf get busHis", "BusHistory\n"),
        ("conf set BusLog=notice BusHis", "BusHistory=\n"),
        ("command getinf", "GETINFO\n"),
        ("command SETEVENTS BW POSTM", "POSTMESSAGE\n"),
        // Other things than names.
        ("post --as al", ""),
        ("post --id", ""),
        ("post @all al", ""),
        ("info version --socket ver", ""),
        ("watch --count P", ""),
        ("conf g", ""),
        ("check ver", ""),
    ] {
        let mut command = onionbus(&["completions", "bash", "--", "onionbus", "--socket"]);
        command.arg("~/control").args(line.split(' '));
        command.env("HOME", place.path(""));
        assert_eq!(names(command), expected, "{line}");
    }
}

#[test]
fn nothing_is_completed_that_a_shell_would_carry_out() {
    let peer = Peer::new(|peer| {
        peer.hear("GETINFO info/names");
        peer.say("250+info/names=\r\nver$(id) -- x\r\nver;id -- x\r\n");
        peer.say("version -- x\r\n.\r\n250 OK\r\n");
    });
    let command = peer.command(&["completions", "bash", "--", "onionbus", "info", "ver"]);
    assert_eq!(names(command), "version\n");
    peer.end();
}

#[test]
fn nothing_is_said_where_no_daemon_is() {
    let mut command = onionbus(&[
        "completions",
        "bash",
        "--",
        "onionbus",
        "info",
        "--socket",
        "/nonexistent",
        "",
    ]);
    let output = command.output().expect("it starts");
    Ran::new(output, 0).printed(b"");
}

#[test]
fn bash_completes_the_names_of_the_moment() {
    if !has("bash") {
        return;
    }
    let place = Place::new();
    let bash = shell(&place, "bash", &["--norc", "--noprofile", "-i"]);
    let mut bash = Terminal::new(bash);
    bash.types(&format!(". {}\r", script("onionbus.bash").display()));
    bash.shows(&["ready "]);
    complete(&place, bash);
}

#[test]
fn zsh_completes_the_names_of_the_moment() {
    if !has("zsh") {
        return;
    }
    let place = Place::new();
    let zsh = shell(&place, "zsh", &["-f", "-i"]);
    let mut zsh = Terminal::new(zsh);
    let directory = script("");
    zsh.types(&format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -u -D\r",
        directory.display()
    ));
    zsh.shows(&["ready "]);
    complete(&place, zsh);
}

#[test]
fn fish_completes_the_names_of_the_moment() {
    if !has("fish") {
        return;
    }
    let place = Place::new();
    let daemon = place.daemon();
    let _alice = daemon.named("alice");
    let socket = place.socket();
    let lines = format!(
        "source {}
        complete -C 'onionbus --socket {socket} post @al'
        set -x ONIONBUS_SOCKET {socket}
        complete -C 'onionbus conf set BusHis'
        complete -C 'onionbus info process/p'
        complete -C 'onionbus watch POSTM'
        complete -C 'onionbus command SETEVENTS POSTM'
        complete -C 'onionbus info --socket con'
        complete -C 'onionbus check con'
        complete -C 'onionbus info control'",
        script("onionbus.fish").display(),
        socket = socket.display()
    );
    let output = shell(&place, "fish", &["--no-config", "-c", &lines]).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "@alice\n@all\nBusHistory=\nprocess/pid\nPOSTMESSAGE\nPOSTMESSAGE\ncontrol\ncontrol\ncontrollers/detail\n"
    );
}
