//! Tor behind a filter that answers unknown commands in its own words, as Whonix and Tails have.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::before;
use crate::support::{Controller, Daemon, Place};
use crate::tor::{Home, Tor, has_tor, is_connected};
use crate::wire::Wire;

/// The filter's answer to a command that it keeps back.
const FILTERED: &str = "510 Command filtered\r\n";

/// The keywords of commands that the filter passes on.
const KNOWN: [&str; 8] = [
    "PROTOCOLINFO",
    "AUTHENTICATE",
    "GETINFO",
    "GETCONF",
    "SETEVENTS",
    "SETCONF",
    "ADD_ONION",
    "QUIT",
];

/// Listens at `path`, with the Tor at `tor` behind it.
fn filter(path: &Path, tor: PathBuf) {
    let listener = UnixListener::bind(path).expect("a socket");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // It is refused if Tor has ended.
            if let Ok(server) = UnixStream::connect(&tor) {
                thread::spawn(move || pass_on(client, server));
            }
        }
    });
}

/// Passes one command at a time on, and waits for its reply.
fn pass_on(client: UnixStream, mut server: UnixStream) {
    let mut to_client = client.try_clone().expect("a descriptor");
    let from_server = server.try_clone().expect("a descriptor");
    let (ended, replies) = channel();
    let copy = client.try_clone().expect("a descriptor");
    thread::spawn(move || pass_back(from_server, copy, &ended));
    for line in BufReader::new(client).split(b'\n').map_while(Result::ok) {
        let text = String::from_utf8_lossy(&line).to_ascii_uppercase();
        let keyword = text.split_ascii_whitespace().next().unwrap_or_default();
        if KNOWN.contains(&keyword) {
            let sent = server.write_all(&[&line, &b"\n"[..]].concat());
            if sent.is_err() || replies.recv().is_err() {
                break;
            }
        } else if to_client.write_all(FILTERED.as_bytes()).is_err() {
            break;
        }
    }
    // If it fails, Tor has ended it.
    let _ = server.shutdown(Shutdown::Both);
}

