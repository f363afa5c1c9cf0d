//! A daemon of a test's own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// What takes longer than this will never come.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PROGRAM: &str = env!("CARGO_BIN_EXE_onionbus");

pub struct Daemon {
    directory: TempDir,
    arguments: Vec<String>,
    descriptors: Option<u32>,
    child: Child,
    log: Receiver<String>,
    logged: Vec<String>,
}

impl Daemon {
    /// Starts a daemon with these options, and with these sockets besides `control`, and waits
    /// until it is ready.
    pub fn start(
        options: &[String],
        sockets: &[(String, String)],
        descriptors: Option<u32>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Another user must get as far as the sockets, whose modes decide.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .expect("its owner may");
        let path = directory.path().display();
        let mut lines = vec![
            format!("BusStateDirectory {path}/state"),
            format!("BusSocket {path}/control Mode=0666"),
        ];
        for (name, settings) in sockets {
            lines.push(format!("BusSocket {path}/{name} {settings}"));
        }
        lines.extend(options.iter().cloned());
        let (child, log) = spawn(directory.path(), &lines, descriptors);
        Self {
            directory,
            arguments: lines,
            descriptors,
            child,
            log,
            logged: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn connect(&self, socket: &str) -> UnixStream {
        UnixStream::connect(self.path(socket)).expect("the daemon listens")
    }

    /// Ends it, as SIGTERM or SIGKILL does, and starts another one in its place.
    pub fn restart(&mut self, killed: bool) {
        if killed {
            self.child.kill().expect("it runs");
            self.child.wait().expect("it was started here");
        } else {
            self.end();
        }
        (self.child, self.log) = spawn(self.directory.path(), &self.arguments, self.descriptors);
    }

    /// Ends it, and checks that it ended well.
    pub fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        let status = self.child.wait().expect("it was started here");
        assert!(status.success(), "the daemon ended with {status}");
    }

    /// Waits until a line with this text is logged.
    pub fn logs(&mut self, text: &str) {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let Ok(line) = line else {
                panic!("{text:?} is not logged");
            };
            let found = line.contains(text);
            self.logged.push(line);
            if found {
                return;
            }
        }
    }

    /// Everything logged so far.
    fn log(&mut self) -> String {
        self.logged.extend(self.log.try_iter());
        self.logged.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn spawn(
    directory: &Path,
    lines: &[String],
    descriptors: Option<u32>,
) -> (Child, Receiver<String>) {
    let notified = directory.join("ready");
    // It is there after a restart.
    let _ = fs::remove_file(&notified);
    let ready = UnixDatagram::bind(&notified).expect("a socket");
    ready
        .set_read_timeout(Some(PATIENCE))
        .expect("a time that is not 0");
    let mut command = match descriptors {
        None => Command::new(PROGRAM),
        Some(number) => {
            let mut prlimit = Command::new("prlimit");
            prlimit.arg(format!("--nofile={number}")).arg(PROGRAM);
            prlimit
        }
    };
    command.arg("serve");
    for line in lines {
        command.args(["--set", line]);
    }
    command.env("NOTIFY_SOCKET", &notified);
    for name in ["JOURNAL_STREAM", "ONIONBUS_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let (sender, log) = channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut message = [0; 64];
    let length = ready.recv(&mut message).unwrap_or_default();
    if !message[..length].starts_with(b"READY=1") {
        let _ = child.kill();
        let log: Vec<_> = log.iter().collect();
        panic!("the daemon is not ready: {}", log.join("\n"));
    }
    (child, log)
}
