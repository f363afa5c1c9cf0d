//! Whose circuits, streams and services there are, where a policy is in force.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::people::{ALICE, BOB, connect, has_people, place, serve};
use crate::place::{NAME, server};
use crate::support::{Controller, PATIENCE};
use crate::tor_network::{Network, has_network};

/// Opens a stream through Tor as this user of SOCKS (RFC 1929).
#[track_caller]
pub fn stream(proxy: SocketAddr, user: &str, host: &str, port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let with_length = |text: &str| {
        let length = u8::try_from(text.len()).expect("it is short");
        [&[length], text.as_bytes()].concat()
    };
    let mut say = |octets: &[u8], answer: &[u8], more: usize| {
        stream.write_all(octets).expect("it reads");
        let mut came = vec![0; answer.len() + more];
        stream.read_exact(&mut came).expect("it answers");
        assert_eq!(&came[..answer.len()], answer);
    };
    say(&[5, 1, 2], &[5, 2], 0);
    say(
        &[&[1], &with_length(user)[..], &[1, b'x']].concat(),
        &[1, 0],
        0,
    );
    let wish = [&[5, 1, 0, 3], &with_length(host)[..], &port.to_be_bytes()].concat();
    say(&wish, &[5, 0, 0, 1], 4 + 2);
    stream
}

/// Reads events until one begins so, and returns all of them.
#[track_caller]
fn until(controller: &mut Controller, start: &str) -> Vec<String> {
    until_after(Vec::new(), controller, start)
}

/// As [`until`], with what has come already: a reply and the events of its cause are sent by Tor on
/// two connections, and either can be first.
#[track_caller]
pub fn until_after(seen: Vec<String>, controller: &mut Controller, start: &str) -> Vec<String> {
    let mut events = seen;
    while !events.iter().any(|event| event.starts_with(start)) {
        events.push(controller.reply());
    }
    events
}

/// Asks, and passes over events that come before the reply.
#[track_caller]
pub fn ask(controller: &mut Controller, command: &str) -> (String, Vec<String>) {
    controller.send(format!("{command}\r\n"));
    let mut events = Vec::new();
    loop {
        let reply = controller.reply();
        if !reply.starts_with("650") {
            return (reply, events);
        }
        events.push(reply);
    }
}

#[test]
fn each_sees_and_reaches_its_own() {
    if !has_people() || !has_network() {
        return;
    }
    let network = Network::start();
    let grants = "Allow events STREAM:own CIRC:own CIRC_MINOR:own HS_DESC:own\n\
                  Allow getinfo stream-status circuit-status\n\
                  Allow circuits build close own\nAllow streams close own\n\
                  Allow add_onion ports=80\nAllow del_onion own\n";
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nOwn-Socks user=alice\n{grants}\
         Profile b\nMatch user={BOB}\nOwn-Socks user=bob\n{grants}"
    );
    let place = place(
        &policy,
        &format!("BusTor {}", network.client.home.address()),
    );
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    for controller in [&mut alice, &mut bob] {
        controller.ok("SETEVENTS STREAM CIRC CIRC_MINOR HS_DESC");
    }
    let server = server();
    // A stream of alice's.
    let mut streams = vec![stream(network.socks, "alice-1", NAME, server.port())];
    let seen = until(&mut alice, "650 STREAM ");
    let new = seen.last().expect("it was there");
    assert!(
        new.contains(" NEW ") && new.contains("SOCKS_USERNAME=\"alice-1\""),
        "{new}"
    );
    let id = new.split(' ').nth(2).expect("an id").to_owned();
    until(&mut alice, &format!("650 STREAM {id} SUCCEEDED "));
    let (status, _) = ask(&mut alice, "GETINFO stream-status");
    assert!(
        status.starts_with(&format!("250-stream-status={id} SUCCEEDED ")),
        "{status}"
    );
    let circuit = status.split(' ').nth(2).expect("a circuit").to_owned();
    let (status, _) = ask(&mut alice, "GETINFO circuit-status");
    assert!(
        status.starts_with(&format!("250-circuit-status={circuit} BUILT ")),
        "{status}"
    );
    for (command, reply) in [
        (
            "GETINFO stream-status".to_owned(),
            "250-stream-status=\n250 OK",
        ),
        (
            "GETINFO circuit-status".to_owned(),
            "250-circuit-status=\n250 OK",
        ),
        (
            format!("CLOSESTREAM {id} 1"),
            &format!("552 Unknown stream \"{id}\""),
        ),
        (
            format!("CLOSECIRCUIT {circuit}"),
            &format!("552 Unknown circuit \"{circuit}\""),
        ),
    ] {
        // It has heard nothing.
        assert_eq!(bob.ask(&command), reply, "{command}");
    }
    // A circuit of bob's, and a service of alice's.
    let path: Vec<_> = network
        .exits
        .iter()
        .take(2)
        .map(|exit| exit.id.as_str())
        .collect();
    let (built, seen) = ask(&mut bob, &format!("EXTENDCIRCUIT 0 {}", path.join(",")));
    let own = built
        .strip_prefix("250 EXTENDED ")
        .unwrap_or_else(|| panic!("{built}"));
    let seen = until_after(seen, &mut bob, &format!("650 CIRC {own} BUILT "));
    let of_own = |event: &String| event.split(' ').nth(2) == Some(own);
    assert!(seen.iter().all(of_own), "{seen:?}");
    let (status, _) = ask(&mut bob, "GETINFO circuit-status");
    assert!(
        status.starts_with(&format!("250-circuit-status={own} BUILT ")),
        "{status}"
    );
    let (made, events) = ask(
        &mut alice,
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600",
    );
    let service = made.split(['=', '\n']).nth(1).expect("an id").to_owned();
    let events = until_after(events, &mut alice, "650 HS_DESC UPLOADED ");
    let is_of_alice =
        |event: &String| !event.starts_with("650 HS_DESC ") || event.contains(&service);
    assert!(events.iter().all(is_of_alice), "{events:?}");
    let (reply, _) = ask(&mut alice, &format!("CLOSECIRCUIT {own}"));
    assert_eq!(reply, format!("552 Unknown circuit \"{own}\""));
    // A stream of nobody's, and what bob is told after all that.
    streams.push(stream(network.socks, "carol", NAME, server.port()));
    let (reply, seen) = ask(&mut bob, &format!("CLOSECIRCUIT {own}"));
    assert_eq!(reply, "250 OK");
    let seen = until_after(seen, &mut bob, &format!("650 CIRC {own} CLOSED "));
    assert!(seen.iter().all(of_own), "{seen:?}");
    let (reply, seen) = ask(&mut alice, &format!("CLOSESTREAM {id} 1"));
    assert_eq!(reply, "250 OK");
    until_after(seen, &mut alice, &format!("650 STREAM {id} CLOSED "));
}
