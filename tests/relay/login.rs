//! How the daemon gets into Tor, and that controllers need not.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::{PATIENCE, Place};
use crate::tor::{Home, has_tor, hashed};
use crate::wire::Wire;

/// Starts a Tor with these lines in its torrc and a daemon with these options, and returns what
/// controllers are told. `{TOR}` in an option is the address of Tor's control port.
#[track_caller]
fn version_through(torrc: &str, options: &[&str]) -> String {
    let home = Home::with(torrc);
    let tor = home.start();
    let mut direct = Wire::at(&home.socket());
    direct.send(b"AUTHENTICATE\r\n");
    let refused = !direct.until(b"250 OK");
    let asks_for_nothing = !torrc.contains("Auth") && !torrc.contains("Hashed");
    assert_eq!(refused, !asks_for_nothing, "Tor has the login meant here");

    let place = Place::new();
    let address = tor.port.map(|port| format!("BusTor {port}"));
    let address = address.unwrap_or_else(|| format!("BusTor {}", home.address()));
    let start = place.serve().set(&address);
    let start = options
        .iter()
        .fold(start, |start, option| start.set(option));
    let _daemon = start.ready();
    let mut controller = Wire::at(&place.socket());
    controller.send(b"PROTOCOLINFO 1\r\n");
    assert!(controller.until(b"METHODS=NULL\r\n") && controller.until(b"\r\n250 OK\r\n"));
    controller.first_line("GETINFO accounting/enabled")
}

#[track_caller]
fn gets_in(torrc: &str, options: &[&str]) {
    let said = version_through(torrc, options);
    assert_eq!(said, "250-accounting/enabled=0");
}

#[test]
fn without_a_login() {
    if has_tor() {
        gets_in("", &[]);
        gets_in("ControlPort auto", &[]);
    }
}

#[test]
fn with_the_cookie() {
    if has_tor() {
        gets_in("CookieAuthentication 1", &[]);
        gets_in("CookieAuthentication 1\nControlPort auto", &[]);
    }
}

#[test]
fn with_a_password() {
    if !has_tor() {
        return;
    }
    let password = "two \"words\" and \\ more";
    let torrc = format!("HashedControlPassword {}", hashed(password));
    let option = format!("BusTorPassword {password}");
    gets_in(&torrc, &[&option]);
    gets_in(&format!("{torrc}\nControlPort auto"), &[&option]);
    // Either will do, and the cookie can be read here.
    gets_in(&format!("{torrc}\nCookieAuthentication 1"), &[]);
}

#[test]
fn with_a_password_in_a_file() {
    if !has_tor() {
        return;
    }
    let torrc = format!("HashedControlPassword {}", hashed("secret"));
    let directory = Place::new();
    let file = directory.file("password", "secret\n");
    let option = format!("BusTorPassword file:{}", file.display());
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    gets_in(&torrc, &[&option]);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("it is ours");
    let said = version_through(&torrc, &[&option]);
    assert!(said.starts_with("551 Tor is not reachable: "), "{said}");
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn who_is_not_let_in_says_why() {
    if !has_tor() {
        return;
    }
    let torrc = format!("HashedControlPassword {}", hashed("secret"));
    let said = version_through(&torrc, &["BusTorPassword wrong"]);
    assert!(said.starts_with("551 Tor is not reachable: "), "{said}");
    assert!(said.contains("Authentication failed"), "{said}");
    let said = version_through(&torrc, &[]);
    assert!(said.starts_with("551 Tor is not reachable: "), "{said}");
    assert!(said.contains("BusTorPassword"), "{said}");
}

/// Plays a Tor up to the login: answers each line with the next of `script`, if the line begins
/// as it should. Returns what comes then, if anything.
fn plays(script: &[(&str, String)], cookie: &[u8]) -> Option<String> {
    let place = Place::new();
    let path = place.path("cookie");
    fs::write(&path, cookie).expect("it is writable");
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    let option = format!("BusTor unix:{}", place.path("tor").display());
    let _daemon = place.serve().set(&option).ready();
    let (stream, _) = listener.accept().expect("it connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut stream = BufReader::new(stream);
    for (hears, says) in script {
        let line = line(&mut stream).expect("it goes on");
        assert!(line.starts_with(hears), "{line:?} is not {hears}");
        let says = says.replace("(COOKIE)", &path.display().to_string());
        stream
            .get_mut()
            .write_all(says.as_bytes())
            .expect("it listens");
    }
    line(&mut stream)
}

fn line(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).expect("it goes on or ends");
    (length > 0).then_some(line)
}

fn protocol_info(auth: &str) -> String {
    format!("250-PROTOCOLINFO 1\r\n250-AUTH {auth}\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n")
}

#[test]
fn one_that_does_not_know_the_cookie_is_not_told() {
    let offer = protocol_info("METHODS=COOKIE,SAFECOOKIE COOKIEFILE=\"(COOKIE)\"");
    let zeros = "0".repeat(64);
    let challenge = format!("250 AUTHCHALLENGE SERVERHASH={zeros} SERVERNONCE={zeros}\r\n");
    let script = [
        ("PROTOCOLINFO 1", offer),
        ("AUTHCHALLENGE SAFECOOKIE ", challenge),
    ];
    assert_eq!(plays(&script, &[7; 32]), None);
}

#[test]
fn an_old_tor_gets_the_cookie_itself() {
    let offer = protocol_info("METHODS=COOKIE COOKIEFILE=\"(COOKIE)\"");
    let said = plays(&[("PROTOCOLINFO 1", offer)], &[0xab; 32]);
    let said = said.expect("it logs in").to_ascii_lowercase();
    assert_eq!(said, format!("authenticate {}\r\n", "ab".repeat(32)));
}

/// Another file would be told to whoever says that it is a cookie.
#[test]
fn what_has_not_the_length_of_a_cookie_is_none() {
    for length in [0, 31, 33, 1000] {
        let offer = protocol_info("METHODS=COOKIE COOKIEFILE=\"(COOKIE)\"");
        let said = plays(&[("PROTOCOLINFO 1", offer)], &vec![0xab; length]);
        assert_eq!(said, None, "{length} octets");
    }
}
