//! People with nothing but socat.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use support::{PATIENCE, Place, has, run};

/// A terminal in which somebody has started socat.
struct Terminal {
    socat: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl Terminal {
    fn open(place: &Place) -> Self {
        let mut socat = Command::new("socat");
        socat.arg("-").arg(address(place));
        socat.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut socat = socat.spawn().expect("it is installed");
        let keyboard = socat.stdin.take().expect("it is piped");
        let printed = BufReader::new(socat.stdout.take().expect("it is piped"));
        let (line, screen) = channel();
        thread::spawn(move || {
            let lines = printed.lines().map_while(Result::ok);
            lines.map(|text| line.send(text)).find(Result::is_err)
        });
        Self {
            socat,
            keyboard,
            screen,
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("it reads");
    }

    #[track_caller]
    fn shows(&self, line: &str) {
        let shown = self.screen.recv_timeout(PATIENCE);
        assert_eq!(shown.as_deref().map(str::trim_end), Ok(line));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails only if it has ended.
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

fn address(place: &Place) -> String {
    format!("UNIX-CONNECT:{}", place.socket().display())
}

#[test]
fn two_terminals_name_themselves_and_talk() {
    if !has("socat") {
        return;
    }
    let place = Place::new();
    let _daemon = place.daemon();
    let [mut alice, mut bob] = [Terminal::open(&place), Terminal::open(&place)];
    for (terminal, name) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        terminal.types(&format!("CONTROLLERNAME {name}"));
        terminal.shows("250 OK");
        terminal.types("SETEVENTS POSTMESSAGE");
        terminal.shows("250 OK");
    }
    alice.types("POSTMESSAGE @bob Hello, Bob!");
    alice.shows("250 OK");
    bob.shows("650 POSTMESSAGE 1 alice @bob Hello, Bob!");
    bob.types("POSTMESSAGE @all  to whom it may concern ");
    bob.shows("250 OK");
    for terminal in [&alice, &bob] {
        terminal.shows("650 POSTMESSAGE 2 bob @all  to whom it may concern");
    }
    bob.types("QUIT");
    bob.shows("250 closing connection");
    assert!(bob.socat.wait().expect("it is our child").success());
    alice.types("POSTMESSAGE @bob Still there?");
    alice.shows("552 Invalid destination controller name");
}

#[test]
fn one_line_in_a_script() {
    if !has("socat") {
        return;
    }
    let place = Place::new();
    let daemon = place.daemon();
    let mut reader = daemon.connect();
    reader.ok("SETEVENTS POSTMESSAGE");
    let shell = |script: &str| run(Command::new("sh").args(["-c", script, "sh", &address(&place)]));
    let posted = shell(r#"printf 'POSTMESSAGE @all one\nPOSTMESSAGE @all two\n' | socat - "$1""#);
    assert_eq!(posted, "250 OK\r\n250 OK\r\n");
    assert_eq!(reader.next_message(), (1, "unset @all one".to_owned()));
    assert_eq!(reader.next_message(), (2, "unset @all two".to_owned()));
    let asked = shell(r#"printf 'GETINFO recent-messages\r\nQUIT\r\n' | socat - "$1""#);
    assert_eq!(
        asked,
        "250+recent-messages=\r\n650 POSTMESSAGE 1 unset @all one\r\n\
         650 POSTMESSAGE 2 unset @all two\r\n.\r\n250 OK\r\n250 closing connection\r\n"
    );
    // A frame: an AUTHENTICATE of no octets, and DONE.
    let framed = shell(r#"printf '\000\000\000\007' | socat - "$1" | od -An -tx1"#);
    assert_eq!(framed.trim(), "00 00 00 01");
}
