//! `--json`: an object a line, and octets that are not UTF-8 in it.

use crate::answering;
use crate::peer::Peer;
use crate::status::UP;

#[test]
fn events_are_taken_apart() {
    let peer = Peer::new(|peer| {
        peer.hear("SETEVENTS POSTMESSAGE TOR");
        peer.say(b"250 OK\r\n650 POSTMESSAGE 7 unset @all  \"a\\\\xff\\b\xff caf\xc3\xa9\r\n");
        peer.say("650 POSTMESSAGE x\r\n");
        peer.say("650 CIRC 12 BUILT $4A=a,$4B~b PURPOSE=GENERAL REASON=\"a b\"\r\n");
        peer.say("650-CONF_CHANGED\r\n650-BusHistory=5\r\n650-A\r\n650 OK\r\n");
        peer.say("650+NS\r\nr x\r\n..\r\n.\r\n650 OK\r\n");
        peer.say("650-TWO\r\n650+A=\r\nx\r\n.\r\n650 OK\r\n");
        peer.say("650 NOTICE two  blanks, a=b\r\n");
        peer.say("650+WARN\r\na\r\nb\r\n.\r\n650 OK\r\n650 TOR UP\r\n");
        peer.until_closed();
    });
    let arguments = ["watch", "--json", "--count", "9", "POSTMESSAGE", "TOR"];
    let expected = concat!(
        r#"{"event":"POSTMESSAGE","id":7,"from":"unset","to":"all","text":" \"a\\\\x5cxff\\b\\xff café"}"#,
        "\n",
        r#"{"event":"POSTMESSAGE","words":["x"],"fields":{}}"#,
        "\n",
        r#"{"event":"CIRC","words":["12","BUILT","$4A=a,$4B~b"],"fields":{"PURPOSE":"GENERAL","REASON":"a b"}}"#,
        "\n",
        r#"{"event":"CONF_CHANGED","words":[],"fields":{},"lines":["BusHistory=5","A"]}"#,
        "\n",
        r#"{"event":"NS","words":[],"fields":{},"data":"r x\n.\n"}"#,
        "\n",
        r#"{"event":"TWO","words":[],"fields":{},"lines":["A=\nx\n"]}"#,
        "\n",
        r#"{"event":"NOTICE","text":"two  blanks, a=b"}"#,
        "\n",
        r#"{"event":"WARN","text":"a\nb"}"#,
        "\n",
        r#"{"event":"TOR","words":["UP"],"fields":{}}"#,
        "\n",
    );
    peer.run(&arguments, 0).printed(expected.as_bytes());
}

#[test]
fn messages_that_are_remembered_look_like_events() {
    let reply = b"250+recent-messages=\r\n650 POSTMESSAGE 1 a @all \xff\r\n\
                  650 POSTMESSAGE 2 a @b .\r\n.\r\n250 OK\r\n";
    let expected = concat!(
        r#"{"event":"POSTMESSAGE","id":1,"from":"a","to":"all","text":"\\xff"}"#,
        "\n",
        r#"{"event":"POSTMESSAGE","id":2,"from":"a","to":"b","text":"."}"#,
        "\n",
    );
    let key = "GETINFO recent-messages";
    answering(key, reply)
        .run(&["recent", "--json"], 0)
        .printed(expected.as_bytes());
    answering(key, b"250-recent-messages=\r\n250 OK\r\n")
        .run(&["recent", "--json"], 0)
        .printed(b"");
}

#[test]
fn controllers_are_objects_with_their_names_and_with_all() {
    let reply = b"250+list-controllers=\r\nunset\r\n7\r\n.\r\n250 OK\r\n";
    answering("GETINFO list-controllers", reply)
        .run(&["controllers", "--json"], 0)
        .printed(b"{\"name\":\"unset\"}\n{\"name\":\"7\"}\n");
    let reply =
        b"250-controllers/detail=ID=2 NAME=7 UID=0 PID=4 PROGRAM=\"a \\\"b\\xff\" SECONDS=5 \
                  SOCKET=\"/s\" UNSENT=6 UNREAD=7 TOR=1 EVENTS=BW,CIRC PROFILES= UNIT=\"8\"\r\n\
                  250 OK\r\n";
    let expected = concat!(
        r#"{"id":2,"name":"7","uid":0,"pid":4,"program":"a \"b\\xff","seconds":5,"socket":"/s","#,
        r#""unsent":6,"unread":7,"tor":true,"events":["BW","CIRC"],"profiles":[],"unit":"8","#,
        r#""user":"root"}"#,
        "\n",
    );
    answering("GETINFO controllers/detail", reply)
        .run(&["controllers", "--long", "--json"], 0)
        .printed(expected.as_bytes());
    // At a TCP port nobody knows who it is.
    let reply = b"250-controllers/detail=NAME=a UID=4294967295\r\n250 OK\r\n";
    let expected = "{\"name\":\"a\",\"uid\":4294967295,\"user\":null}\n";
    answering("GETINFO controllers/detail", reply)
        .run(&["controllers", "--long", "--json"], 0)
        .printed(expected.as_bytes());
}

#[test]
fn values_and_options_are_objects_with_key_and_value() {
    let reply = b"250-x=a=b\xff\r\n250+y=\r\na\r\n..\r\n.\r\n250-z=\r\n250 OK\r\n";
    let expected = concat!(
        r#"{"key":"x","value":"a=b\\xff"}"#,
        "\n",
        r#"{"key":"y","value":"a\n."}"#,
        "\n",
        r#"{"key":"z","value":""}"#,
        "\n",
    );
    answering("GETINFO x y z", reply)
        .run(&["info", "--json", "x", "y", "z"], 0)
        .printed(expected.as_bytes());
    let reply = b"250-BusLog=a \"b\"\r\n250-BusLog\r\n250 BusHistory=5\r\n";
    let expected = concat!(
        r#"{"key":"BusLog","value":"a \"b\""}"#,
        "\n",
        r#"{"key":"BusLog","value":null}"#,
        "\n",
        r#"{"key":"BusHistory","value":"5"}"#,
        "\n",
    );
    answering("GETCONF BusLog BusHistory", reply)
        .run(&["conf", "get", "--json", "BusLog", "BusHistory"], 0)
        .printed(expected.as_bytes());
}

#[test]
fn the_status_is_one_object() {
    let expected = concat!(
        r#"{"version":"0.1.0","pid":4711,"started":"2026-01-31T23:59:59Z","seconds":60,"#,
        r#""tor":"up","tor_address":"unix:/run/tor \"control\"","tor_version":"0.4.9.11","#,
        r#""controllers":1,"places":1,"connections":1,"posted":3,"delivered":5,"dropped":1,"#,
        r#""cut_off":1,"waiting":1,"highest_queue":1,"highest_queue_ever":7,"read":1,"#,
        r#""written":2,"kept":1,"log_lost":1,"newer":"x","sockets":["/run/a\\xff","fd:b"]}"#,
        "\n",
    );
    answering("GETINFO status", UP)
        .run(&["status", "--json"], 0)
        .printed(expected.as_bytes());
}

#[test]
fn a_refusal_is_no_object() {
    answering("GETINFO x", b"552 Unrecognized key \"x\"\r\n")
        .run(&["info", "--json", "x"], 1)
        .complained("552 Unrecognized key");
}
