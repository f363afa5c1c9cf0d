//! The controllers that people have: what they show of a Tor they show through the bus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Daemon, PATIENCE, Place, eventually, has, python_with, run};
use crate::terminal::Terminal;
use crate::tor::{Home, Tor, has_tor, serve};
use crate::wire::Wire;

/// A fresh Tor, and where a client reaches it: directly, or through the bus.
struct Way {
    home: Home,
    tor: Tor,
    socket: PathBuf,
    _bus: Option<(Place, Daemon)>,
}

impl Way {
    #[track_caller]
    fn direct() -> Self {
        let home = Home::new();
        let tor = home.start();
        let socket = home.socket();
        Self {
            home,
            tor,
            socket,
            _bus: None,
        }
    }

    #[track_caller]
    fn through_the_bus() -> Self {
        let home = Home::new();
        let tor = home.start();
        let place = Place::new();
        let daemon = serve(&place, &home).ready();
        let socket = place.socket();
        Self {
            home,
            tor,
            socket,
            _bus: Some((place, daemon)),
        }
    }

    /// `text` without what is another for each Tor.
    fn common(&self, text: &str) -> String {
        let text = text.replace(&self.home.path().display().to_string(), "(HOME)");
        text.replace(&self.tor.pid().to_string(), "(PID)")
    }
}

/// Runs a script, at most as long as it may take, and returns what it printed.
#[track_caller]
fn walk(python: &str, script: &str, way: &Way) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay");
    let mut command = Command::new("timeout");
    command.arg((2 * PATIENCE.as_secs()).to_string());
    command.arg(python).arg(path.join(script)).arg(&way.socket);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // stem keeps some words in sets, and says them in their order.
    command.env("PYTHONHASHSEED", "0");
    way.common(&run(&mut command))
}

/// Plays a script to Tor directly and through the bus, and wants the same.
#[track_caller]
fn walks_alike(module: &str, script: &str, last: &str) {
    if !has_tor() {
        return;
    }
    let Some(python) = python_with(module) else {
        return;
    };
    let direct = walk(python, script, &Way::direct());
    assert!(
        direct.contains(last),
        "it does not come to its end: {direct}"
    );
    let through = walk(python, script, &Way::through_the_bus());
    let differ = |(direct, through): &(&str, &str)| direct != through;
    if let Some((direct, through)) = direct.lines().zip(through.lines()).find(differ) {
        panic!("\n  direct:  {direct}\n  through: {through}");
    }
    assert_eq!(direct, through);
}

#[test]
fn stem_finds_the_same() {
    walks_alike("stem", "stem_walk.py", "\nand then: ");
}

#[test]
fn txtorcon_finds_the_same() {
    walks_alike("txtorcon", "txtorcon_walk.py", "\nand is gone\n");
}

/// Starts nyx, looks at its pages, and returns what it says of Tor.
#[track_caller]
fn nyx_shows(way: &Way) -> String {
    let home = way.home.path();
    let mut other = Wire::at(&way.home.socket());
    other.ask("AUTHENTICATE");
    // The end is written last, under another name before it is whole.
    let script = format!(
        "nyx -s {} 2>errors; echo $? >ending; mv ending ended",
        way.socket.display()
    );
    let terminal = Terminal::start(home, &format!("cd '{}'; {script}", home.display()));
    terminal.shows(&format!("pid: {}", way.tor.pid()));
    terminal.shows("page 1 / 5");
    terminal.shows("Download (");
    // What Tor says while it looks on.
    other.ask("SIGNAL HEARTBEAT");
    terminal.shows("[NOTICE] Heartbeat: ");
    // Behind the name of the machine. The log has the word too, and may be there first.
    let header = |screen: &str| {
        let (_, header) = screen.split_once("Tor 0.")?;
        let (first, rest) = header.split_once('\n')?;
        let second = rest.lines().next()?;
        let is_whole = first.ends_with(')') && second.starts_with("Relaying");
        is_whole.then(|| format!("{first}\n{second}"))
    };
    let screen = terminal.shows_what("nyx tells the version", |screen| header(screen).is_some());
    let header = header(&screen).expect("it was there");
    for page in ["page 2 / 5", "page 3 / 5", "page 4 / 5"] {
        terminal.press("Right");
        terminal.shows(page);
    }
    // The torrc, of which Tor has told where it is.
    terminal.shows("DisableNetwork 1");
    terminal.draw_anew();
    let screen = terminal.shows_what("the torrc", |screen| screen.contains("DisableNetwork 1"));
    let torrc: Vec<_> = screen.lines().skip(5).collect();
    terminal.press("q");
    terminal.press("q");
    eventually("the end of nyx", || home.join("ended").exists());
    let read = |name| fs::read_to_string(home.join(name)).expect("it was written");
    assert_eq!(read("ended"), "0\n", "{}", read("errors"));
    assert_eq!(read("errors"), "");
    way.common(&format!("{header}\n{}", torrc.join("\n")))
}

#[test]
fn nyx_shows_the_same() {
    if !has_tor() || !has("nyx") || !has("tmux") {
        return;
    }
    let direct = nyx_shows(&Way::direct());
    assert!(direct.starts_with("4."), "{direct}");
    assert_eq!(direct, nyx_shows(&Way::through_the_bus()));
}
