//! stem, as its users have it, and the examples that are built on it.

mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use support::{Place, python_with, run};

/// Somebody other than root.
const USER: u32 = 64_601;

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

#[test]
fn the_example_monitor_tells_of_controllers_and_answers() {
    let Some(python) = python_with("stem") else {
        return;
    };
    let place = Place::new();
    let daemon = place.daemon();
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS CONTROLLER");
    let mut monitor = Command::new(python);
    monitor.arg(file("contrib/example-monitor.py"));
    monitor.args(["--count", "7"]);
    // By the variable, as the client commands find it.
    monitor.env("ONIONBUS_SOCKET", place.socket());
    let mut monitor = monitor.stdout(Stdio::piped()).spawn().expect("it starts");
    while !watcher.reply().contains(" NAMED ") {}

    let mut alice = daemon.named("alice");
    alice.ok("SETEVENTS POSTMESSAGE");
    // An answer to somebody without a name cannot be sent, and is not tried.
    let mut nobody = daemon.connect();
    nobody.ok("POSTMESSAGE @monitor status");
    nobody.ok("POSTMESSAGE @all \x1b[31mred");
    assert!(alice.reply().contains(" unset @all "));
    alice.ok("POSTMESSAGE @monitor status");
    let answer = alice.reply();
    assert!(answer.contains(" monitor @alice "), "{answer}");
    assert!(answer.contains("3 messages"), "{answer}");
    let printed = BufReader::new(monitor.stdout.take().expect("it is piped"));
    let printed: Vec<String> = printed.lines().map(|line| line.expect("UTF-8")).collect();
    let (its, ours) = (monitor.id(), std::process::id());
    assert!(monitor.wait().expect("it is our child").success());
    assert_eq!(
        printed,
        [
            format!("controller 2 monitor: named, pid {its}"),
            format!("controller 3 unset: connected, pid {ours}"),
            format!("controller 3 alice: named, pid {ours}"),
            format!("controller 4 unset: connected, pid {ours}"),
            "unset to @monitor: status".to_owned(),
            "unset to @all: \\x1b[31mred".to_owned(),
            "alice to @monitor: status".to_owned(),
        ]
    );
}

#[test]
fn the_examples_find_the_socket_as_the_commands_do() {
    let Some(python) = python_with("stem") else {
        return;
    };
    let (place, elsewhere) = (Place::open_to_all(), Place::open_to_all());
    let program = elsewhere.program();
    let module = fs::read_to_string(file("contrib/onionbus_stem.py")).expect("it is there");
    let script = module + "\nprint(default_socket())\n";
    // Root has one socket whatever else is said: another user is who this is about.
    let as_user = |command: &mut Command, environment: &[(&str, &str)]| {
        command.env_clear().envs(environment.iter().copied());
        if geteuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command.output().expect("it starts")
    };
    let user = if geteuid().is_root() {
        USER
    } else {
        geteuid().as_raw()
    };
    let private = format!("onionbus-{user}");
    for directory in ["onionbus", &private] {
        let directory = place.path(directory);
        fs::create_dir(&directory).expect("it is ours");
        fs::write(directory.join("control"), "").expect("it is ours");
        chown(&directory, Some(user), Some(user)).expect("it may be given away");
    }
    let here = place.path("");
    let here = here.to_str().expect("a path of ours");
    for (environment, expected) in [
        (
            &[("ONIONBUS_SOCKET", "/x y"), ("XDG_RUNTIME_DIR", here)][..],
            "/x y".to_owned(),
        ),
        (
            &[("ONIONBUS_SOCKET", ""), ("XDG_RUNTIME_DIR", here)],
            format!("{here}onionbus/control"),
        ),
        (
            &[("XDG_RUNTIME_DIR", "relative"), ("TMPDIR", here)],
            format!("{here}{private}/control"),
        ),
    ] {
        let found = as_user(Command::new(python).args(["-c", &script]), environment);
        assert_eq!(
            String::from_utf8_lossy(&found.stdout),
            expected.clone() + "\n"
        );
        let tried = as_user(
            Command::new(&program).args(["info", "version"]),
            environment,
        );
        let tried = String::from_utf8_lossy(&tried.stderr).into_owned();
        assert!(
            tried.contains(&format!("no daemon answers at {expected}:")),
            "{tried}"
        );
    }
    // Where others could have made it, nothing in it is believed.
    let open = Permissions::from_mode(0o777);
    fs::set_permissions(place.path(&private), open).expect("it is ours");
    let refused = as_user(
        Command::new(python).args(["-c", &script]),
        &[("TMPDIR", here)],
    );
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("is not safe from other users"), "{why}");
}
