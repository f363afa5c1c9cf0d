//! A daemon as a child process, and controllers that talk to it, for tests of the whole program.
//!
//! Nothing here waits for a time to pass: the daemon says when it is ready, its log says what it
//! did, and whoever waits for either does so no longer than [`PATIENCE`].
#![allow(dead_code, reason = "each file of tests uses a part of it")]

mod controller;
pub mod terminal;

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use controller::Controller;

/// How long anything may take before the test fails: much longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where one daemon, or several in turn, have their socket, state and option file.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A place that other users can look into: what they may do is for the files' modes to say.
    pub fn open_to_all() -> Self {
        let place = Self::new();
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.0.path(), everybody).expect("it is ours");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("control")
    }

    /// Writes a file and returns where it is.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the place is writable");
        path
    }

    /// The program as a copy that every user can run, wherever the project lies.
    pub fn program(&self) -> PathBuf {
        let path = self.path("onionbus");
        install(env!("CARGO_BIN_EXE_onionbus").as_ref(), &path);
        path
    }

    /// A daemon with its state and socket here.
    pub fn serve(&self) -> Start {
        self.serve_bare()
            .arg("--socket")
            .arg(self.socket())
            .state(self.path("state"))
    }

    /// A daemon with the option file `text`, its state here, and the socket unless `text` has one.
    pub fn configured(&self, text: &str) -> Start {
        let file = self.file("onionbus.conf", text);
        let start = if text.contains("BusSocket") {
            self.serve_bare().state(self.path("state"))
        } else {
            self.serve()
        };
        start.arg("--config").arg(file)
    }

    /// A daemon with only a working directory.
    pub fn serve_bare(&self) -> Start {
        Start {
            before: Vec::new(),
            arguments: vec!["serve".into()],
            environment: Vec::new(),
            descriptors: Vec::new(),
            state: None,
            directory: self.0.path().to_owned(),
        }
    }

    /// Starts a daemon with nothing set.
    pub fn daemon(&self) -> Daemon {
        self.serve().ready()
    }
}

/// How a daemon is started.
pub struct Start {
    before: Vec<String>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    descriptors: Vec<OwnedFd>,
    state: Option<PathBuf>,
    directory: PathBuf,
}

impl Start {
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Takes this for its state directory; the last one counts.
    pub fn state(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(path.into());
        self
    }

    pub fn set(self, option: &str) -> Self {
        self.arg("--set").arg(option)
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A command that executes the daemon, such as `prlimit --nofile=64`.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Passes sockets on as a service manager does, at most three, under `names`
    /// (`LISTEN_FDNAMES`).
    pub fn passing(mut self, names: Option<&str>, sockets: Vec<impl Into<OwnedFd>>) -> Self {
        assert!(sockets.len() <= 2, "standard input and output carry them");
        // The shell knows the number of the process that will be the daemon.
        let script = match sockets.len() {
            1 => r#"LISTEN_PID=$$ exec "$@" 3<&0 </dev/null"#,
            _ => r#"LISTEN_PID=$$ exec "$@" 3<&0 4<&1 </dev/null >/dev/null"#,
        };
        self.environment
            .push(("LISTEN_FDS".into(), sockets.len().to_string()));
        if let Some(names) = names {
            self.environment
                .push(("LISTEN_FDNAMES".into(), names.into()));
        }
        self.descriptors = sockets.into_iter().map(Into::into).collect();
        self.under(&["sh", "-c", script, "sh"])
    }

    /// Lets the test look into its directory in /proc, which of a confined daemon is root's.
    pub fn looked_into(self) -> Self {
        if nix::unistd::geteuid().is_root() {
            self
        } else {
            self.set("BusConfine 0")
        }
    }

    /// Starts it and waits for nothing.
    pub fn spawn(self) -> Daemon {
        // Each daemon has its own: who is ready must not be confused.
        let notify = tempfile::Builder::new()
            .prefix("notify-")
            .tempdir_in(&self.directory)
            .expect("a directory");
        let notify_path = notify.path().join("socket");
        let datagrams = UnixDatagram::bind(&notify_path).expect("a socket");
        let program = env!("CARGO_BIN_EXE_onionbus");
        let mut words = self.before.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).args(&self.arguments);
        if let Some(state) = &self.state {
            command.arg("--state").arg(state);
        }
        command.current_dir(&self.directory);
        for name in [
            "ONIONBUS_SOCKET",
            "JOURNAL_STREAM",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
        ] {
            command.env_remove(name);
        }
        command.env("NOTIFY_SOCKET", &notify_path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut descriptors = self.descriptors.into_iter();
        command.stdin(descriptors.next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(descriptors.next().map_or_else(Stdio::null, Stdio::from));
        command.stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Else a socket that was passed on stays open here.
        drop(command);
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                hear(&log, |heard| heard.log.push(line));
            }
            hear(&log, |heard| heard.ended = true);
            // Ends the thread below. Nobody is there to hear it if that ended already.
            let _ = UnixDatagram::unbound()
                .and_then(|socket| socket.send_to(b"", notify.path().join("socket")));
        });
        let notes = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = datagrams.recv(&mut buffer) {
                let note = String::from_utf8_lossy(&buffer[..length]).into_owned();
                hear(&notes, |heard| heard.notes.push(note));
            }
        });
        Daemon {
            guard: Some(Guard::of(child.id())),
            child,
            heard,
            taken: 0,
            read: 0,
            socket: self.directory.join("control"),
        }
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn ready(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.notified("READY=1");
        daemon
    }

    /// Starts it, expects it to end with `code`, and returns what it said.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        let mut daemon = self.spawn();
        let said = daemon.ends(code);
        let notes = daemon.heard.0.lock().expect("no panic").notes.clone();
        assert!(
            !notes.iter().any(|note| note.contains("READY")),
            "{notes:?}"
        );
        said
    }
}

