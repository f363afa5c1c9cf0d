//! `BusSocket PATH Login=explicit`: a socket where the login comes first, as Tor's does.

use crate::support::{Controller, Daemon, Place};
use crate::tor::{Home, has_tor, is_connected};
use crate::wire::Wire;

/// A daemon whose socket has these words behind its path, without a Tor behind it.
fn daemon(place: &Place, words: &str) -> Daemon {
    let option = format!("BusSocket {} {words}", place.socket().display());
    let start = place.serve_bare().state(place.path("state")).set(&option);
    start.ready()
}

#[test]
fn a_command_before_the_login_is_refused_and_the_connection_ends() {
    let place = Place::new();
    let daemon = daemon(&place, "Login=explicit");
    for command in [
        "GETINFO version",
        "GETINFO list-controllers",
        "POSTMESSAGE @all x",
        "CONTROLLERNAME boss",
        "SETEVENTS POSTMESSAGE",
        "SETCONF BusHistory=9",
        "SIGNAL SHUTDOWN",
        "TAKEOWNERSHIP",
        "NOBODY",
        "",
        "PROTOCOLINFO 1\r\nPROTOCOLINFO 1",
    ] {
        let mut controller = daemon.connect();
        controller.send(format!("{command}\r\nAUTHENTICATE\r\n"));
        let said = String::from_utf8(controller.rest()).expect("ASCII");
        let refused = said.ends_with("514 Authentication required.\r\n");
        assert!(
            refused && said.matches("514").count() == 1,
            "{command}: {said}"
        );
    }
    // None of them was carried out.
    let mut controller = daemon.connect();
    controller.ok("AUTHENTICATE");
    assert_eq!(controller.info("list-controllers"), "unset");
    assert_eq!(controller.ask("GETCONF BusHistory"), "250 BusHistory=100");
    controller.ok("CONTROLLERNAME boss");
}

#[test]
fn the_login_needs_nothing() {
    let place = Place::new();
    let daemon = daemon(&place, "Login=explicit");
    for login in [
        "AUTHENTICATE",
        "AUTHENTICATE ",
        "authenticate \"\"",
        "AUTHENTICATE 00",
    ] {
        let mut controller = daemon.connect();
        let info = controller.ask("PROTOCOLINFO 1");
        assert!(info.contains("\n250-AUTH METHODS=NULL\n"), "{info}");
        controller.ok(login);
        controller.ok("GETINFO version");
        controller.ok("POSTMESSAGE @all x");
    }
    let mut controller = daemon.connect();
    assert_eq!(controller.ask("QUIT"), "250 closing connection");
    assert_eq!(controller.rest(), b"");
}

#[test]
fn an_implicit_login_is_what_it_was() {
    for words in ["", "Login=implicit"] {
        let place = Place::new();
        let daemon = daemon(&place, words);
        let mut controller = daemon.connect();
        controller.ok("GETINFO version");
        controller.ok("AUTHENTICATE");
        controller.ok("CONTROLLERNAME boss");
    }
}

#[test]
fn each_socket_has_its_own() {
    let place = Place::new();
    let lines = format!(
        "BusSocket {} Login=explicit\nBusSocket {} Login=implicit\n",
        place.path("explicit").display(),
        place.path("implicit").display()
    );
    let _daemon = place.configured(&lines).ready();
    Controller::at(&place.path("implicit")).ok("GETINFO version");
    let mut controller = Controller::at(&place.path("explicit"));
    controller.send("GETINFO version\r\n");
    assert_eq!(controller.rest(), b"514 Authentication required.\r\n");
}

/// The same octets to a Tor without authentication and to a bus before it.
#[test]
fn the_login_is_that_of_tor() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let _tor = home.start();
    let option = format!("BusSocket {} Login=explicit", place.socket().display());
    let start = place.serve_bare().state(place.path("state")).set(&option);
    let daemon = start.set(&format!("BusTor {}", home.address())).ready();
    is_connected(&daemon);
    let ours = concat!(" (onionbus-", env!("CARGO_PKG_VERSION"), ")");
    for octets in [
        "GETINFO version\r\nQUIT\r\n",
        "PROTOCOLINFO\r\nGETINFO version\r\n",
        "PROTOCOLINFO 1\r\nAUTHENTICATE\r\nPROTOCOLINFO 1\r\nGETINFO version\r\nQUIT\r\n",
        "PROTOCOLINFO 1\r\nPROTOCOLINFO 1\r\nQUIT\r\n",
        "AUTHENTICATE\r\nAUTHENTICATE\r\nGETCONF ContactInfo\r\nQUIT\r\n",
        "AUTHENTICATE 0\r\nAUTHENTICATE\r\nQUIT\r\n",
        "AUTHENTICATE \"open\r\nGETINFO version\r\n",
        "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHENTICATE\r\n",
        "+LOADCONF\r\nAUTHENTICATE\r\n.\r\nQUIT\r\n",
        "NOBODY\r\nQUIT\r\n",
        "SETEVENTS\r\nQUIT\r\n",
        "\r\nQUIT\r\n",
        "QUIT\r\nGETINFO version\r\n",
    ] {
        let [tor, bus] = [home.socket(), place.socket()].map(|socket| {
            let mut wire = Wire::at(&socket);
            wire.about = octets.to_owned();
            wire.send(octets.as_bytes());
            wire.until_closed();
            String::from_utf8(wire.take()).expect("ASCII")
        });
        assert_eq!(bus.replace(ours, ""), tor, "{octets:?}");
    }
}
