//! Every example of the documents is run as its reader would, against a daemon of its own.
//!
//! README.md: fenced blocks named `console`, and after that word the terminal, all with the daemon
//! that the first one starts. Manual pages: literal displays, each with a fresh daemon. A display
//! holds commands (`$`), a conversation (`C:`, `S:`), or lines of an option file. A comment before
//! it can say more:
//!
//! ```text
//! .\" Example: with OPTION VALUE     the daemon has this option
//! .\" Example: with an option file   the daemon has one, and it is empty
//! .\" Example: beside a daemon       another one is running already
//! .\" Example: same daemon           as the display before
//! .\" Example: in the background     its output is compared after the next displays
//! .\" Example: of a Tor with a network   no Tor of the test could say what the `Tor` in it says
//! ```

mod console;
mod daemon;
mod document;
#[path = "../relay/tor.rs"]
mod real_tor;
#[path = "../support/mod.rs"]
mod support;
mod tor;
mod transcript;

use std::cell::RefCell;
use std::fs;
use std::process::Command;

use console::Consoles;
use daemon::Place;
use document::Example;
use onionbus::policy::{Names, Policy, Source};
use support::has;
use tor::Played;

/// Commands that are not run, and why.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "contrib/check --install", "it runs this test"),
    (
        "README.md",
        "onionbus serve --socket ./tor-bus --tor unix:/run/tor/control",
        "the relay's tests do, before a Tor of their own",
    ),
    (
        "README.md",
        "nyx --socket ./tor-bus",
        "the relay's tests do, in a terminal of tmux",
    ),
    (
        "README.md",
        "cargo build --release",
        "this test has the program",
    ),
    (
        "README.md",
        "cargo build --release --locked --manifest-path contrib/bridge/Cargo.toml",
        "contrib/check does",
    ),
    (
        "README.md",
        "contrib/bridge/target/release/onionbus-bridge --nats tls://nats.lan --creds relay1.creds --group relays --host relay1 --state ./bridge",
        "the tests in contrib/bridge do, with a NATS server of their own",
    ),
    (
        "README.md",
        "sudo contrib/install --prefix=/usr",
        "contrib/check does, elsewhere",
    ),
    (
        "README.md",
        "sudo apt install ./onionbus_*.deb",
        "tests/package does, in a root of its own",
    ),
    (
        "README.md",
        "sudo systemd-sysusers onionbus.conf",
        "changes the system",
    ),
    (
        "README.md",
        "sudo systemd-tmpfiles --create onionbus.conf",
        "changes the system",
    ),
    (
        "man/onionbus.8",
        "systemctl reset-failed onionbus.service onionbus.socket",
        "changes the system",
    ),
    (
        "man/onionbus.8",
        "systemctl start onionbus.socket",
        "changes the system",
    ),
    (
        "README.md",
        "sudo systemctl daemon-reload",
        "changes the system",
    ),
    (
        "README.md",
        "sudo systemctl enable --now onionbus.socket",
        "changes the system",
    ),
    (
        "README.md",
        "sudo adduser $USER onionbus",
        "changes the system",
    ),
    (
        "man/onionbus.1",
        "tail -f /var/log/tor/notices.log | onionbus post --as torlog @all",
        "never ends",
    ),
    (
        "man/onionbus.1",
        "onionbus watch CONTROLLER",
        "never ends; onionbus-protocol(7) shows the event",
    ),
    (
        "man/onionbus.8",
        "systemctl edit onionbus.socket",
        "changes the system",
    ),
    (
        "man/onionbus.8",
        "journalctl -u onionbus",
        "needs the service",
    ),
    (
        "man/onionbus-policy.5",
        "onionbus policy show --config onionbus.conf --user alice",
        "policy_try does, with users of this machine",
    ),
    (
        "man/onionbus-policy.5",
        "onionbus policy try --config onionbus.conf --user alice 'SIGNAL NEWNYM'",
        "policy_try does, with users of this machine",
    ),
    (
        "man/onionbus-policy.5",
        "onionbus policy learn --from audit --user alice --profile alice",
        "audit does, with a log of its own",
    ),
    (
        "man/onionbus.8",
        "onionbus actions --follow",
        "never ends; audit does",
    ),
];

