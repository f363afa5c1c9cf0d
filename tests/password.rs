//! HASHEDPASSWORD: a socket that asks for a password, in Tor's own form.

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use onionbus::auth::HashedPassword;
use support::terminal::Terminal;
use support::{Controller, Daemon, Place, python_with, run};

fn hash(password: &[u8]) -> String {
    format!(
        "BusHashedPassword {}",
        HashedPassword::new(password, *b"saltsalt")
    )
}

/// A daemon with two passwords, whose socket asks for one of them.
fn daemon(place: &Place, more: &[&str]) -> Daemon {
    let socket = format!("BusSocket {} Login=password", place.socket().display());
    let (one, two) = (hash(b"a \"b\"\\"), hash(b"two"));
    let file = format!("{socket}\n{one}\n{two}\n{}\n", more.join("\n"));
    place.configured(&file).ready()
}

/// Connects without a login.
fn stranger(place: &Place) -> Controller {
    Controller::at(&place.socket())
}

#[test]
fn a_password_gets_in_quoted_or_in_base_16_and_nothing_else_does() {
    let place = Place::new();
    let daemon = daemon(&place, &[]);
    assert!(
        stranger(&place)
            .ask("PROTOCOLINFO 1")
            .contains("METHODS=HASHEDPASSWORD\n")
    );
    for right in ["\"two\"", "74776f", "61202262225C", "\"a \\\"b\\\"\\\\\""] {
        let mut controller = stranger(&place);
        controller.ok(&format!("AUTHENTICATE {right}"));
        controller.ok("CONTROLLERNAME x");
        let text = controller.ask("GETINFO config-text");
        assert!(text.contains("\nBusHashedPassword (hidden)\n"), "{text}");
    }
    for wrong in ["", " \"\"", " \"twotwo\"", " 00"] {
        let mut controller = stranger(&place);
        let said = controller.ask(&format!("AUTHENTICATE{wrong}"));
        assert!(
            said.starts_with("515 Authentication failed: Password did not match"),
            "{said}"
        );
        assert!(controller.rest().is_empty(), "it closes");
    }
    let said = stranger(&place).ask("GETINFO version");
    assert!(said.starts_with("514 Authentication required."), "{said}");
    assert!(!daemon.log().contains("two"));
}

#[test]
fn the_client_commands_ask_for_it_on_the_terminal() {
    let place = Place::new();
    let _daemon = daemon(&place, &[]);
    // As a shell would: the terminal is the program's own.
    let ask = || {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_onionbus")]);
        command.args(["info", "version", "--socket"]);
        command.arg(place.socket());
        command
    };
    for (typed, code, said) in [
        ("two", 0, "onionbus-"),
        (
            "too",
            1,
            "515 Authentication failed: Password did not match",
        ),
    ] {
        let mut terminal = Terminal::new(ask());
        terminal.shows(&["Password: "]);
        terminal.hides();
        terminal.types(&format!("{typed}\r"));
        let shown = terminal.ends(code);
        assert!(shown.contains(said) && !shown.contains(typed), "{shown}");
    }
    let mut command = Command::new("setsid");
    command.args(["--wait", env!("CARGO_BIN_EXE_onionbus"), "info", "version"]);
    let output = command.arg("--socket").arg(place.socket()).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("there is no terminal to ask for it"),
        "{said}"
    );
}

#[test]
fn wrong_passwords_make_nobody_else_wait() {
    let place = Place::new();
    let open = format!("BusSocket {}", place.path("open").display());
    let third = hash(b"three");
    let _daemon = daemon(&place, &[&open, &third]);
    let mut bystander = Controller::at(&place.path("open"));
    bystander.ok("SETEVENTS");
    let strangers: Vec<_> = (0..60)
        .map(|_| UnixStream::connect(place.socket()).expect("it listens"))
        .collect();
    bystander.ok("SETEVENTS");
    for mut stranger in &strangers {
        stranger.write_all(b"AUTHENTICATE \"\"\r\n").unwrap();
    }
    bystander.ok("SETEVENTS");
    let is_answered = |mut stranger: &UnixStream| {
        stranger.set_nonblocking(true).unwrap();
        stranger.read(&mut [0]).is_ok()
    };
    let answered = strangers.iter().filter(|one| is_answered(one)).count();
    assert!(answered < 30, "{answered} tries came first");
    // They have their turns all the same, and nobody who comes later has one before.
    stranger(&place).ok("AUTHENTICATE \"two\"");
    assert!(strangers.iter().all(is_answered));
}

#[test]
fn the_cookie_gets_in_beside_it() {
    let place = Place::new();
    let _daemon = daemon(&place, &["BusCookieAuthentication 1"]);
    let said = stranger(&place).ask("PROTOCOLINFO 1");
    assert!(
        said.contains("METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD COOKIEFILE="),
        "{said}"
    );
    stranger(&place).ok("AUTHENTICATE \"two\"");
    let said = stranger(&place).ask("AUTHENTICATE \"three\"");
    assert!(said.contains("*or* authentication cookie"), "{said}");
}

#[test]
fn a_socket_that_lets_nobody_in_is_refused_and_no_password_is_told() {
    let place = Place::new();
    let socket = format!("BusSocket {} Login=password\n", place.socket().display());
    let said = place.configured(&socket).fails(1);
    assert!(
        said.contains("lets nobody in: there is no BusHashedPassword"),
        "{said}"
    );
    let said = place
        .configured(&format!("{socket}BusHashedPassword geheim\n"))
        .fails(1);
    assert!(
        said.contains("onionbus hash-password") && !said.contains("geheim"),
        "{said}"
    );
}

#[test]
fn stem_logs_in_with_the_password() {
    let Some(python) = python_with("stem") else {
        return;
    };
    let place = Place::new();
    let _daemon = daemon(&place, &[]);
    let script = "import sys, stem.control\n\
                  c = stem.control.Controller.from_socket_file(sys.argv[1])\n\
                  c.authenticate(password='two')\n\
                  print(c.is_authenticated())\n";
    let mut command = std::process::Command::new(python);
    let said = run(command.args(["-c", script]).arg(place.socket()));
    assert_eq!(said, "True\n");
}