/// What a daemon has said.
#[derive(Default)]
struct Heard {
    log: Vec<String>,
    notes: Vec<String>,
    /// It has closed its standard error, which is: it has ended.
    ended: bool,
}

fn hear(heard: &(Mutex<Heard>, Condvar), change: impl FnOnce(&mut Heard)) {
    change(&mut heard.0.lock().expect("no panic"));
    heard.1.notify_all();
}

/// Kills a process when the test ends in any way but the one that drops this first.
struct Guard(Child);

impl Guard {
    fn of(pid: u32) -> Self {
        // The end of the pipe is the end of the test: no line comes before it.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"read -r line || kill -9 "$0""#, &pid.to_string()]);
        shell.stdin(Stdio::piped()).stderr(Stdio::null());
        Self(shell.spawn().expect("sh starts"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        let _ = self.0.wait();
    }
}

/// A running daemon; it is killed when this goes.
pub struct Daemon {
    guard: Option<Guard>,
    child: Child,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    /// How many notes [`Daemon::notified`] has gone over.
    taken: usize,
    /// How many lines of the log [`Daemon::logs_next`] has gone over.
    read: usize,
    socket: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a pid is one");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        self.guard = None;
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits for what `find` finds in what was heard.
    #[track_caller]
    fn wait_for<T>(&self, what: &str, find: impl Fn(&Heard) -> Option<T>) -> T {
        let (heard, changed) = &*self.heard;
        let mut found = None;
        let guard = heard.lock().expect("no panic");
        let (guard, _) = changed
            .wait_timeout_while(guard, PATIENCE, |heard| {
                found = find(heard);
                found.is_none() && !heard.ended
            })
            .expect("no panic");
        let said = format!("{:?} and {:?}", guard.log, guard.notes);
        // Whoever still listens to the daemon wants the lock, and not poisoned.
        drop(guard);
        found.unwrap_or_else(|| panic!("no {what}; the daemon said {said}"))
    }

    /// Waits for the next note to the service manager that contains `part`, and returns it.
    #[track_caller]
    pub fn notified(&mut self, part: &str) -> String {
        let taken = self.taken;
        let (index, note) = self.wait_for(part, |heard| {
            let mut notes = heard.notes.iter().enumerate().skip(taken);
            let (index, note) = notes.find(|(_, note)| note.contains(part))?;
            Some((index, note.clone()))
        });
        self.taken = index + 1;
        note
    }

    /// Waits until it is ready, or has ended instead.
    #[track_caller]
    pub fn is_ready(&mut self) -> bool {
        self.wait_for("READY=1 or end", |heard| {
            let ready = heard.notes.iter().any(|note| note.contains("READY=1"));
            (ready || heard.ended).then_some(ready)
        })
    }

    /// Waits for a line of the log that contains `part`, and returns the first.
    #[track_caller]
    pub fn logs(&self, part: &str) -> String {
        self.wait_for(part, |heard| {
            heard.log.iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// Waits for a line of the log that contains `part`, behind the last one waited for so.
    #[track_caller]
    pub fn logs_next(&mut self, part: &str) {
        let read = self.read;
        self.read = self.wait_for(part, |heard| {
            let mut lines = heard.log.iter().skip(read);
            Some(read + lines.position(|line| line.contains(part))? + 1)
        });
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.heard.0.lock().expect("no panic").log.join("\n")
    }

    /// Waits for its end, which is `code`, and returns the log.
    #[track_caller]
    pub fn ends(&mut self, code: i32) -> String {
        let log = self.wait_for("end", |heard| heard.ended.then(|| heard.log.join("\n")));
        self.guard = None;
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.code(), Some(code), "{status}: {log}");
        log
    }

    /// SIGTERM, and a clean end.
    #[track_caller]
    pub fn stop(&mut self) -> String {
        self.signal(Signal::SIGTERM);
        self.ends(0)
    }

    /// A new controller.
    #[track_caller]
    pub fn connect(&self) -> Controller {
        Controller::at(&self.socket)
    }

    /// A new controller with a name.
    #[track_caller]
    pub fn named(&self, name: &str) -> Controller {
        let mut controller = self.connect();
        controller.ok(&format!("CONTROLLERNAME {name}"));
        controller
    }

    /// Its memory in KiB (`VmRSS`).
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it ever had, in KiB (`VmHWM`).
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|kib| kib.parse().ok()).expect("proc(5)")
    }

    /// The processor time it has used, in clock ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, rest) = stat.rsplit_once(") ").expect("proc(5)");
        let fields: Vec<&str> = rest.split(' ').collect();
        // utime and stime are the fields 14 and 15; `rest` begins with the third.
        let field = |number: usize| fields[number - 3].parse::<u64>().expect("proc(5)");
        field(14) + field(15)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.guard = None;
        // It fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// One message of the TC draft.
pub fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a body has at most 65535 octets");
    let mut frame = Vec::from(length.to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Copies a program or a script to where it will be executed. A process of its own does it: a file
/// that this one had open for writing could still be open in a child of another thread, and nothing
/// executes such a file.
#[track_caller]
pub fn install(from: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755"]).args([from, to]));
}

/// Runs a command to its end and returns what it printed, if it succeeded.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout.into_owned()
}

/// Whether a test can be run. In CI it must; elsewhere it says loudly that it is left out, and how
/// many have been by then.
#[track_caller]
pub fn can(what: &str, it_can: bool) -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    if !it_can {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let needed = format!("{name}: {what} is needed for it");
        assert!(std::env::var_os("CI").is_none(), "{needed}");
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let notice = format!("\nSKIPPED ({count}): {needed}\n");
        // Not through the macro, which a test that passes keeps to itself.
        let _ = io::stderr().write_all(notice.as_bytes());
    }
    it_can
}

/// Whether a program is installed, as [`can`].
#[track_caller]
pub fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    can(tool, found)
}

/// Whether the test runs as root, as [`can`].
#[track_caller]
pub fn is_root() -> bool {
    can("root", nix::unistd::geteuid().is_root())
}

/// A Python that has `module`, if there is one, as [`can`]. The first on the PATH need not
/// be the one that the distribution has modules for.
#[track_caller]
pub fn python_with(module: &str) -> Option<&'static str> {
    let import = format!("import {module}");
    let has_it = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", &import]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_it);
    can(&format!("Python's {module}"), found.is_some());
    found
}

/// Asks again until `holds`, and fails if it never does. Only for what nobody tells of, such as the
/// memory of another process: there is nothing to wait for but the next asking, and the machine is
/// left to others until then.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
