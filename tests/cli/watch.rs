//! `onionbus watch`: whole events, as they come.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use crate::answering;
use crate::peer::Peer;

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
        peer.say_until_closed("650 POSTMESSAGE 2 a @all x\r\n");
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

/// Checks that a text begins with a time in UTC, and returns the rest.
#[track_caller]
fn behind_time(text: &str) -> &str {
    let (time, rest) = text.split_at(24);
    let form = time.replace(|octet: char| octet.is_ascii_digit(), "d");
    assert_eq!(form, "dddd-dd-ddTdd:dd:dd.dddZ", "{text}");
    rest
}

#[test]
fn each_event_can_have_its_time() {
    const REPLY: &[u8] = b"250 OK\r\n650 SIGNAL DUMP\r\n650-CONF_CHANGED\r\n650-A=b\r\n650 OK\r\n";
    let watch = |arguments: &[&str]| {
        let peer = Peer::new(|peer| {
            peer.hear("SETEVENTS X");
            peer.say(REPLY);
            peer.until_closed();
        });
        let ran = peer.run(&[arguments, &["--count", "2", "X"]].concat(), 0);
        String::from_utf8(ran.out).expect("text")
    };
    let printed = watch(&["watch", "--time"]);
    let (first, second) = printed.split_once('\n').expect("two events");
    assert_eq!(behind_time(first), " 650 SIGNAL DUMP");
    assert_eq!(behind_time(second), " 650-CONF_CHANGED\n650-A=b\n650 OK\n");
    let printed = watch(&["watch", "--time", "--json"]);
    let first = printed.strip_prefix("{\"time\":\"").expect("the time");
    assert!(
        behind_time(first).starts_with("\",\"event\":\"SIGNAL\","),
        "{printed}"
    );
}
