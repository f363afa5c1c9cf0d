//! How values, lists and replies are printed.

use crate::answering;
use crate::peer::Peer;

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

#[test]
fn nobody_forges_a_row_of_a_table() {
    let detail =
        b"250+controllers/detail=\r\nNAME=a UID=4294967294 PROGRAM=\"x\\nb  root\\x1b[2J\"\r\n\
                   .\r\n250 OK\r\n";
    let ran = answering("GETINFO controllers/detail", detail).run(&["controllers", "--long"], 0);
    let out = String::from_utf8(ran.out).expect("text");
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains(" x\\nb  root\\x1b[2J "), "{out}");

    let status = b"250+status=\r\nSOCKET=\"/run/a\\ntor  up\"\r\n.\r\n250 OK\r\n";
    let ran = answering("GETINFO status", status).run(&["status"], 0);
    let out = String::from_utf8(ran.out).expect("text");
    assert!(out.contains("\nsocket       /run/a\\ntor  up\n"), "{out}");
}