/// Passes replies and events on, each whole.
fn pass_back(server: UnixStream, mut client: UnixStream, ended: &Sender<()>) {
    let mut whole = Vec::new();
    let mut is_data = false;
    for line in BufReader::new(server).split(b'\n').map_while(Result::ok) {
        whole.extend_from_slice(&[&line, &b"\n"[..]].concat());
        let kind = line.get(3);
        let is_last = !is_data && !matches!(kind, Some(b'-' | b'+'));
        is_data = if is_data {
            line != b".\r"
        } else {
            kind == Some(&b'+')
        };
        if is_last {
            let is_event = whole.starts_with(b"650");
            // It fails if the client has gone: Tor is to be heard to its end all the same.
            let _ = client.write_all(&whole);
            whole.clear();
            if !is_event && ended.send(()).is_err() {
                break;
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// A Tor, a filter before it, and a daemon before that.
struct Chain {
    daemon: Daemon,
    place: Place,
    _home: Home,
    _tor: Tor,
}

impl Chain {
    fn start() -> Self {
        let home = Home::new();
        let tor = home.start();
        let place = Place::new();
        filter(&place.path("filter"), home.socket());
        let daemon = before(&place, &place.path("filter")).ready();
        is_connected(&daemon);
        Self {
            daemon,
            place,
            _home: home,
            _tor: tor,
        }
    }

    /// All that is said to `commands` and a QUIT, without the names of new onion services.
    #[track_caller]
    fn ask(&self, socket: &str, commands: &str) -> String {
        let mut wire = Wire::at(&self.place.path(socket));
        wire.about = format!("{commands:?} at the {socket}");
        wire.send(format!("AUTHENTICATE\r\n{commands}QUIT\r\n").as_bytes());
        wire.until_closed();
        let said = String::from_utf8(wire.take()).expect("ASCII");
        let lines = said.split_inclusive('\n').map(|line| {
            let is_new = line.starts_with("250-ServiceID=");
            if is_new {
                "250-ServiceID=(56)\r\n"
            } else {
                line
            }
        });
        lines.collect()
    }
}

#[test]
fn replies_are_those_of_the_filter() {
    if !has_tor() {
        return;
    }
    let chain = Chain::start();
    let onion = "ADD_ONION NEW:BEST Flags=DiscardPK Port=80\r\n";
    for commands in [
        "GETINFO version\r\nSETEVENTS HS_DESC\r\nGETINFO version\r\n".to_owned(),
        format!("{onion}GETINFO version\r\n"),
        onion.repeat(5),
        format!("GETINFO version\r\n{onion}NOBODY\r\n{onion}GETINFO version\r\nHSFETCH x\r\n"),
        "MAPADDRESS a=b\r\nSETCONF ContactInfo=x\r\nGETCONF ContactInfo\r\n".to_owned(),
        "ONION_CLIENT_AUTH_ADD x y\r\nADD_ONION\r\nADD_ONION NEW:BEST Port=x\r\n".to_owned(),
        "SETCONF Nothing=1\r\nGETINFO none\r\nGETINFO features/names version\r\n".to_owned(),
        "GETINFO version\r\nSETCONF ContactInfo=y\r\nNOBODY\r\n".repeat(100),
    ] {
        let direct = chain.ask("filter", &commands);
        let through = chain.ask("control", &commands);
        assert_eq!(through, direct, "{commands}");
        assert!(direct.ends_with("250 closing connection\r\n"), "{direct}");
    }
}

#[test]
fn the_bus_answers_in_its_place_among_them() {
    if !has_tor() {
        return;
    }
    let chain = Chain::start();
    let version = chain.ask("filter", "GETINFO version\r\n");
    let version = version
        .trim_start_matches("250 OK\r\n")
        .trim_end_matches("250 OK\r\n250 closing connection\r\n")
        .to_owned();
    let said = chain.ask(
        "control",
        "CONTROLLERNAME me\r\nSIGNAL NEWNYM\r\nADD_ONION NEW:BEST Flags=DiscardPK Port=80\r\n\
         POSTMESSAGE @nobody x\r\nNOBODY\r\nGETINFO list-controllers version\r\n\
         SETCONF BusHistory=7 ContactInfo=z\r\nGETCONF BusHistory ContactInfo\r\n\
         SETEVENTS POSTMESSAGE SIGNAL\r\nNOBODY\r\nPOSTMESSAGE @nobody x\r\n",
    );
    let nobody = "552 Invalid destination controller name\r\n";
    let expected = format!(
        "250 OK\r\n250 OK\r\n{FILTERED}250-ServiceID=(56)\r\n250 OK\r\n{nobody}{FILTERED}\
         250-list-controllers=me\r\n{version}250 OK\r\n250 OK\r\n\
         250-BusHistory=7\r\n250 ContactInfo=z\r\n250 OK\r\n{FILTERED}{nobody}\
         250 closing connection\r\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn events_come_through_it() {
    if !has_tor() {
        return;
    }
    let chain = Chain::start();
    let mut subscriber = chain.daemon.connect();
    subscriber.ok("SETEVENTS CONF_CHANGED");
    let mut controller = chain.daemon.connect();
    for number in 0..20 {
        controller.ok(&format!("SETCONF ContactInfo={number}"));
        let change = format!("650-CONF_CHANGED\n650-ContactInfo={number}\n650 OK");
        assert_eq!(subscriber.reply(), change);
    }
}

#[test]
fn the_log_says_it_once() {
    if !has_tor() {
        return;
    }
    let chain = Chain::start();
    for _ in 0..5 {
        let mut controller: Controller = chain.daemon.connect();
        controller.ok("ADD_ONION NEW:BEST Flags=DiscardPK Port=80");
    }
    let line = chain.daemon.logs("Command filtered");
    let log = chain.daemon.log();
    assert_eq!(log.matches("Command filtered").count(), 1, "{line}: {log}");
}