/// Plays a document and says how many examples it has.
fn play(document: &str, examples: &[Example]) {
    let exempt: RefCell<Vec<&str>> = RefCell::default();
    let skip = |command: &str| {
        let known = NOT_RUN
            .iter()
            .find(|known| (known.0, known.1) == (document, command));
        exempt.borrow_mut().extend(known.map(|known| known.1));
        let lacks = ["socat", "xxd"]
            .iter()
            .any(|tool| command.contains(tool) && !has(tool));
        known.is_some() || lacks
    };
    let mut place = Place::new();
    let mut consoles = Consoles::default();
    let mut daemon = None;
    let mut tor = None;
    for example in examples {
        let is_console =
            document == "README.md" || example.lines.iter().any(|line| line.starts_with("$ "));
        if !is_console && !transcript::is_transcript(example) {
            if example
                .lines
                .iter()
                .any(|line| line.starts_with("Profile "))
            {
                policy(example);
            } else {
                check(&place, example);
            }
            continue;
        }
        let serves_itself = example
            .lines
            .iter()
            .any(|line| line.contains("onionbus serve"));
        let fresh = example.note("same daemon").is_none() && document != "README.md";
        if fresh {
            consoles.finish(&place);
            drop(daemon.take());
            place = Place::new();
            let needs_daemon = !serves_itself || example.note("beside a daemon").is_some();
            let mut options = transcript::needs(&place, example);
            let has_tor = options.iter().any(|option| option.starts_with("BusTor "));
            tor = has_tor.then(|| Played::listen(&place.path("tor")));
            options.extend(example.note("with ").map(str::to_owned));
            daemon = needs_daemon.then(|| place.serve(&options));
        }
        if is_console {
            consoles.play(&place, example, skip);
        } else {
            transcript::play(&place, example, tor.take());
        }
    }
    consoles.finish(&place);
    let expected: Vec<_> = NOT_RUN.iter().filter(|known| known.0 == document).collect();
    assert_eq!(
        expected.len(),
        exempt.borrow().len(),
        "{document} lacks one of {expected:?}"
    );
    println!("{document}: {} examples", examples.len());
}

/// Lines of an option file are right, and none is only a comment.
fn check(place: &Place, example: &Example) {
    assert!(!example.lines.is_empty(), "{}: empty", example.place);
    let file = place.path("onionbus.conf");
    fs::create_dir_all(place.path("onionbus.conf.d")).unwrap();
    fs::write(&file, example.lines.join("\n") + "\n").unwrap();
    let output = place
        .command(place.path("bin/onionbus"))
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", example.place);
}

/// Lines of a policy are right, whoever its users are, with the ready profiles beside them.
fn policy(example: &Example) {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/policy");
    let mut files = vec![(example.place.clone(), example.lines.join("\n").into_bytes())];
    for entry in fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("an entry").path();
        let text = fs::read(&path).expect("a file");
        files.push((path.display().to_string(), text));
    }
    let mut sources = Vec::new();
    for (file, text) in &files {
        sources.push(Source {
            file,
            text,
            group: 0,
        });
    }
    let names = Names {
        user: &|_| Some(1000),
        group: &|_| Some(1000),
        ..Names::default()
    };
    let read = Policy::parse(&sources, &names);
    assert!(read.is_ok(), "{}: {read:?}", example.place);
}

#[test]
fn the_readme() {
    if has("socat") && has("xxd") {
        play("README.md", &document::markdown("README.md"));
    }
}

#[test]
fn the_manual_pages() {
    for page in [
        "onionbus.1",
        "onionbus.conf.5",
        "onionbus-policy.5",
        "onionbus-protocol.7",
        "onionbus.8",
    ] {
        let page = format!("man/{page}");
        play(&page, &document::manual(&page));
    }
}

#[test]
fn the_readme_names_the_rust_that_is_needed() {
    let needed = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or newer");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(needed), "{needed}");
}

/// The example configuration shows the defaults, commented out.
#[test]
fn the_example_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/onionbus.conf");
    let text = fs::read_to_string(file).unwrap();
    let options = text.lines().filter_map(|line| line.strip_prefix("#Bus"));
    let lines: Vec<_> = options.map(|option| format!("Bus{option}")).collect();
    for spec in onionbus::options::table::TABLE {
        let shown = lines
            .iter()
            .filter(|line| line.starts_with(&format!("{} ", spec.name)));
        let default = format!("{} {}", spec.name, spec.default);
        let right = shown
            .clone()
            .any(|line| spec.default.is_empty() || *line == default);
        assert!(right, "{default}: {lines:?}");
    }
    let (place, notes) = (file.to_owned(), Vec::new());
    // These places are there once it is installed; policy_try reads what is installed there.
    let lines = lines
        .into_iter()
        .filter(|line| !line.starts_with("BusPolicy "));
    let lines = lines.collect();
    check(
        &Place::new(),
        &Example {
            place,
            notes,
            lines,
        },
    );
}

/// The examples that a help text ends with.
fn of_help(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    let output = command.args(arguments).arg("--help").output();
    let help = String::from_utf8(output.expect("it starts").stdout).expect("it is text");
    let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_default();
    let examples = examples.lines().take_while(|line| line.starts_with("  "));
    // Two spaces are before what an example is for.
    let lines = examples.filter_map(|line| line.trim_start().split("  ").next());
    lines.map(str::to_owned).collect()
}

#[test]
fn the_examples_of_the_help_do_what_they_say() {
    let place = Place::new();
    let daemon = place.serve(&[]);
    fs::write(place.path("onionbus.conf"), "BusHistory 7\n").unwrap();
    let mut played = 0;
    for command in [&["command"][..], &["conf", "set"], &[]] {
        for line in of_help(command) {
            // The others listen until they are stopped, or are wrong usage without their files.
            let ends = ["command", "conf", "info"].map(|word| format!("onionbus {word} "));
            if !ends.iter().any(|start| line.starts_with(start)) {
                continue;
            }
            let mut shell = place.command("sh");
            let output = shell.arg("-ec").arg(place.real(&line)).output();
            let output = output.expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{line}: {said}");
            played += 1;
        }
    }
    assert!(played > 5, "{played}");
    drop(daemon);
}
