//! A NATS server that lets each host be only itself, over TLS: the one of onionbus-bridge(8). And
//! buses whose policy lets a bridge do no more than it needs.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Place, has_nats};

const PAGE: &str = include_str!("../../../man/onionbus-bridge.8");

/// The configuration in the manual page, for the hosts of these tests.
fn authorization() -> String {
    let begin = "authorization {\n";
    let (_, rest) = PAGE.split_once(begin).expect("the page has it");
    let (inside, _) = rest.split_once("\n.Ed").expect("the display ends");
    let conf = format!("{begin}{inside}\n");
    let renamed = [("relays", "test"), ("relay1", "one"), ("relay2", "two")];
    renamed
        .iter()
        .fold(conf, |conf, (from, to)| conf.replace(from, to))
}

fn openssl(place: &Place, arguments: &str) {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split(' '))
        .current_dir(place.path(""));
    let output = command.output().expect("openssl is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
}

/// A certificate authority, and a certificate of the server's that it has signed.
fn certificates(place: &Place) {
    for name in ["ca", "other"] {
        let subject = format!("-subj /CN={name} -keyout {name}.key -out {name}.pem");
        let sign = "-addext basicConstraints=critical,CA:TRUE -nodes -days 2";
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
        openssl(place, &format!("req -x509 {key} {sign} {subject}"));
    }
    openssl(
        place,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=nats \
                    -keyout server.key -out server.csr",
    );
    place.write("ext", "subjectAltName=IP:127.0.0.1\n");
    openssl(
        place,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                    -extfile ext -out server.pem",
    );
}

#[test]
fn each_host_is_only_itself() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    certificates(&place);
    let path = |name: &str| place.path(name).display().to_string();
    let (cert, key) = (path("server.pem"), path("server.key"));
    let tls = format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}");
    let nats = place.nats(&format!("{}\n{tls}", authorization()));
    let url =
        |user: &str, number: u8| format!("tls://{user}:change-me-{number}@127.0.0.1:{}", nats.port);
    let [(one, first_socket), (two, second_socket)] =
        ["one", "two"].map(|host| place.guarded_bus(host));
    let ca = path("ca.pem");
    for host in ["one", "two"] {
        let more = ["--tls-ca", &ca[..], "--create-only"];
        let mut bridge = place.bridge(host, &url("admin", 0), &more);
        let made = bridge.launch();
        assert!(made.end().success(), "{}", made.log.text());
    }
    let more = ["--tls-ca", &ca[..]];
    let mut first = place.bridge("one", &url("one", 1), &more);
    let mut second = place.bridge("two", &url("two", 2), &more);
    first.set("--socket", &first_socket);
    second.set("--socket", &second_socket);
    first.start();
    second.start();
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two hello"), "250 OK");
    assert_eq!(
        bob.message(),
        ("alice_at_one".into(), "@bob".into(), b"hello".to_vec())
    );
    assert_eq!(bob.ask("POSTMESSAGE @all back"), "250 OK");
    assert_eq!(bob.message().2, b"back");
    alice.ask("SETEVENTS POSTMESSAGE");
    assert_eq!(
        alice.message(),
        ("bob_at_two".into(), "@all".into(), b"back".to_vec())
    );
    // A bridge that is killed has what it needs to go on.
    second.kill();
    assert_eq!(alice.ask("POSTMESSAGE @bob_at_two again"), "250 OK");
    second.start();
    assert_eq!(bob.message().2, b"again");
    for bridge in [&mut first, &mut second] {
        let log = bridge.log().text();
        assert!(
            !log.to_lowercase().contains("permissions violation"),
            "{log}"
        );
        // The first message may have arrived before the bridge had written down that it was given.
        let dropped = bridge.stop();
        assert_eq!(
            dropped.lost(),
            dropped.of("in-doubt"),
            "{}",
            dropped.shown()
        );
    }

    // The user of one host cannot be another.
    let mut liar = place.bridge("two", &url("one", 1), &more);
    let process = liar.launch();
    process.log.wait("ermissions Violation");
    process.log.wait("the NATS server does not give the stream");

    // A server that nobody we know has signed for, and a password that is wrong.
    let other = path("other.pem");
    for (url, ca) in [(url("one", 1), &other), (url("one", 2), &ca)] {
        let more = ["--tls-ca", &ca[..], "--create-only"];
        let mut bridge = place.bridge("one", &url, &more);
        let process = bridge.launch();
        assert!(!process.end().success());
        process.log.wait("no NATS server lets this bridge in");
        assert!(
            !process.log.text().contains("change-me"),
            "a password is in the log"
        );
    }
    assert!(Path::new(&path("one.bridge")).is_dir());
}
