//! `onionbus metrics`: what `GETINFO status` and `controllers/detail` say, as Prometheus reads it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::peer::Peer;
use crate::status::UP;

const DETAIL: &[u8] = b"250+controllers/detail=\r\n\
    ID=1 NAME=a UID=0 UNSENT=3 TOR=1\r\n\
    ID=2 NAME=b UID=4294967294 UNSENT=5 TOR=0\r\n\
    ID=3 NAME=unset UID=0 UNSENT=4 TOR=1\r\n.\r\n250 OK\r\n";

/// A peer that says how it is, and of its controllers `detail`.
fn answering(status: &'static [u8], detail: &'static [u8]) -> Peer {
    Peer::new(move |peer| {
        peer.hear("GETINFO status");
        peer.say(status);
        peer.hear("GETINFO controllers/detail");
        peer.say(detail);
    })
}

/// The lines that are no comments.
fn samples(text: &[u8]) -> String {
    let text = str::from_utf8(text).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

const METRICS: &str = r#"onionbus_build_info{version="0.1.0"} 1
onionbus_start_time_seconds 1769903999
onionbus_tor_up 1
onionbus_controllers 1
onionbus_places 1
onionbus_waiting_bytes 1
onionbus_queue_highest_bytes 1
onionbus_queue_peak_bytes 7
onionbus_memory_kept_bytes 1
onionbus_connections_total 1
onionbus_messages_posted_total 3
onionbus_messages_delivered_total 5
onionbus_messages_dropped_total 1
onionbus_controllers_cut_off_total 1
onionbus_log_lines_lost_total 1
onionbus_read_bytes_total 1
onionbus_written_bytes_total 2
"#;

/// The lines in an order of their own, since that of the users is none.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn each_value_is_a_metric_and_controllers_are_added_up_for_each_user() {
    let ran = answering(UP, DETAIL).run(&["metrics"], 0);
    let users = r#"onionbus_user_controllers{user="root"} 2
onionbus_user_controllers{user="4294967294"} 1
onionbus_user_waiting_bytes{user="root"} 7
onionbus_user_waiting_bytes{user="4294967294"} 5
onionbus_user_tor_connections{user="root"} 2
onionbus_user_tor_connections{user="4294967294"} 0
"#;
    let expected = format!("{METRICS}{users}");
    assert_eq!(sorted(&samples(&ran.out)), sorted(&expected));
    let text = str::from_utf8(&ran.out).expect("text");
    for comment in [
        "# TYPE onionbus_controllers gauge\n",
        "# HELP onionbus_connections_total Controllers that have connected",
        "# TYPE onionbus_connections_total counter\n",
        "# TYPE onionbus_user_controllers gauge\n",
    ] {
        assert!(text.contains(comment), "{text}");
    }
}

#[test]
fn a_policy_may_keep_the_controllers_back_and_a_bus_may_have_no_tor() {
    let refused = b"552 Unrecognized key \"controllers/detail\"\r\n";
    let ran = answering(UP, refused).run(&["metrics"], 0);
    assert_eq!(samples(&ran.out), METRICS);
    let status = b"250+status=\r\nSTARTED=2026-01-31T23:59:59Z\r\nTOR=none\r\n.\r\n250 OK\r\n";
    let ran = answering(status, refused).run(&["metrics"], 0);
    assert!(!samples(&ran.out).contains("tor"), "{}", samples(&ran.out));
    let status = b"250+status=\r\nSTARTED=2026-01-31T23:59:59Z\r\nTOR=down\r\n.\r\n250 OK\r\n";
    let ran = answering(status, refused).run(&["metrics"], 0);
    assert!(samples(&ran.out).contains("\nonionbus_tor_up 0\n"));
}

#[test]
fn a_daemon_that_does_not_say_when_it_began_is_called_so() {
    let peer = Peer::new(|peer| {
        peer.hear("GETINFO status");
        peer.say("250-status=STARTED=soon\r\n250 OK\r\n");
    });
    peer.run(&["metrics"], 1).complained("it was started at");
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("onionbus.prom");
    let path = file.to_str().expect("a path of ours");
    let arguments = ["metrics", "--output", path];
    answering(UP, DETAIL).run(&arguments, 0).printed(b"");
    let first = fs::metadata(&file).expect("it is there");
    // Its reader is another user.
    assert_eq!(first.permissions().mode() & 0o444, 0o444);
    assert!(samples(&fs::read(&file).expect("it can be read")).starts_with(METRICS));

    // The next one comes in its place: whoever has the old one open goes on reading that.
    answering(UP, DETAIL).run(&arguments, 0).printed(b"");
    assert_ne!(fs::metadata(&file).expect("it is there").ino(), first.ino());

    // Half of an answer leaves the old one.
    let kept = fs::read(&file).expect("it can be read");
    answering(UP, b"250+controllers/detail=\r\nID=1 ")
        .run(&arguments, 3)
        .complained("closed the connection");
    assert_eq!(fs::read(&file).expect("it can be read"), kept);
    let names = fs::read_dir(directory.path()).expect("a directory");
    assert_eq!(names.count(), 1, "nothing else is left");

    // What is no file would be one from now on: think of /dev/null.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
    let at_link = [
        "metrics",
        "--output",
        link.to_str().expect("a path of ours"),
    ];
    answering(UP, DETAIL)
        .run(&at_link, 1)
        .complained("only a file can be replaced");
    assert!(link.is_symlink());

    let nowhere = ["metrics", "--output", "/nonexistent/onionbus.prom"];
    answering(UP, DETAIL)
        .run(&nowhere, 1)
        .complained("the metrics cannot be written to /nonexistent/onionbus.prom: No such file");
}
