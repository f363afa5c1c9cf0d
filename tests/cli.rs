//! The client commands against a daemon that follows a script: every octet of both sides.

mod peer;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::mpsc;

use hmac::{Hmac, KeyInit, Mac};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use peer::{Conversation, Peer, Ran, onionbus};
use sha2::Sha256;

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
fn post_joins_the_words() {
    let peer = answering("POSTMESSAGE @all hello  big --world", b"250 OK\r\n");
    peer.run(&["post", "@all", "hello ", "big", "--world"], 0)
        .printed(b"");
}

#[test]
fn a_message_is_octets() {
    let text: Vec<u8> = (1..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    let line = [b"POSTMESSAGE @a ", &text[..]].concat();
    let peer = Peer::new(move |peer| {
        peer.hear(line);
        peer.say("250 OK\r\n");
    });
    let arguments = ["post", "@a"].map(OsStr::new);
    let text = OsStr::from_bytes(&text);
    peer.run(&[arguments[0], arguments[1], text], 0)
        .printed(b"");
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
fn no_daemon_exits_3_and_says_how_to_get_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("control");
    let mut command = onionbus(&["controllers", "--socket"]);
    let output = command.arg(&socket).output().expect("it starts");
    let ran = Ran::new(output, 3);
    ran.complained(&format!("no daemon answers at {}", socket.display()));
    ran.complained("`onionbus serve`");
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
fn each_line_of_standard_input_is_a_message() {
    let peer = Peer::new(|peer| {
        for text in ["one", " two ", "caf\u{e9}", "last"] {
            peer.hear(format!("POSTMESSAGE @all {text}"));
            peer.say("250 OK\r\n");
        }
    });
    let input = "one\n two \ncaf\u{e9}\nlast".as_bytes();
    peer.run_with(input, &["post", "@all"], 0).printed(b"");
}

#[test]
fn a_line_that_is_typed_goes_out_at_once() {
    let (answered, wait_for_answer) = mpsc::channel();
    let peer = Peer::new(move |peer| {
        peer.hear("POSTMESSAGE @all one");
        answered.send(()).expect("the test waits for it");
        peer.say("552 no\r\n");
    });
    let mut command = peer.command(&["post", "@all"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut stdin, b"one\n").expect("it reads");
    wait_for_answer.recv().expect("the line came");
    // It ends by the refusal, while its standard input is still open.
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    drop(stdin);
    let output = child.wait_with_output().expect("it has ended");
    peer.finish(output, 1).complained("line 1: 552 no");
}

#[test]
fn ten_thousand_lines_never_block_on_a_late_answer() {
    const LINES: usize = 10_000;
    // Answers only once the client waits, as late as anybody can.
    let peer = Peer::new(|peer| {
        let (mut heard, mut owed) = (0, 0);
        while heard < LINES || owed > 0 {
            if peer.is_idle() && owed > 0 {
                peer.say("250 OK\r\n".repeat(owed));
                owed = 0;
            }
            if heard < LINES {
                peer.hear(format!(
                    "POSTMESSAGE @all {heard} {}",
                    "x".repeat(heard % 300)
                ));
                heard += 1;
                owed += 1;
                assert!(owed <= 100, "what is in flight is bounded");
            }
        }
        peer.until_closed();
    });
    let line = |number| format!("{number} {}\n", "x".repeat(number % 300));
    let input: String = (0..LINES).map(line).collect();
    let ran = peer.run_with(input.as_bytes(), &["post", "@all"], 0);
    ran.printed(b"");
}

#[test]
fn long_lines_never_block_on_a_peer_that_writes_before_it_reads_on() {
    let peer = Peer::new(|peer| {
        while peer.line().is_some() {
            peer.say("250 OK\r\n");
        }
    });
    let line = "x".repeat(65_536) + "\n";
    let ran = peer.run_with(line.repeat(200).as_bytes(), &["post", "@all"], 0);
    ran.printed(b"");
}

#[test]
fn the_first_refused_line_is_named() {
    let peer = Peer::new(|peer| {
        let mut number = 0;
        while let Some(line) = peer.line() {
            number += 1;
            let refused = line.ends_with(b"bad");
            peer.say(if refused {
                "513 Message too long\r\n"
            } else {
                "250 OK\r\n"
            });
        }
        assert!(number < 1000, "it stops");
    });
    let input = "good\n".repeat(100) + "bad\n" + "bad\n" + &"good\n".repeat(10_000);
    peer.run_with(input.as_bytes(), &["post", "@all"], 1)
        .complained("line 101: 513 Message too long\n");
}

#[test]
fn a_line_that_cannot_be_sent_is_named_and_the_ones_before_are_posted() {
    for (bad, reason) in [
        (b"a\0b\n".to_vec(), "line 2 contains a NUL"),
        (b"a\r\n".to_vec(), "line 2 contains a carriage return"),
        (vec![b'x'; 2 << 20], "line 2 is longer than 1 MiB"),
    ] {
        let peer = answering("POSTMESSAGE @all good", b"250 OK\r\n");
        let input = [b"good\n", &bad[..], b"\nmore\n"].concat();
        peer.run_with(&input, &["post", "--strict", "@all"], 2)
            .complained(reason);
    }
}

#[test]
fn the_line_that_got_no_answer_is_named() {
    let peer = Peer::new(|peer| {
        peer.hear("POSTMESSAGE @all one");
        peer.hear("POSTMESSAGE @all two");
        peer.say("250 OK\r\n250 ");
    });
    peer.run_with(b"one\ntwo\n", &["post", "@all"], 3)
        .complained("line 2 was not answered: the daemon at ");
}

#[test]
fn watch_prints_whole_events_and_counts() {
    let peer = Peer::new(|peer| {
        peer.hear("SETEVENTS POSTMESSAGE CONF_CHANGED");
        peer.say(b"250 OK\r\n650 POSTMESSAGE 1 unset @all \xe9\r\n650-CONF_CHANGED\r\n650-A=b\r\n");
        peer.say("650 OK\r\n650+NS\r\n..x\r\n.\r\n650 OK\r\n650 POSTMESSAGE 2 a @b no\r\n");
        peer.until_closed();
    });
    let arguments = ["watch", "--count", "3", "POSTMESSAGE", "CONF_CHANGED"];
    peer.run(&arguments, 0).printed(
        b"650 POSTMESSAGE 1 unset @all \xe9\n650-CONF_CHANGED\n650-A=b\n650 OK\n\
         650+NS\n..x\n.\n650 OK\n",
    );
}

#[test]
fn watch_shows_what_came_before_the_daemon_left() {
    let reply = b"250 OK\r\n650 POSTMESSAGE 1 a @all \xff\r\n650 POSTM";
    let ran = answering("SETEVENTS POSTMESSAGE", reply).run(&["watch"], 3);
    assert_eq!(ran.out, b"650 POSTMESSAGE 1 a @all \xff\n");
    assert!(ran.err.contains("closed the connection"), "{}", ran.err);
}

#[test]
fn watch_shows_an_event_before_the_next_one_comes_and_is_quiet_on_a_closed_pipe() {
    let (seen, wait_until_seen) = mpsc::channel();
    let peer = Peer::new(move |peer| {
        peer.hear("SETEVENTS POSTMESSAGE");
        peer.say("250 OK\r\n650 POSTMESSAGE 1 a @all x\r\n");
        wait_until_seen.recv().expect("the test says so");
        peer.say("650 POSTMESSAGE 2 a @all x\r\n");
        peer.until_closed();
    });
    let mut command = peer.command(&["watch"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    let read = BufReader::new(stdout).read_line(&mut line);
    read.expect("it is text");
    assert_eq!(line, "650 POSTMESSAGE 1 a @all x\n");
    seen.send(()).expect("the script waits for it");
    let output = child.wait_with_output().expect("it ends");
    peer.finish(output, 0).printed(b"");
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
fn lists_are_printed_without_their_frame() {
    let key = "GETINFO list-controllers";
    let reply = b"250+list-controllers=\r\nunset\r\nalice\r\n.\r\n250 OK\r\n";
    answering(key, reply)
        .run(&["controllers"], 0)
        .printed(b"unset\nalice\n");
    answering(key, b"250-list-controllers=unset\r\n250 OK\r\n")
        .run(&["controllers"], 0)
        .printed(b"unset\n");

    let key = "GETINFO recent-messages";
    let reply = b"250+recent-messages=\r\n650 POSTMESSAGE 1 a @all \xff\r\n\
                  650 POSTMESSAGE 2 a @all .\r\n.\r\n250 OK\r\n";
    answering(key, reply)
        .run(&["recent"], 0)
        .printed(b"650 POSTMESSAGE 1 a @all \xff\n650 POSTMESSAGE 2 a @all .\n");
    answering(key, b"250-recent-messages=\r\n250 OK\r\n")
        .run(&["recent"], 0)
        .printed(b"");
}

#[test]
fn info_prints_values() {
    answering("GETINFO x", b"250-x=a=b \r\n250 OK\r\n")
        .run(&["info", "x"], 0)
        .printed(b"a=b \n");
    answering("GETINFO x", b"250+x=\r\n..\r\n\r\na\r\n.\r\n250 OK\r\n")
        .run(&["info", "x"], 0)
        .printed(b".\n\na\n");
    let reply = b"250-x=1\r\n250+y=\r\na\r\n.\r\n250 OK\r\n";
    answering("GETINFO x y", reply)
        .run(&["info", "x", "y"], 0)
        .printed(b"x=1\ny=\na\n");
}

#[test]
fn options_are_printed_as_the_daemon_spells_them_and_set_quoted() {
    let reply = b"250-BusHistory=100\r\n250-BusLog\r\n250 BusLog=a \"b\"\r\n";
    answering("GETCONF bushistory BusLog", reply)
        .run(&["conf", "get", "bushistory", "BusLog"], 0)
        .printed(b"BusHistory=100\nBusLog\nBusLog=a \"b\"\n");

    let line = r#"SETCONF BusHistory="5" BusLog="a \"b\" \\""#;
    let arguments = ["conf", "set", "BusHistory=5", r#"BusLog=a "b" \"#];
    answering(line, b"250 OK\r\n")
        .run(&arguments, 0)
        .printed(b"");
    answering(line, b"513 Unacceptable option value: no\r\n")
        .run(&arguments, 1)
        .complained("513 Unacceptable option value: no");
}

#[test]
fn command_prints_the_reply_as_it_came() {
    let reply = b"250-a=\xff\r\n250+b=\r\n..\r\n.\r\n250 OK\r\n";
    answering("getinfo  a b ", reply)
        .run(&["command", "getinfo  a b "], 0)
        .printed(b"250-a=\xff\n250+b=\n..\n.\n250 OK\n");
    answering("FOO", b"510 Unrecognized command \"FOO\"\r\n")
        .run(&["command", "FOO"], 1)
        .printed(b"510 Unrecognized command \"FOO\"\n");

    let peer = Peer::new(|peer| {
        for line in ["+LOADCONF", "BusHistory 5", "..dot", "", "end", "."] {
            peer.hear(line);
        }
        peer.say("250 OK\r\n");
    });
    let body = b"BusHistory 5\n.dot\r\n\nend";
    peer.run_with(body, &["command", "+LOADCONF"], 0)
        .printed(b"250 OK\n");
}

/// The daemon's side of SAFECOOKIE with `cookie`, while the file holds another one or the same.
fn asking_for_cookie(in_file: &[u8], cookie: [u8; 32]) -> (tempfile::TempDir, Peer) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a \"cookie\"");
    fs::write(&file, in_file).expect("a file");
    let peer = Peer::before_login(move |peer| {
        let file = file.to_str().expect("a path of ours").replace('"', "\\\"");
        peer.hear("PROTOCOLINFO 1");
        peer.say("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE=");
        peer.say(format!("\"{file}\"\r\n250-VERSION Tor=\"x\"\r\n250 OK\r\n"));
        safe_cookie(peer, &cookie);
    });
    (directory, peer)
}

fn safe_cookie(peer: &mut Conversation, cookie: &[u8]) {
    let Some(line) = peer.line() else { return };
    let nonce = line.strip_prefix(b"AUTHCHALLENGE SAFECOOKIE ");
    let nonce = hex::decode(nonce.expect("a challenge")).expect("hexadecimal");
    let proof = |key: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length");
        mac.update(&[cookie, &nonce, &[7; 32]].concat());
        hex::encode_upper(mac.finalize().into_bytes())
    };
    let hash = proof("Tor safe cookie authentication server-to-controller hash");
    let server_nonce = "07".repeat(32);
    peer.say(format!(
        "250 AUTHCHALLENGE SERVERHASH={hash} SERVERNONCE={server_nonce}\r\n"
    ));
    let Some(line) = peer.line() else { return };
    let hash = proof("Tor safe cookie authentication controller-to-server hash");
    let expected = format!("AUTHENTICATE {hash}").into_bytes();
    assert!(line.eq_ignore_ascii_case(&expected));
    peer.say("250 OK\r\n");
    peer.hear("POSTMESSAGE @all hi");
    peer.say("250 OK\r\n");
}

#[test]
fn a_cookie_is_proved_where_it_is_wanted() {
    let (_directory, peer) = asking_for_cookie(&[5; 32], [5; 32]);
    peer.run(&["post", "@all", "hi"], 0).printed(b"");

    let (_directory, peer) = asking_for_cookie(&[6; 32], [5; 32]);
    peer.run(&["post", "@all", "hi"], 1)
        .complained("does not know the cookie");

    for size in [31, 33] {
        let (_directory, peer) = asking_for_cookie(&vec![5; size], [5; 32]);
        peer.run(&["post", "@all", "hi"], 1)
            .complained("does not have 32 octets");
    }

    let (directory, peer) = asking_for_cookie(&[5; 32], [5; 32]);
    drop(directory);
    peer.run(&["post", "@all", "hi"], 1)
        .complained("the daemon wants the cookie in ");
}

#[test]
fn a_login_that_is_not_known_is_no_riddle() {
    for methods in ["HASHEDPASSWORD", "COOKIE COOKIEFILE=\"/etc/hostname\""] {
        let peer = Peer::before_login(move |peer| {
            peer.hear("PROTOCOLINFO 1");
            peer.say(format!("250-AUTH METHODS={methods}\r\n250 OK\r\n"));
            assert_eq!(peer.line(), None);
        });
        peer.run(&["controllers"], 1)
            .complained("a login that this client");
    }
}

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
