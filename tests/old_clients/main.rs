//! The v0 dialect with clients of its time that nobody here wrote.
//!
//! They are the module `contrib/TorControl.py` of Tor's history (13bd755ae6 of 2005) and the class
//! `TorControlConnection0` of jtorctl (5e6fdc99 of 2007), and none of their code is here. Two
//! scripts beside this file go through everything that they can do, and look at what they make of
//! the answers.
//!
//! - Where `ONIONBUS_OLD_CLIENTS` names a directory in which the module or the class files lie
//!   ready to be loaded, and there is a Python or a Java that loads them, the client itself talks to
//!   a daemon. What goes over the wire is recorded, and must be what the transcript beside this
//!   file says. With `ONIONBUS_RECORD` set, it is written there instead. How the clients come into
//!   that directory is up to whoever has them: nothing here fetches or builds them.
//! - Else the transcript is played: what the client sent is sent, and what came to it must come.
//!
//! Each test says which of the two it did.

mod bridge;
mod play;
mod record;
#[path = "../transcripts/script.rs"]
#[allow(dead_code, reason = "other tests have more kinds of steps")]
mod script;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/tor.rs"]
mod tor;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bridge::Bridge;
use script::Transcript;
use support::{Daemon, PATIENCE, Place, run};
use tor::{Home, Tor, has_tor, is_connected};

/// What is behind the socket, and the name that the scripts have for it.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    /// A Tor without a network.
    WithTor,
    /// No Tor.
    Alone,
    /// No Tor, and a cookie is wanted.
    WithCookie,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::WithTor, Self::Alone, Self::WithCookie];

    fn name(self) -> &'static str {
        match self {
            Self::WithTor => "with_tor",
            Self::Alone => "alone",
            Self::WithCookie => "with_cookie",
        }
    }
}

/// A daemon with a v0 socket, and what is behind it.
pub struct World {
    _daemon: Daemon,
    _tor: Option<(Tor, Home)>,
    place: Place,
}

impl World {
    #[track_caller]
    fn start(scenario: Scenario) -> Self {
        let place = Place::new();
        let socket = place.path("v0");
        let mut start = place
            .serve()
            .set(&format!("BusSocket {} Protocol=v0", socket.display()));
        let mut tor = None;
        match scenario {
            Scenario::WithTor => {
                let home = Home::new();
                start = start.set(&format!("BusTor {}", home.address()));
                tor = Some((home.start(), home));
            }
            Scenario::Alone => {}
            Scenario::WithCookie => start = start.set("BusCookieAuthentication 1"),
        }
        let daemon = start.ready();
        if tor.is_some() {
            is_connected(&daemon);
        }
        Self {
            _daemon: daemon,
            _tor: tor,
            place,
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.path("v0")
    }

    /// What stands for what in a transcript, because it is another in each world.
    fn variables(&self) -> Vec<(&'static str, Vec<u8>)> {
        let dir = self.place.path("").into_os_string().into_encoded_bytes();
        let dir = dir.strip_suffix(b"/").unwrap_or(&dir).to_vec();
        let mut variables = vec![("dir", dir)];
        if let Ok(cookie) = fs::read(self.place.path("state/control_auth_cookie")) {
            variables.push(("cookie", cookie));
        }
        variables
    }
}

/// One of the clients.
struct Client {
    name: &'static str,
    /// Its script, which is beside this file as the transcript is.
    script: &'static str,
    transcript: &'static str,
    /// Who might run the script.
    interpreters: &'static [&'static str],
    /// The program and the arguments that succeed if one of them can load the client.
    loads: fn(&'static str) -> (&'static str, &'static [&'static str]),
}

