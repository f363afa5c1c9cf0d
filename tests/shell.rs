//! `onionbus shell`: on a terminal, and as the end of a pipe.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use support::terminal::Terminal;
use support::{Place, eventually};

const PROMPT: &str = "onionbus> ";

/// The shell on a terminal.
fn at_terminal(place: &Place, arguments: &[&str]) -> Terminal {
    let mut command = shell(place);
    command.args(arguments);
    Terminal::new(command)
}

/// The shell, with a home of its own.
fn shell(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command.arg("shell").env("ONIONBUS_SOCKET", place.socket());
    command.env("XDG_STATE_HOME", place.path("home"));
    command
}

/// Runs the shell to its end with `input` on standard input; returns standard output and error.
#[track_caller]
fn piped(place: &Place, input: &str, code: i32) -> (String, String) {
    let mut command = shell(place);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("it is text"));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

fn history(place: &Place) -> (String, u32) {
    let path = place.path("home/onionbus/shell_history");
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    (fs::read_to_string(path).expect("it is text"), mode & 0o777)
}

#[test]
fn events_come_above_the_line_that_is_typed() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut shell = at_terminal(&place, &["--as", "me"]);
    shell.shows(&["Connected to ", PROMPT]);
    shell.types("SETEVENTS POSTMESSAGE\r");
    shell.shows(&["250 OK", PROMPT]);
    shell.types("GETINFO pro");
    shell.shows(&["GETINFO pro"]);
    daemon.connect().ok("POSTMESSAGE @all a \x1b]0;title\x07");
    let event = "650 POSTMESSAGE 1 unset @all a \\x1b]0;title\\x07";
    shell.shows(&[event, PROMPT, "GETINFO pro"]);
    shell.types("cess/pid\r");
    shell.shows(&[
        &format!("250-process/pid={}", daemon.pid()),
        "250 OK",
        PROMPT,
    ]);
    shell.types("help\r");
    shell.shows(&[
        "a command of the control protocol",
        "\n  GETINFO info/names",
        PROMPT,
    ]);
    shell.types("\x04");
    shell.ends(0);
}

#[test]
fn words_are_completed() {
    let place = Place::new();
    let daemon = place.daemon();
    let _alice = daemon.named("alice");
    let mut shell = at_terminal(&place, &["--as", "me"]);
    for (typed, completed) in [
        ("setco\t", "SETCONF "),
        ("bushis\t", "SETCONF BusHistory="),
        ("5\r", "250 OK"),
        ("GETINFO config-f\t", "GETINFO config-file "),
        ("process/p\t\r", "250-process/pid="),
        ("SETEVENTS POSTM\t\r", "250 OK"),
        ("POSTMESSAGE @ali\thi\r", "POSTMESSAGE @alice hi"),
        ("POSTMESSAGE @\t", "@alice  @all    @me"),
        ("me hi\r", "650 POSTMESSAGE 2 me @me hi"),
    ] {
        shell.types(typed);
        shell.shows(&[completed]);
    }
    shell.types("QUIT\r");
    shell.shows(&["250 closing connection"]);
    shell.ends(0);
}

#[test]
fn a_long_paste_is_not_shown_anew_for_each_of_its_characters() {
    // More than one read takes, and less than the 4096 octets that the kernel keeps.
    const LENGTH: usize = 4000;
    let place = Place::new();
    let _daemon = place.daemon();
    let mut shell = at_terminal(&place, &[]);
    shell.shows(&[PROMPT]);
    shell.types(&("POSTMESSAGE @all ".to_owned() + &"x".repeat(LENGTH) + "\r"));
    shell.shows(&["250 OK"]);
    // However it is cut on its way, that is in far more than ten characters.
    let most = LENGTH * LENGTH / 2 / 10;
    assert!(shell.count < most, "{} octets", shell.count);
    shell.types("\x04");
    shell.ends(0);
}

