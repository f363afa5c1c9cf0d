//! A daemon of its own for an example, and what varies from one run to the next.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{self, Daemon};

/// A temporary directory in the place of those that the documents name.
pub struct Place {
    root: support::Place,
}

impl Place {
    pub fn new() -> Self {
        let root = support::Place::new();
        let place = Self { root };
        let wrapper = place.path("bin/onionbus");
        fs::create_dir(place.path("bin")).unwrap();
        fs::create_dir(place.path("etc")).unwrap();
        // Nothing may be kept outside of this directory, whoever runs the tests.
        let script = format!(
            "#!/bin/sh\ncase \"$1 $*\" in\n(*--state*) ;;\n\
             (serve*) shift; set -- serve --state '{}' \"$@\" ;;\nesac\nexec '{}' \"$@\"\n",
            place.path("state").display(),
            env!("CARGO_BIN_EXE_onionbus")
        );
        fs::write(place.path("wrapper"), script).unwrap();
        support::install(&place.path("wrapper"), &wrapper);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/control")
    }

    /// A text of a document with the paths that are true here.
    pub fn real(&self, text: &str) -> String {
        let state = self.path("state").display().to_string();
        let sockets = format!("{}/", self.path("run").display());
        text.replace("cargo run --release -- ", "onionbus ")
            .replace("/run/user/1000/onionbus/", &sockets)
            .replace("/run/onionbus/", &sockets)
            .replace("/var/lib/onionbus", &state)
            .replace(
                "/etc/onionbus/",
                &format!("{}/", self.path("etc").display()),
            )
    }

    /// A command that meets this place only.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // A job in the background ignores SIGINT, and so would all of its children.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT,QUIT")
            .arg(program.as_ref());
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.path(""))
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("ONIONBUS_SOCKET", self.socket())
            .env("LC_ALL", "C")
            .process_group(0)
            .env_remove("JOURNAL_STREAM");
        command
    }

    /// Starts a daemon with these options, one of which can be an option file, and waits until it
    /// is ready.
    pub fn serve(&self, with: &[String]) -> Daemon {
        let mut start = self.root.serve_bare().state(self.path("state"));
        let socket = self.socket();
        start = start.env("ONIONBUS_SOCKET", socket.to_str().expect("UTF-8"));
        for option in with {
            start = match &option[..] {
                "an option file" => {
                    self.root.file("onionbus.conf", "# empty\n");
                    start.arg("--config").arg("onionbus.conf")
                }
                option => start.set(option),
            };
        }
        start.ready()
    }
}

/// Sends a signal to a process group that was started here and not waited for.
pub fn signal(leader: &Child, signal: Signal) {
    let group = i32::try_from(leader.id()).expect("a process id");
    // It may have ended by itself.
    let _ = killpg(Pid::from_raw(group), signal);
}

/// A line with its times, process numbers and secrets made equal.
pub fn masked(line: &str) -> String {
    let mut line = line.trim_end_matches('\r').to_owned();
    for form in [
        "dddd-dd-ddTdd:dd:dd.dddZ",
        "dddd-dd-ddTdd:dd:dd",
        &"h".repeat(64),
        // Of `bus/chain=`.
        &format!("n={}", "h".repeat(16)),
    ] {
        line = cover(&line, form);
    }
    for before in [
        "PID=",
        "UID=",
        "SECONDS=",
        "READ=",
        "WRITTEN=",
        "KEPT=",
        "traffic      ",
        "memory       ",
        "pid ",
        "uid ",
        "process ",
        "BW ",
        "BW # ",
        "connected; ",
        "octets read, ",
        "process/pid=",
        "process/uid=",
        "uptime=",
        "traffic/read=",
        "traffic/written=",
        "descriptor-limit=",
    ] {
        if let Some((start, rest)) = line.split_once(before) {
            let number = rest.trim_start_matches(|octet: char| octet.is_ascii_digit());
            if number.len() < rest.len() {
                line = format!("{start}{before}#{number}");
            }
        }
    }
    // The kernel decides what comes behind the second.
    for before in ["process/user=", "[notice] confined"] {
        if let Some((start, _)) = line.split_once(before) {
            line = format!("{start}{before}#");
        }
    }
    line
}

/// Replaces what has the form: `d` is a decimal digit, `h` a hexadecimal one.
fn cover(line: &str, form: &str) -> String {
    let fits = |text: &[u8]| {
        text.len() >= form.len()
            && text
                .iter()
                .zip(form.bytes())
                .all(|(octet, form)| match form {
                    b'd' => octet.is_ascii_digit(),
                    b'h' => octet.is_ascii_hexdigit(),
                    other => *octet == other,
                })
    };
    let octets = line.as_bytes();
    match (0..octets.len()).find(|&at| fits(&octets[at..])) {
        Some(at) => {
            let rest = cover(&line[at + form.len()..], form);
            format!("{}#{rest}", &line[..at])
        }
        None => line.to_owned(),
    }
}
