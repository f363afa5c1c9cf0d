//! `onionbus post`: what is posted, and what becomes of lines that cannot be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::mpsc;

use crate::answering;
use crate::peer::Peer;

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
fn the_number_of_each_message_can_be_printed() {
    const ID: &str = "GETINFO posted-message";
    let peer = Peer::new(|peer| {
        peer.hear("POSTMESSAGE @all hi");
        peer.say("250 OK\r\n");
        peer.hear(ID);
        peer.say("250-posted-message=7\r\n250 OK\r\n");
    });
    peer.run(&["post", "--id", "@all", "hi"], 0).printed(b"7\n");

    let lines = |replies: [&'static str; 4]| {
        Peer::new(move |peer| {
            peer.hear("POSTMESSAGE @all one");
            peer.hear(ID);
            peer.hear("POSTMESSAGE @all two");
            peer.hear(ID);
            peer.say(replies.concat());
        })
    };
    let input = b"one\ntwo\n";
    let arguments = ["post", "--id", "@all"];
    let [ok, seven] = ["250 OK\r\n", "250-posted-message=7\r\n250 OK\r\n"];
    let eight = "250-posted-message=8\r\n250 OK\r\n";
    lines([ok, seven, ok, eight])
        .run_with(input, &arguments, 0)
        .printed(b"7\n8\n");
    // A refused one has no number, and the reply is that of the one before.
    let ran = lines([ok, seven, "513 no\r\n", seven]).run_with(input, &arguments, 1);
    assert_eq!(ran.out, b"7\n");
    assert!(ran.err.ends_with("line 2: 513 no\n"), "{}", ran.err);
    let unknown = "552 Unrecognized key \"posted-message\"\r\n";
    lines([ok, unknown, ok, unknown])
        .run_with(input, &arguments, 1)
        .complained("552 Unrecognized key \"posted-message\"");
}

#[test]
fn every_line_is_posted_even_if_nobody_reads_the_numbers() {
    const LINES: usize = 200;
    let peer = Peer::new(|peer| {
        for line in 1..=LINES {
            peer.hear(format!("POSTMESSAGE @all {line}"));
            peer.hear("GETINFO posted-message");
            peer.say("250 OK\r\n250-posted-message=7\r\n250 OK\r\n");
        }
    });
    let input: Vec<_> = (1..=LINES).map(|line| line.to_string()).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("lines");
    std::fs::write(&file, input.join("\n")).expect("it is ours");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = peer.command(&["post", "--id", "@all"]);
    command.stdin(std::fs::File::open(&file).expect("it is there"));
    let output = command.stdout(writer).output().expect("it starts");
    peer.finish(output, 0).printed(b"");
}
