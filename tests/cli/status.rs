//! `onionbus status`: what `GETINFO status` says, for people.

use crate::answering;

const KEY: &str = "GETINFO status";

pub const UP: &[u8] = b"250+status=\r\n\
    VERSION=0.1.0\r\nPID=4711\r\nSTARTED=2026-01-31T23:59:59Z\r\nSECONDS=60\r\n\
    TOR=up\r\nTOR_ADDRESS=\"unix:/run/tor \\\"control\\\"\"\r\nTOR_VERSION=\"0.4.9.11\"\r\n\
    SOCKET=\"/run/a\\xff\"\r\nSOCKET=\"fd:b\"\r\n\
    CONTROLLERS=1\r\nPLACES=1\r\nCONNECTIONS=1\r\n\
    POSTED=3\r\nDELIVERED=5\r\nDROPPED=1\r\nCUT_OFF=1\r\n\
    WAITING=1\r\nHIGHEST_QUEUE=1\r\nHIGHEST_QUEUE_EVER=7\r\n\
    READ=1\r\nWRITTEN=2\r\nKEPT=1\r\nLOG_LOST=1\r\n\
    NEWER=x\r\n.\r\n250 OK\r\n";

#[test]
fn each_thing_is_a_line() {
    answering(KEY, UP).run(&["status"], 0).printed(
        "daemon       onionbus 0.1.0, process 4711, since 2026-01-31T23:59:59Z\n\
         tor          0.4.9.11 at unix:/run/tor \"control\"\n\
         socket       /run/a\u{fffd}\n\
         socket       fd:b\n\
         controllers  1 in 1 place, 1 connection since the start\n\
         messages     3 posted, 5 delivered, 1 dropped\n\
         queues       1 octet to be read, 1 of them by one controller; at most 7 since the start\n\
         cut off      1 controller since the start\n\
         traffic      1 octet read, 2 written\n\
         memory       1 octet kept for controllers\n\
         log          1 line lost\n"
            .as_bytes(),
    );
}

#[test]
fn there_are_two_of_a_thing_and_none() {
    let reply =
        b"250+status=\r\nTOR=none\r\nCONTROLLERS=2\r\nPLACES=0\r\nWAITING=2\r\n.\r\n250 OK\r\n";
    let ran = answering(KEY, reply).run(&["status"], 0);
    let out = String::from_utf8(ran.out).expect("text");
    assert!(out.contains("2 in 0 places, 0 connections since"), "{out}");
    assert!(out.contains("2 octets to be read, 0 of them"), "{out}");
    assert!(out.contains("tor          none is configured\n"), "{out}");
}
