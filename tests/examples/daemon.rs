//! A daemon of its own for an example, and what varies from one run to the next.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A temporary directory in the place of those that the documents name.
pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = Self { root };
        let wrapper = place.path("bin/onionbus");
        fs::create_dir(place.path("bin")).unwrap();
        // Nothing may be kept outside of this directory, whoever runs the tests.
        let script = format!(
            "#!/bin/sh\ncase \"$1 $*\" in\n(*--state*) ;;\n\
             (serve*) shift; set -- serve --state '{}' \"$@\" ;;\nesac\nexec '{}' \"$@\"\n",
            place.path("state").display(),
            env!("CARGO_BIN_EXE_onionbus")
        );
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
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
    }

    /// A command that meets this place only.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.root.path())
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
        let mut command = self.command(self.path("bin/onionbus"));
        command.arg("serve").stderr(Stdio::piped());
        for option in with {
            match &option[..] {
                "an option file" => {
                    fs::write(self.path("onionbus.conf"), "# empty\n").unwrap();
                    command.args(["--config", "onionbus.conf"]);
                }
                option => {
                    command.args(["--set", option]);
                }
            }
        }
        let mut child = command.spawn().expect("the daemon starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("is ready") {
            let read = log.read_line(&mut said).expect("the log is text");
            assert!(read > 0, "the daemon ended: {said}");
        }
        // The rest of the log is read so that the daemon never waits for it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Daemon { child }
    }
}

/// A running daemon; it ends with this value.
pub struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        signal(&self.child, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process group that was started here and not waited for.
pub fn signal(leader: &Child, signal: Signal) {
    let group = i32::try_from(leader.id()).expect("a process id");
    // It may have ended by itself.
    let _ = killpg(Pid::from_raw(group), signal);
}

/// Whether a tool is there. Under CI a missing one is a failure, elsewhere a loud skip.
pub fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        std::env::split_paths(&path).any(|directory| Path::new(&directory).join(tool).exists());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "{tool} is missing"
    );
    if !there {
        eprintln!("SKIPPED: the examples that use {tool}, which is not installed");
    }
    there
}

/// A line with its times, process numbers and secrets made equal.
pub fn masked(line: &str) -> String {
    let mut line = line.trim_end_matches('\r').to_owned();
    for form in [
        "dddd-dd-ddTdd:dd:dd.dddZ",
        "dddd-dd-ddTdd:dd:dd",
        &"h".repeat(64),
    ] {
        line = cover(&line, form);
    }
    for before in [
        "PID=",
        "UID=",
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
    match line.split_once("process/user=") {
        Some((start, _)) => format!("{start}process/user=#"),
        None => line,
    }
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
