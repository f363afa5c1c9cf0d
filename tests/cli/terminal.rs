//! What comes from others reaches no terminal that it could command.

use std::fs::File;
use std::io::Read;

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::peer::Peer;

/// Runs the program on a terminal of its own, and returns all that has come there.
#[track_caller]
fn on_a_terminal(peer: Peer, arguments: &[&str], code: i32) -> Vec<u8> {
    let pty = openpty(None, None).expect("a terminal");
    let mut mode = tcgetattr(&pty.slave).expect("it is one");
    // Else it would put a CR before each LF.
    cfmakeraw(&mut mode);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &mode).expect("it is ours");
    let mut command = peer.command(arguments);
    let slave = || pty.slave.try_clone().expect("a descriptor");
    command.stdout(slave()).stderr(slave());
    let mut child = command.spawn().expect("it starts");
    drop((command, pty.slave));
    let mut out = Vec::new();
    // Once nobody has the other end open, it is EIO that says so.
    let ended = File::from(pty.master).read_to_end(&mut out);
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(nix::libc::EIO));
    let status = child.wait().expect("it is our child");
    let shown = out.escape_ascii().to_string();
    assert_eq!(status.code(), Some(code), "{shown}");
    peer.end();
    out
}

/// A title for the terminal's window, the key that was pressed last, and a C1 control character.
const EVIL: &str = "\x1b]0;owned\x07\tgr\u{fc}n \u{9b}6n\x7f\r";

const SHOWN: &str = "\\x1b]0;owned\\x07\tgr\u{fc}n \\xc2\\x9b6n\\x7f\\r";

#[test]
fn no_control_octet_of_others_reaches_a_terminal_and_each_reaches_a_pipe() {
    let event = format!("650 POSTMESSAGE 1 a @all {EVIL}x\r\n");
    let recent = format!("250+recent-messages=\r\n{event}.\r\n250 OK\r\n");
    let list = format!("250-list-controllers=a{EVIL}\r\n250 OK\r\n");
    let cases: [(&[&str], &str, String, String, i32); 7] = [
        (
            &["watch", "--count", "1"],
            "SETEVENTS POSTMESSAGE",
            format!("250 OK\r\n{event}"),
            format!("650 POSTMESSAGE 1 a @all {EVIL}x\n"),
            0,
        ),
        (
            &["recent"],
            "GETINFO recent-messages",
            recent,
            format!("650 POSTMESSAGE 1 a @all {EVIL}x\n"),
            0,
        ),
        (
            &["controllers"],
            "GETINFO list-controllers",
            list,
            format!("a{EVIL}\n"),
            0,
        ),
        (
            &["info", "version"],
            "GETINFO version",
            format!("250-version={EVIL}0\r\n250 OK\r\n"),
            format!("{EVIL}0\n"),
            0,
        ),
        (
            &["conf", "get", "BusLog"],
            "GETCONF BusLog",
            format!("250 BusLog={EVIL}0\r\n"),
            format!("BusLog={EVIL}0\n"),
            0,
        ),
        (
            &["command", "X"],
            "X",
            format!("510 {EVIL}0\r\n"),
            format!("510 {EVIL}0\n"),
            1,
        ),
        (
            &["post", "@a", "x"],
            "POSTMESSAGE @a x",
            format!("552 {EVIL}0\r\n"),
            format!("onionbus: 552 {EVIL}0\n"),
            1,
        ),
    ];
    for (arguments, hears, says, prints, code) in cases {
        let peer = |says: String| {
            Peer::new(move |peer| {
                peer.hear(hears);
                peer.say(says);
                peer.until_closed();
            })
        };
        let shown = on_a_terminal(peer(says.clone()), arguments, code);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(shown, prints.replace(EVIL, SHOWN), "{arguments:?}");
        let ran = peer(says).run(arguments, code);
        let raw = [&ran.out[..], ran.err.as_bytes()].concat();
        assert_eq!(raw, prints.as_bytes(), "{arguments:?}");
    }
}
