//! stem, as its users have it, and the example controller that is built on it.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Place, python_with, run};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn walk(place: &Place, python: &str, options: &str) {
    let text = format!("# a comment that stays\nBusHistory 50\n{options}");
    let mut daemon = place.configured(&text).ready();
    let mut command = Command::new(python);
    command.arg(file("tests/stem_walk.py"));
    command.arg(place.socket()).arg(place.path("onionbus.conf"));
    let printed = run(&mut command);
    assert!(printed.ends_with("all of it holds\n"), "{printed}");
    // The last thing it does is SIGNAL SHUTDOWN.
    daemon.ends(0);
}

#[test]
fn stem_walks_through_everything() {
    let Some(python) = python_with("stem") else {
        return;
    };
    walk(&Place::new(), python, "");
}

#[test]
fn stem_logs_in_with_the_cookie() {
    let Some(python) = python_with("stem") else {
        return;
    };
    walk(&Place::new(), python, "BusCookieAuthentication 1\n");
}

#[test]
fn the_example_controller_talks_to_another() {
    let Some(python) = python_with("stem") else {
        return;
    };
    let place = Place::new();
    let daemon = place.daemon();
    let example = |arguments: &[&str]| {
        let mut command = Command::new(python);
        command.arg(file("contrib/example-controller.py"));
        command.arg("--socket").arg(place.socket()).args(arguments);
        command
    };
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS CONTROLLER");
    let mut alice = example(&["--as", "alice", "--count", "2"]);
    let mut alice = alice.stdout(Stdio::piped()).spawn().expect("it starts");
    // What is posted before it listens waits for it: only its name must be there.
    while !watcher.reply().contains(" NAMED ") {}

    run(&mut example(&[
        "--as", "bob", "--count", "0", "@alice", "hello", " k=v  é",
    ]));
    let refused = example(&["--as", "alice", "--count", "0"]).output();
    let refused = refused.expect("it starts");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("553 Controller name already in use"),
        "{said}"
    );
    daemon.connect().ok("POSTMESSAGE @all to everybody");

    let printed = BufReader::new(alice.stdout.take().expect("it is piped"));
    let printed: Vec<String> = printed.lines().map(|line| line.expect("UTF-8")).collect();
    assert_eq!(
        printed,
        ["1 bob @alice hello  k=v  é", "2 unset @all to everybody"]
    );
    assert!(alice.wait().expect("it is our child").success());
}
