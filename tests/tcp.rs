//! A TCP port of this machine: for programs that know no Unix sockets, and never without a login.

#[path = "relay/tor.rs"]
mod real_tor;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use onionbus::auth::HashedPassword;
use real_tor::{Home, has_tor};
use support::{Controller, Daemon, Place, python_with, run};

/// A port that nobody had a moment ago.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it is bound")
}

/// A daemon with a Unix socket and a port.
fn daemon(place: &Place, more: &str) -> (Daemon, SocketAddr) {
    let port = free_port();
    let socket = place.socket();
    let text = format!("BusSocket {}\nBusSocket {port}\n{more}\n", socket.display());
    (place.configured(&text).ready(), port)
}

/// Connects without a login.
fn stranger(port: SocketAddr) -> Controller {
    let stream = TcpStream::connect(port).expect("it listens");
    Controller::over(UnixStream::from(OwnedFd::from(stream))).expect("it is a socket")
}

/// Connects and logs in by the cookie.
fn with_cookie(place: &Place, port: SocketAddr) -> Controller {
    let cookie = fs::read(place.path("state/control_auth_cookie")).expect("it is there");
    let mut controller = stranger(port);
    controller.ok(&format!("AUTHENTICATE {}", hex::encode(cookie)));
    controller
}

#[test]
fn a_port_asks_for_the_cookie_and_the_socket_beside_it_does_not() {
    let place = Place::new();
    let (daemon, port) = daemon(&place, "");
    for refused in ["GETINFO version", "CONTROLLERNAME x"] {
        let mut controller = stranger(port);
        let said = controller.ask(refused);
        assert!(said.starts_with("514 Authentication required."), "{said}");
        assert!(controller.rest().is_empty(), "it closes");
    }
    // A web page can have a browser send this, and whatever it likes behind it.
    let mut browser = stranger(port);
    browser.send("POST / HTTP/1.1\r\n\r\nAUTHENTICATE\r\nCONTROLLERNAME x\r\n");
    let said = browser.rest();
    assert!(
        said.starts_with(b"HTTP/1.0 501 "),
        "{}",
        said.escape_ascii()
    );
    let wrong = stranger(port).ask("AUTHENTICATE \"\"");
    assert!(wrong.starts_with("515 "), "{wrong}");
    let said = stranger(port).ask("PROTOCOLINFO 1");
    let file = place.path("state/control_auth_cookie");
    let methods = format!(
        "AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE=\"{}\"\n",
        file.display()
    );
    assert!(said.contains(&methods), "{said}");

    let mut alice = with_cookie(&place, port);
    alice.ok("CONTROLLERNAME alice");
    let said = daemon.connect().ask("PROTOCOLINFO 1");
    assert!(said.contains("AUTH METHODS=NULL\n"), "{said}");
    let mut bob = daemon.named("bob");
    alice.ok("SETEVENTS POSTMESSAGE");
    bob.ok("POSTMESSAGE @alice over here");
    let event = alice.reply();
    assert!(event.ends_with(" bob @alice over here"), "{event}");
    let all = alice.ask("GETINFO controllers/detail");
    let line = all
        .lines()
        .find(|line| line.contains("alice"))
        .expect("it is there");
    let address = format!("SOCKET=\"{port}\"");
    assert!(
        line.contains(" UID=4294967295 ") && line.contains(&address),
        "{line}"
    );
}

#[test]
fn strangers_keep_nobody_out_who_knows_the_cookie() {
    let place = Place::new();
    let (_daemon, port) = daemon(&place, "BusMaxControllers 60\nBusMaxControllersPerUser 40");
    let mut known = with_cookie(&place, port);
    let mut first = stranger(port);
    let strangers: Vec<_> = (0..60).map(|_| stranger(port)).collect();
    with_cookie(&place, port).ok("CONTROLLERNAME newcomer");
    known.ok("CONTROLLERNAME known");
    let said = first.rest();
    assert!(said.starts_with(b"514 "), "{}", said.escape_ascii());
    drop(strangers);
}

