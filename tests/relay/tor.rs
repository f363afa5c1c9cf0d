//! A Tor as a child process.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use crate::support::{Daemon, PATIENCE, Place, Start, can, run};

/// Whether there is a Tor to test with; see [`can`].
#[track_caller]
pub fn has_tor() -> bool {
    let said = Command::new("tor").arg("--version").output();
    can("tor", said.is_ok_and(|output| output.status.success()))
}

/// Where one Tor, or several in turn, have their control socket, data and torrc.
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// A home for a Tor with a control socket and no login.
    pub fn new() -> Self {
        Self::with("")
    }

    /// As [`Home::new`], with these lines in the torrc too.
    pub fn with(lines: &str) -> Self {
        let home = Self::bare();
        home.add(&format!("SocksPort 0\nDisableNetwork 1\n{lines}"));
        home
    }

    /// A home for a Tor with a control socket and no login, which the torrc takes to the network.
    pub fn bare() -> Self {
        // Tor makes no control socket where others may look.
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .expect("a temporary directory");
        let home = Self { directory };
        let path = home.path().display();
        home.add(&format!(
            "DataDirectory {path}/data\nControlSocket unix:{path}/control\nLog notice stdout\n\
             __OwningControllerProcess {}",
            std::process::id()
        ));
        home
    }

    /// Appends lines to the torrc.
    pub fn add(&self, lines: &str) {
        let mut torrc = self.torrc();
        torrc.push_str(lines);
        torrc.push('\n');
        fs::write(self.path().join("torrc"), torrc).expect("it is writable");
    }

    /// The torrc; empty if there is none yet.
    fn torrc(&self) -> String {
        fs::read_to_string(self.path().join("torrc")).unwrap_or_default()
    }

    /// How many control listeners the torrc asks for.
    fn listeners(&self) -> usize {
        let torrc = self.torrc();
        let is_listener =
            |line: &&str| line.starts_with("ControlSocket") || line.starts_with("ControlPort");
        torrc.lines().filter(is_listener).count()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("control")
    }

    /// The value for `BusTor` that leads to the control socket.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Starts a Tor and waits until it takes connections.
    #[track_caller]
    pub fn start(&self) -> Tor {
        self.start_with(&[])
    }

    /// As [`Home::start`], with the torrc's lines as arguments too, which no LOADCONF takes away.
    #[track_caller]
    pub fn start_with_arguments(&self) -> Tor {
        let torrc = self.torrc();
        let lines = torrc.lines().filter_map(|line| line.split_once(' '));
        let pairs = lines.map(|(name, value)| [format!("--{name}"), value.to_owned()]);
        self.start_with(pairs.flatten().collect::<Vec<_>>().as_slice())
    }

    #[track_caller]
    fn start_with(&self, arguments: &[String]) -> Tor {
        let mut command = Command::new("tor");
        command.arg("-f").arg(self.path().join("torrc"));
        command
            .arg("--defaults-torrc")
            .arg(self.path().join("none"))
            .args(arguments);
        // Else it writes below the home directory of whoever tests.
        command.env("HOME", self.path()).current_dir(self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("tor starts");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens once it is ready, and it must not wait for anybody to read.
                let _ = sender.send(line);
            }
        });
        let mut tor = Tor { child, port: None };
        let mut log = String::new();
        let mut ready = 0;
        let listeners = self.listeners();
        while ready < listeners {
            let line = lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("tor is not ready: {error}: {log}"));
            if let Some((_, address)) = line.split_once("Control listener connection (ready) on ") {
                ready += 1;
                tor.port = address.parse().ok().or(tor.port);
            }
            log += &line;
            log.push('\n');
        }
        tor
    }
}

/// A running Tor; it is killed when this goes.
pub struct Tor {
    child: Child,
    /// Its control port, if it has one.
    pub port: Option<SocketAddr>,
}

impl Tor {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits until it ends by itself.
    pub fn ends(&mut self) {
        self.child.wait().expect("it is our child");
    }

    /// Its memory in KiB (`VmRSS`).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|kib| kib.parse().ok()).expect("proc(5)")
    }

    /// How many descriptors it has open: each control connection is one.
    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        fs::read_dir(directory).expect("it runs").count()
    }
}

impl Drop for Tor {
    fn drop(&mut self) {
        // It fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value for `HashedControlPassword`.
pub fn hashed(password: &str) -> String {
    let mut command = Command::new("tor");
    command.args(["--quiet", "--hash-password", password]);
    run(&mut command).trim().to_owned()
}

/// A daemon that is about to be started with the Tor of `home` behind it.
pub fn serve(place: &Place, home: &Home) -> Start {
    let start = place.serve().looked_into();
    start.set(&format!("BusTor {}", home.address()))
}

/// Waits until the daemon has logged in to Tor: only then can it say that Tor has gone.
#[track_caller]
pub fn is_connected(daemon: &Daemon) {
    daemon.logs(" is there, at ");
}

/// A Tor, and a daemon in front of it that has logged in.
pub struct Pair {
    pub daemon: Daemon,
    pub tor: Tor,
    pub home: Home,
    pub place: Place,
}

impl Pair {
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// As [`Pair::start`], with `--set` for each of these options.
    #[track_caller]
    pub fn with(options: &[&str]) -> Self {
        let home = Home::new();
        let tor = home.start();
        let place = Place::new();
        let start = serve(&place, &home);
        let start = options
            .iter()
            .fold(start, |start, option| start.set(option));
        let daemon = start.ready();
        is_connected(&daemon);
        Self {
            daemon,
            tor,
            home,
            place,
        }
    }
}
