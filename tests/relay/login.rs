//! How the daemon gets into Tor, and that controllers need not.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{PATIENCE, Place, eventually, has, is_root};
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
fn plays(options: &[&str], script: &[(&str, String)], cookie: &[u8]) -> Option<String> {
    plays_in(&Place::new(), "cookie", options, script, cookie)
}

/// As [`plays`], with the cookie in this file of the place.
fn plays_in(
    place: &Place,
    file: &str,
    options: &[&str],
    script: &[(&str, String)],
    cookie: &[u8],
) -> Option<String> {
    let path = place.path(file);
    fs::write(&path, cookie).expect("it is writable");
    let listener = UnixListener::bind(place.path("tor")).expect("a socket");
    let option = format!("BusTor unix:{}", place.path("tor").display());
    let start = place.serve().set(&option);
    let start = options
        .iter()
        .fold(start, |start, option| start.set(option));
    let _daemon = start.ready();
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
    assert_eq!(plays(&[], &script, &[7; 32]), None);
}

/// A Tor before 0.2.2.36, or somebody who says so to be told a secret of 32 octets.
#[test]
fn an_old_tor_gets_the_cookie_itself_only_where_that_is_allowed() {
    let offer = protocol_info("METHODS=COOKIE COOKIEFILE=\"(COOKIE)\"");
    let script = [("PROTOCOLINFO 1", offer)];
    assert_eq!(plays(&[], &script, &[0xab; 32]), None);
    let said = plays(&[ALLOWED], &script, &[0xab; 32]);
    let said = said.expect("it logs in").to_ascii_lowercase();
    assert_eq!(said, format!("authenticate {}\r\n", "ab".repeat(32)));
}

const ALLOWED: &str = "BusTorAllowCookie 1";

/// Another file would be told to whoever says that it is a cookie.
#[test]
fn what_has_not_the_length_of_a_cookie_is_none() {
    for length in [0, 31, 33, 1000] {
        let offer = protocol_info("METHODS=COOKIE COOKIEFILE=\"(COOKIE)\"");
        let said = plays(
            &[ALLOWED],
            &[("PROTOCOLINFO 1", offer)],
            &vec![0xab; length],
        );
        assert_eq!(said, None, "{length} octets");
    }
}

/// With it, whoever answers in Tor's place could log in at the bus.
#[test]
fn what_is_in_the_state_directory_is_told_to_no_tor() {
    for methods in ["COOKIE", "COOKIE,SAFECOOKIE"] {
        let offer = protocol_info(&format!("METHODS={methods} COOKIEFILE=\"(COOKIE)\""));
        let script = [("PROTOCOLINFO 1", offer)];
        for is_linked in [false, true] {
            let place = Place::new();
            let state = place.path("state");
            fs::create_dir(&state).expect("it is new");
            fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("it is ours");
            let file = if is_linked { "cookie" } else { "state/cookie" };
            if is_linked {
                fs::write(state.join("other"), "").expect("it is ours");
                symlink(state.join("other"), place.path(file)).expect("it is new");
            }
            let said = plays_in(&place, file, &[ALLOWED], &script, &[0xab; 32]);
            assert_eq!(said, None, "{methods}, {file}");
        }
    }
}

/// Nobody but root gets a proof of a cookie that is neither root's nor their own.
#[test]
fn a_cookie_is_of_root_or_of_the_user_at_the_other_end() {
    if !is_root() || !has("socat") {
        return;
    }
    let (user, another) = (64_321, 64_322);
    for (owner, is_asked) in [(user, true), (0, true), (another, false)] {
        let place = Place::open_to_all();
        let cookie = place.path("cookie");
        fs::write(&cookie, [7; 32]).expect("it is ours");
        chown(&cookie, Some(owner), None).expect("we are root");
        let directory = place.path("tor");
        fs::create_dir(&directory).expect("it is new");
        chown(&directory, Some(user), None).expect("we are root");
        let offer = protocol_info(&format!(
            "METHODS=SAFECOOKIE COOKIEFILE=\"{}\"",
            cookie.display()
        ));
        let offer = offer
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        let heard = directory.join("heard");
        let script = directory.join("script");
        let lines = format!(
            "read -r line; printf \"{offer}\"; read -r line; echo \"$line\" >> {}",
            heard.display()
        );
        fs::write(&script, lines).expect("it is ours");
        let socket = directory.join("control");
        let mut socat = Command::new("socat");
        socat.arg(format!("UNIX-LISTEN:{},fork", socket.display()));
        socat.arg(format!("EXEC:sh {}", script.display()));
        let mut socat = socat.uid(user).gid(user).spawn().expect("it is there");
        eventually("socat listens", || socket.exists());
        let option = format!("BusTor unix:{}", socket.display());
        let daemon = place.serve().set(&option).ready();
        if is_asked {
            let challenge = || {
                let heard = fs::read_to_string(&heard).unwrap_or_default();
                heard.starts_with("AUTHCHALLENGE SAFECOOKIE ")
            };
            eventually("the daemon asks for a proof", challenge);
        } else {
            let line = daemon.logs("Tor is not reachable");
            let why = format!("it belongs to uid {owner}, and the socket to uid {user}");
            assert!(line.contains(&why), "{line}");
        }
        drop(daemon);
        socat.kill().expect("it is our child");
        socat.wait().expect("it is our child");
    }
}