impl Client {
    /// Who can run the script, if the client is to be had.
    fn interpreter(&self, directory: &Path) -> Option<&'static str> {
        let loads = |interpreter: &&'static str| {
            let (program, arguments) = (self.loads)(interpreter);
            let mut command = with(directory, program);
            command
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let loaded = command.stderr(Stdio::null()).status();
            loaded.is_ok_and(|status| status.success())
        };
        self.interpreters.iter().copied().find(loads)
    }

    /// Lets the client itself talk, as often as there are scenarios, and returns what was said.
    #[track_caller]
    fn talk(&self, directory: &Path) -> Option<String> {
        let interpreter = self.interpreter(directory)?;
        let mut said = String::new();
        for scenario in Scenario::ALL {
            let world = World::start(scenario);
            let bridge = Bridge::to(world.socket());
            let mut command = with(directory, "timeout");
            command.arg((4 * PATIENCE.as_secs()).to_string());
            command.arg(interpreter).arg(beside(self.script));
            command.args([scenario.name(), &bridge.port().to_string()]);
            command.arg(world.place.path("")).stdin(Stdio::null());
            let printed = run(&mut command);
            assert!(printed.ends_with("all as expected\n"), "{printed}");
            let wire = bridge.end();
            said += &record::written(scenario, &wire, &world.variables());
        }
        Some(said)
    }

    #[track_caller]
    fn show(&self) {
        let has_tor = has_tor();
        let path = beside(self.transcript);
        let directory = std::env::var_os("ONIONBUS_OLD_CLIENTS").filter(|_| has_tor);
        let said = directory.and_then(|directory| self.talk(Path::new(&directory)));
        let how = if let Some(said) = said {
            let said = format!("{}{said}", self.heading());
            if std::env::var_os("ONIONBUS_RECORD").is_some() {
                fs::write(&path, &said).expect("the tests can write there");
                "THE CLIENT ITSELF ran, and its transcript was written"
            } else {
                same_lines(&fs::read_to_string(&path).unwrap_or_default(), &said);
                "THE CLIENT ITSELF ran, and its transcript is as recorded"
            }
        } else {
            let text = fs::read_to_string(&path).expect("it was recorded");
            let transcripts = Transcript::parse_all(&text);
            assert_eq!(transcripts.len(), Scenario::ALL.len());
            for (transcript, scenario) in transcripts.iter().zip(Scenario::ALL) {
                assert_eq!(transcript.title, scenario.name());
                if has_tor || !matches!(scenario, Scenario::WithTor) {
                    play::play(transcript, &World::start(scenario));
                }
            }
            "the client is not here: THE TRANSCRIPT recorded from it was played"
        };
        let text = fs::read_to_string(&path).expect("it was recorded");
        let count = |mark| text.lines().filter(|line| line.contains(mark)).count();
        let (sent, came) = (count("> ["), count("< ["));
        let name = self.name;
        let notice = format!("\n{name}: {how}: {sent} messages sent, {came} received\n");
        // Not through the macro, which a test that passes keeps to itself.
        let _ = io::stderr().write_all(notice.as_bytes());
    }

    fn heading(&self) -> String {
        format!(
            "# What {} sent, and what came to it. Recorded, not written: see main.rs.\n",
            self.name
        )
    }
}

/// A file of this directory.
fn beside(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/old_clients").join(name)
}

#[track_caller]
fn same_lines(recorded: &str, said: &str) {
    for (number, (recorded, said)) in recorded.lines().zip(said.lines()).enumerate() {
        let line = number + 1;
        assert_eq!(recorded, said, "line {line} of the transcript differs");
    }
    let (recorded, said) = (recorded.lines().count(), said.lines().count());
    assert_eq!(recorded, said, "the number of lines differs");
}

/// A program for which the modules or classes in the directory are to be had.
fn with(directory: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PYTHONPATH", directory);
    command.env("CLASSPATH", directory);
    // Nothing is to be written beside them.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn torcontrol_py() {
    Client {
        name: "TorControl.py",
        script: "torcontrol_walk.py",
        transcript: "torcontrol.txt",
        interpreters: &["python2", "python2.7", "python3"],
        loads: |python| (python, &["-c", "import TorControl"]),
    }
    .show();
}

#[test]
fn jtorctl() {
    Client {
        name: "jtorctl",
        script: "JtorctlWalk.java",
        transcript: "jtorctl.txt",
        interpreters: &["java"],
        // It lists what a class has, and fails where there is no such class.
        loads: |_| {
            (
                "javap",
                &["net.freehaven.tor.control.TorControlConnection0"],
            )
        },
    }
    .show();
}