#[test]
fn many_can_wait_at_a_port() {
    let place = Place::new();
    let (daemon, port) = daemon(&place, "");
    daemon.signal(Signal::SIGSTOP);
    let all: Result<Vec<_>, _> = (0..500)
        .map(|_| TcpStream::connect_timeout(&port, Duration::from_millis(500)))
        .collect();
    daemon.signal(Signal::SIGCONT);
    assert!(all.is_ok(), "{all:?}");
}

#[test]
fn a_password_gets_in_too_where_there_is_one() {
    let place = Place::new();
    let hash = HashedPassword::new(b"two", *b"saltsalt");
    let (_daemon, port) = daemon(&place, &format!("BusHashedPassword {hash}"));
    let said = stranger(port).ask("PROTOCOLINFO 1");
    assert!(
        said.contains("METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD COOKIEFILE="),
        "{said}"
    );
    stranger(port).ok("AUTHENTICATE \"two\"");
    let said = stranger(port).ask("AUTHENTICATE \"three\"");
    assert!(said.contains("*or* authentication cookie"), "{said}");
    with_cookie(&place, port).ok("CONTROLLERNAME x");
}

#[test]
fn what_was_written_before_a_close_is_carried_out() {
    let place = Place::new();
    let (daemon, port) = daemon(&place, "");
    let mut reader = daemon.named("reader");
    reader.ok("SETEVENTS POSTMESSAGE");
    let cookie = fs::read(place.path("state/control_auth_cookie")).unwrap();
    let login = format!("AUTHENTICATE {}\r\n", hex::encode(cookie));
    for round in 0..20 {
        let mut stream = TcpStream::connect(port).unwrap();
        let posts: Vec<_> = (0..100)
            .map(|n| format!("POSTMESSAGE @reader {round} {n}\r\n"))
            .collect();
        let posts = posts.concat();
        stream
            .write_all(format!("{login}{posts}").as_bytes())
            .unwrap();
        if round % 2 == 0 {
            // Replies are wanted still.
            stream.shutdown(Shutdown::Write).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, "250 OK\r\n".repeat(101));
        }
    }
    let mut next = [0; 20];
    for _ in 0..2000 {
        let event = reader.reply();
        let mut numbers = event.rsplit(' ').map(str::parse::<usize>);
        let (Some(Ok(n)), Some(Ok(round))) = (numbers.next(), numbers.next()) else {
            panic!("{event}");
        };
        assert_eq!(n, next[round], "{event}");
        next[round] += 1;
    }
}

#[test]
fn a_policy_names_the_port_and_its_owner_is_no_user() {
    let place = Place::new();
    let port = free_port();
    let policy = place.file(
        "p.policy",
        &format!(
            "Profile port\n  Match socket={port}\n  Allow getinfo version\n\
             Profile users\n  Match user=0-4294967294\n  Allow all\n"
        ),
    );
    let text = format!(
        "BusSocket {}\nBusSocket {port}\nBusPolicy {}\n",
        place.socket().display(),
        policy.display()
    );
    let daemon = place.configured(&text).ready();
    let mut alice = with_cookie(&place, port);
    let who = alice.info("whoami");
    assert!(who.ends_with(" PROFILES=port"), "{who}");
    let who = daemon.connect().info("whoami");
    assert!(who.ends_with(" PROFILES=users"), "{who}");
}

#[test]
fn a_port_of_somebody_else_or_for_everybody_is_refused_with_what_to_do() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = place.configured(&format!("BusSocket {address}\n")).fails(1);
    assert!(
        said.contains(&format!("cannot listen at {address}: ")),
        "{said}"
    );
    assert!(said.contains("choose another port"), "{said}");
    let said = place.configured("BusSocket 0.0.0.0:9051\n").fails(1);
    assert!(said.contains("such as 127.0.0.1:9051"), "{said}");
}

