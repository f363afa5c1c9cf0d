//! Onion services that are reached through Tor, before its end and after it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Controller, Daemon, PATIENCE, Place};
use crate::tor::{is_connected, serve};
use crate::tor_network::{Network, Node, has_network, port};

/// The most time that a page takes to be there again: several times what it takes on a busy machine.
pub const LONGEST: Duration = Duration::from_secs(90);

/// The time of one try of a client.
const TRY: Duration = Duration::from_secs(5);

/// How Tor ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Kill,
    Halt,
    Term,
}

const ENDS: [End; 3] = [End::Kill, End::Halt, End::Term];

/// Ends a Tor and starts it again. Returns when that one was started.
#[track_caller]
pub fn restart(node: &mut Node, end: End) -> Instant {
    match end {
        End::Kill => node.tor.kill(),
        End::Halt => {
            let mut tor = Controller::at(&node.home.socket());
            tor.ok("AUTHENTICATE");
            tor.send("SIGNAL HALT\r\n");
            node.tor.ends();
        }
        End::Term => {
            kill(Pid::from_raw(node.tor.pid().cast_signed()), Signal::SIGTERM).expect("it runs");
            node.tor.ends();
        }
    }
    let begun = Instant::now();
    node.tor = node.home.start();
    begun
}

/// Starts a web server with one page, which ends with the test process.
fn web(page: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port())).expect("it is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{page}");
            // The request is there by the first read; whoever has gone needs no answer.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// The page of a service, as a client of Tor gets it, if it gets it in this try.
fn page(proxy: SocketAddr, onion: &str) -> Option<String> {
    let mut stream = TcpStream::connect(proxy).ok()?;
    stream.set_read_timeout(Some(TRY)).ok()?;
    let host = format!("{onion}.onion");
    let length = u8::try_from(host.len()).ok()?;
    let request = [&[5, 1, 0, 5, 1, 0, 3, length], host.as_bytes(), &[0, 80]].concat();
    stream.write_all(&request).ok()?;
    let mut answer = [0; 2 + 10];
    stream.read_exact(&mut answer).ok()?;
    if answer[3] != 0 {
        return None;
    }
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

/// The time of vain tries before a client begins anew; Tor does so every ten seconds at most.
const ANEW: Duration = Duration::from_secs(11);

/// Waits until the page of a service can be had, and returns when that was.
#[track_caller]
pub fn is_reachable(network: &Network, onion: &str, content: &str) -> Instant {
    let (begun, mut asked) = (Instant::now(), Instant::now());
    while !page(network.socks, onion).is_some_and(|page| page.contains(content)) {
        assert!(begun.elapsed() < LONGEST, "{onion} is not reachable");
        // A client that has asked each of so few directories too early asks none of them again for a
        // quarter of an hour, unless it begins anew.
        if asked.elapsed() > ANEW {
            asked = Instant::now();
            let mut client = Controller::at(&network.client.home.path().join("control"));
            client.ok("AUTHENTICATE");
            client.ok("SIGNAL NEWNYM");
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Instant::now()
}

/// A controller that hears when services are published.
#[track_caller]
fn listener(daemon: &Daemon) -> Controller {
    let begun = Instant::now();
    loop {
        let mut controller = daemon.connect();
        let reply = controller.ask("SETEVENTS HS_DESC TOR");
        if reply == "250 OK" {
            return controller;
        }
        assert!(reply.starts_with("551 Tor is not reachable: "), "{reply}");
        assert!(begun.elapsed() < PATIENCE, "{reply}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for the event that says that a service is published, and returns when that was.
#[track_caller]
fn is_published(controller: &mut Controller, onion: &str) -> Instant {
    let start = format!("650 HS_DESC UPLOADED {onion} ");
    while !controller.line().starts_with(&start) {}
    Instant::now()
}

/// Makes a service again, as a program does that was told nothing of a bus.
#[track_caller]
fn makes_again(daemon: &Daemon, command: &str) -> (Controller, String) {
    let begun = Instant::now();
    loop {
        let mut controller = daemon.connect();
        let reply = controller.ask(command);
        if reply.starts_with("250") {
            return (controller, reply);
        }
        // The one before may not have been seen to end.
        let is_early = reply.starts_with("551 Tor is not reachable: ") || reply.starts_with("550 ");
        assert!(is_early && begun.elapsed() < PATIENCE, "{reply}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_page_is_reachable_again_after_each_end_of_tor() {
    if !has_network() {
        return;
    }
    let network = Network::start();
    let mut node = network.another("0");
    let server = web("here it is");
    // Each takes five seconds: the ways to end are shared between the two.
    let (one, others) = ENDS.split_at(1);
    for (keeps_controllers, ends) in [(false, one), (true, others)] {
        let place = Place::new();
        let daemon = serve(&place, &node.home)
            .set("BusKeepOnions 600")
            .set(&format!(
                "BusKeepControllers {}",
                u8::from(keeps_controllers)
            ))
            .ready();
        is_connected(&daemon);
        let mut heard = listener(&daemon);
        let mut owner = daemon.connect();
        let made = owner.ask(&format!("ADD_ONION NEW:ED25519-V3 Port=80,{server}"));
        let value = |name: &str| {
            let mut lines = made.lines();
            let value = lines.find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("{made}")).to_owned()
        };
        let (onion, key) = (value("250-ServiceID="), value("250-PrivateKey="));
        is_published(&mut heard, &onion);
        is_reachable(&network, &onion, "here it is");
        for &end in ends {
            let begun = restart(&mut node, end);
            if keeps_controllers {
                // What it is told after this is of the next Tor.
                while heard.line() != "650 TOR DOWN" {}
            } else {
                assert_eq!(owner.rest(), b"", "it used Tor");
                heard = listener(&daemon);
            }
            let published = is_published(&mut heard, &onion);
            let reachable = is_reachable(&network, &onion, "here it is");
            // For those who want to know: the test tells nothing unless it fails.
            println!(
                "{end:?}, BusKeepControllers {}: published after {:?}, reachable after {:?}",
                u8::from(keeps_controllers),
                published - begun,
                reachable - begun
            );
            if keeps_controllers {
                // It was never disconnected, and need not do anything.
                let listed = owner.ask("GETINFO onions/current");
                assert!(listed.contains(&onion), "{listed}");
                drop(owner);
            }
            let again = format!("ADD_ONION {key} Port=80,{server}");
            let reply;
            (owner, reply) = makes_again(&daemon, &again);
            assert_eq!(reply, format!("250-ServiceID={onion}\n250 OK"));
        }
    }
}