#[test]
fn the_lines_are_kept_without_secrets() {
    let place = Place::new();
    let _daemon = place.daemon();
    let mut shell = at_terminal(&place, &[]);
    shell.shows(&[PROMPT]);
    shell.types("AUTHENTICATE \"secret\"\r");
    shell.shows(&["250 OK", PROMPT]);
    shell.types("SETCONF BusTorPassword=secret\r");
    shell.shows(&["553 ", PROMPT]);
    shell.types("GETINFO vresion\r");
    shell.shows(&["552 Unrecognized key", "did you mean version?", PROMPT]);
    // Pasted in one piece; the body is nobody's to keep.
    shell.types("+LOADCONF\rBusHistory 5\r.\r");
    shell.shows(&["250 OK", PROMPT]);
    shell.types("never sent\x03");
    shell.shows(&[PROMPT]);
    shell.types("\x04");
    shell.ends(0);
    assert_eq!(
        history(&place),
        ("GETINFO vresion\n+LOADCONF\n".into(), 0o600)
    );

    let mut shell = at_terminal(&place, &[]);
    shell.shows(&[PROMPT]);
    shell.types("\x1b[A");
    shell.shows(&["+LOADCONF"]);
    shell.types("\x1b[A\x7f\x7f\x7f\x7f\x7f\x7f\x7fversion\r");
    shell.shows(&["250-version=", PROMPT]);
    shell.types("QUIT\r");
    shell.ends(0);
}

#[test]
fn a_daemon_that_ends_ends_the_prompt() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let mut shell = at_terminal(&place, &[]);
    shell.shows(&[PROMPT]);
    shell.types("half a line");
    shell.shows(&["half a line"]);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ends(0);
    let shown = shell.ends(3);
    assert!(shown.contains("closed the connection"), "{shown}");
}

#[test]
fn a_pipe_is_a_script() {
    let place = Place::new();
    let _daemon = place.daemon();
    let plays = |input: &str, code: i32, out: &str, err: &str| {
        assert_eq!(piped(&place, input, code), (out.to_owned(), err.to_owned()));
    };
    plays(
        "SETCONF BusHistory=7\r\n\nGETCONF BusHistory",
        0,
        "250 OK\n250 BusHistory=7\n",
        "",
    );
    plays(
        "+LOADCONF\nBusHistory 8\n.\nGETCONF BusHistory\nquit\nno\n",
        0,
        "250 OK\n250 BusHistory=8\n250 closing connection\n",
        "",
    );
    plays(
        "GETCONF BusHistry\nSETEVENTS POSTMESAGE\nGETCONF BusHistory\n",
        1,
        "552 Unrecognized configuration key \"BusHistry\"\n\
         552 Unrecognized event \"POSTMESAGE\"\n250 BusHistory=8\n",
        "onionbus: did you mean BusHistory?\nonionbus: did you mean POSTMESSAGE?\n",
    );
    plays(
        "+LOADCONF\nBusHistory 9\n",
        2,
        "",
        "onionbus: standard input ends within a command: a line with a single dot ends it\n",
    );
    // What the last command does to the connection is no failure, also where that is seen before
    // the end of the input.
    let last = Place::new();
    let _ended = last.daemon();
    let mut child = shell(&last)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"SIGNAL HALT\n").expect("it reads");
    eventually("the daemon is gone", || !last.socket().exists());
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    // Further lines are for nobody, and that is one.
    let last = Place::new();
    let _ended = last.daemon();
    piped(&last, "SIGNAL HALT\nGETINFO version\n", 3);
    // An event comes before or after the reply to its cause, and another reply is behind both.
    let input = "SETEVENTS POSTMESSAGE\nPOSTMESSAGE @all hi\nGETCONF BusHistory\n";
    let (out, _) = piped(&place, input, 0);
    assert!(out.contains("650 POSTMESSAGE 1 unset @all hi\n"), "{out}");
    assert!(!place.path("home").exists(), "a script is no history");
}