#[test]
fn a_port_is_passed_on_by_the_service_manager() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let _daemon = place
        .serve_bare()
        .state(place.path("state"))
        .passing(Some("tcp"), vec![listener])
        .ready();
    let all = with_cookie(&place, port).ask("GETINFO controllers/detail");
    assert!(all.contains(&format!("SOCKET=\"{port}\"")), "{all}");
}

#[test]
fn a_passed_port_that_others_reach_is_refused_and_so_is_its_login() {
    let place = Place::new();
    let passing = |address: &str| {
        let listener = TcpListener::bind(address).unwrap();
        let start = place.serve_bare().state(place.path("state"));
        start.passing(Some("tcp"), vec![listener])
    };
    let said = passing("0.0.0.0:0").fails(1);
    assert!(
        said.contains("can be reached from other machines"),
        "{said}"
    );
    let said = passing("127.0.0.1:0")
        .set("BusSocket fd:tcp Login=explicit")
        .fails(1);
    assert!(said.contains("leave Login= out"), "{said}");
    passing("127.0.0.1:0").set("BusSocket fd:tcp").ready();
}

#[test]
fn stem_logs_in_at_the_port() {
    let Some(python) = python_with("stem") else {
        return;
    };
    let place = Place::new();
    let hash = HashedPassword::new(b"two", *b"saltsalt");
    let (_daemon, port) = daemon(&place, &format!("BusHashedPassword {hash}"));
    let script = "import sys, stem.connection, stem.control\n\
                  for password in (None, 'two'):\n\
                  \x20 c = stem.control.Controller.from_port(port=int(sys.argv[1]))\n\
                  \x20 if password:\n\
                  \x20   stem.connection.authenticate_password(c, password)\n\
                  \x20 else:\n\
                  \x20   c.authenticate()\n\
                  \x20 print(c.msg('GETINFO version').is_ok())\n";
    let mut command = Command::new(python);
    let said = run(command.args(["-c", script]).arg(port.port().to_string()));
    assert_eq!(said, "True\nTrue\n");
}

/// Its own way from `PROTOCOLINFO` to a look at everything that Tor has.
#[test]
fn txtorcon_logs_in_at_the_port() {
    if !has_tor() {
        return;
    }
    let Some(python) = python_with("txtorcon") else {
        return;
    };
    let (home, place) = (Home::new(), Place::new());
    let _tor = home.start();
    let (daemon, port) = daemon(&place, &format!("BusTor {}", home.address()));
    real_tor::is_connected(&daemon);
    let script = "import sys, txtorcon\n\
                  from twisted.internet import task, endpoints\n\
                  @task.react\n\
                  async def main(reactor):\n\
                  \x20 port = endpoints.TCP4ClientEndpoint(reactor, '127.0.0.1', int(sys.argv[1]))\n\
                  \x20 tor = await txtorcon.connect(reactor, port)\n\
                  \x20 state = await tor.create_state()\n\
                  \x20 print(len(state.circuits))\n";
    let mut command = Command::new(python);
    let said = run(command.args(["-c", script]).arg(port.port().to_string()));
    assert_eq!(said, "0\n");
}

#[test]
fn the_client_commands_reach_a_port() {
    let place = Place::new();
    let (daemon, port) = daemon(&place, "");
    let mut reader = daemon.named("reader");
    reader.ok("SETEVENTS POSTMESSAGE");
    let at = |socket: &str, words: &[&str]| {
        let mut command = Command::new(place.program());
        run(command.args(["--socket", socket]).args(words))
    };
    let (number, host) = (port.port().to_string(), port.to_string());
    let localhost = format!("localhost:{number}");
    for socket in [&number, &host, &localhost] {
        assert_eq!(at(socket, &["controllers"]), "reader\nunset\n");
        at(socket, &["post", "--as", "writer", "@reader", "by", socket]);
        assert!(reader.next_message().1.ends_with(&format!(" by {socket}")));
    }
    drop(daemon);
    let mut command = Command::new(place.program());
    let output = command
        .args(["info", "version", "--socket", &host])
        .output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    let start = format!("onionbus: no daemon answers at {host}: Connection refused");
    assert!(said.starts_with(&start), "{said}");
}
