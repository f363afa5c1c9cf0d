//! Three buses, three bridges and a NATS server, of the test's own.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod way;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The time after which a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Whether there is a `nats-server`. Without one a test is left out with a word, and in CI fails.
pub fn has_nats() -> bool {
    let found = Command::new("nats-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        let lacks = "SKIPPED: the bridge is not tested without nats-server (Debian: nats-server)";
        assert!(std::env::var_os("CI").is_none(), "{lacks}");
        let _ = writeln!(std::io::stderr(), "{lacks}");
    }
    found
}

/// The daemon: `ONIONBUS`, or made from this checkout.
fn onionbus() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os("ONIONBUS") {
            return program.into();
        }
        let target = Path::new(ROOT).join("target");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--bin", "onionbus", "--target-dir"])
            .arg(&target)
            .current_dir(ROOT)
            .status();
        assert!(
            built.expect("cargo starts").success(),
            "no daemon to test with"
        );
        target.join("debug/onionbus")
    })
}

/// A directory for everything that a test starts.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// A bus of its own, with a history that is long enough.
    pub fn bus(&self, host: &str, options: &[&str]) -> Bus {
        let bus = Bus {
            socket: self.path(&format!("{host}.sock")),
            state: self.path(&format!("{host}.state")),
            options: options.iter().map(ToString::to_string).collect(),
            process: Mutex::new(None),
        };
        bus.start();
        bus
    }

    /// A bus with a policy that lets the bridge, which comes through the socket that is returned,
    /// do what the profile `bridge` says.
    pub fn guarded_bus(&self, host: &str) -> (Bus, String) {
        let path = |name: &str| self.path(name).display().to_string();
        let bundle = Path::new(ROOT).join("contrib/policy/bridge.policy");
        let bundle = self.write(
            "bridge.policy",
            &fs::read_to_string(bundle).expect("it is there"),
        );
        let [all, own] =
            [format!("{host}.sock"), format!("{host}-bridge.sock")].map(|it| path(&it));
        let site = format!(
            "Profile the-bridge\nMatch socket={own}\nUse bridge\n\
             Profile others\nMatch socket={all}\nAllow all\n"
        );
        let site = self.write(&format!("{host}.policy"), &site);
        let options = [
            format!("BusSocket {own}"),
            format!("BusPolicy {}", bundle.display()),
            format!("BusPolicy {}", site.display()),
        ];
        let options = options.each_ref().map(String::as_str);
        (self.bus(host, &options), own)
    }

    /// A NATS server with JetStream; `more` are lines of its configuration.
    pub fn nats(&self, more: &str) -> Nats {
        // The port is ours until the server has it.
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        let port = port.expect("a port").port();
        let store = self.path("jetstream");
        let conf = format!(
            "listen: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        let mut nats = Nats {
            port,
            conf: self.write("nats.conf", &conf),
            process: None,
        };
        nats.start();
        nats
    }

    /// How the bridge of a host is started.
    pub fn bridge(&self, host: &str, nats: &str, more: &[&str]) -> Bridge {
        let mut bridge = Bridge {
            arguments: vec![
                "--socket".into(),
                self.path(&format!("{host}.sock")).display().to_string(),
                "--state".into(),
                self.path(&format!("{host}.bridge")).display().to_string(),
                "--nats".into(),
                nats.into(),
                "--group".into(),
                "test".into(),
                "--host".into(),
                host.into(),
                "--log".into(),
                "debug".into(),
            ],
            process: None,
        };
        bridge
            .arguments
            .extend(more.iter().map(ToString::to_string));
        bridge
    }
}

/// What a process has written to standard error.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn of(child: &mut Child) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let (copy, stderr) = (Arc::clone(&log), child.stderr.take().expect("it is piped"));
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                copy.lines.lock().unwrap().push(line);
                copy.more.notify_all();
            }
        });
        log
    }

    /// Waits for a line with `text` in it, and returns the first.
    pub fn wait(&self, text: &str) -> String {
        let lines = self.lines.lock().unwrap();
        let has_none = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, _) = self
            .more
            .wait_timeout_while(lines, PATIENCE, has_none)
            .unwrap();
        let line = lines.iter().find(|line| line.contains(text));
        line.cloned()
            .unwrap_or_else(|| panic!("no {text:?} in {}", lines.join("\n")))
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// A process that ends with the test.
pub struct Process {
    child: Child,
    pub log: Arc<Log>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Log::of(&mut child);
        Self { child, log }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Waits for its end.
    pub fn end(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bus.
pub struct Bus {
    pub socket: PathBuf,
    state: PathBuf,
    options: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl Bus {
    pub fn start(&self) {
        let mut command = Command::new(onionbus());
        command
            .arg("serve")
            .arg("--socket")
            .arg(&self.socket)
            .arg("--state")
            .arg(&self.state);
        for option in &self.options {
            command.arg("--set").arg(option);
        }
        let process = Process::start(&mut command);
        process.log.wait("is ready");
        *self.process.lock().unwrap() = Some(process);
    }

    pub fn signal(&self, signal: Signal) {
        self.process
            .lock()
            .unwrap()
            .as_ref()
            .expect("it runs")
            .signal(signal);
    }

    pub fn kill(&self) {
        self.process.lock().unwrap().take();
    }

    pub fn controller(&self, name: &str) -> Controller {
        let mut controller = Controller::connect(&self.socket);
        if !name.is_empty() {
            assert_eq!(controller.ask(&format!("CONTROLLERNAME {name}")), "250 OK");
        }
        controller
    }

    /// Waits until there is a controller of this name, or is none; returns how long it took.
    pub fn wait_for(&self, name: &str, is_there: bool) -> Duration {
        let begin = Instant::now();
        let mut watcher = self.controller("");
        assert_eq!(watcher.ask("SETEVENTS CONTROLLER"), "250 OK");
        loop {
            let list = watcher.ask("GETINFO list-controllers");
            if list.lines().any(|line| line == name) == is_there {
                return begin.elapsed();
            }
            // Whatever it is, the list is worth another look.
            watcher.event();
        }
    }
}

/// A NATS server.
pub struct Nats {
    pub port: u16,
    conf: PathBuf,
    process: Option<Process>,
}

impl Nats {
    pub fn start(&mut self) {
        let process = Process::start(Command::new("nats-server").arg("-c").arg(&self.conf));
        process.log.wait("Server is ready");
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn log(&self) -> &Log {
        &self.process.as_ref().expect("it runs").log
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// A bridge, which may be started more than once.
pub struct Bridge {
    pub arguments: Vec<String>,
    process: Option<Process>,
}

impl Bridge {
    /// Starts it without waiting.
    pub fn launch(&mut self) -> &mut Process {
        let program = env!("CARGO_BIN_EXE_onionbus-bridge");
        let process = Process::start(Command::new(program).args(&self.arguments));
        self.process.insert(process)
    }

    /// Starts it where no file can have more than 4 KB, as on a disk that is full before long.
    pub fn launch_with_little_room(&mut self) -> &mut Process {
        let program = env!("CARGO_BIN_EXE_onionbus-bridge");
        let script = r#"trap "" XFSZ; ulimit -f 8; exec "$0" "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, program]).args(&self.arguments);
        self.process.insert(Process::start(&mut command))
    }

    /// Waits for its end.
    pub fn end(&mut self) -> std::process::ExitStatus {
        self.process.as_mut().expect("it was started").end()
    }

    /// Starts it, and waits until it has joined.
    pub fn start(&mut self) {
        let process = self.launch();
        process.log.wait("joined the group");
        process.log.wait("on the bus");
    }

    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Sets an option that it has to something else.
    pub fn set(&mut self, option: &str, value: &str) {
        let mut arguments = self.arguments.iter();
        let at = arguments.position(|argument| argument == option);
        self.arguments[at.expect("it has one") + 1] = value.into();
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    pub fn log(&self) -> &Log {
        &self.process.as_ref().expect("it runs").log
    }

    /// Ends it as the service manager does, and returns its counters.
    pub fn stop(&mut self) -> Dropped {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGTERM);
        let status = process.end();
        let line = process.log.wait("ended; dropped:");
        assert!(status.success(), "{status}: {}", process.log.text());
        Dropped::read(&line)
    }

    /// Its counters.
    pub fn dropped(&self) -> Dropped {
        self.signal(Signal::SIGUSR1);
        let line = self.log().wait("[info] dropped:");
        Dropped::read(&line)
    }
}

/// The counters of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Dropped(Vec<(String, u64)>);

impl Dropped {
    fn read(line: &str) -> Self {
        let words = line.split(' ').filter_map(|word| word.split_once('='));
        Self(
            words
                .map(|(word, count)| (word.into(), count.parse().unwrap()))
                .collect(),
        )
    }

    pub fn of(&self, reason: &str) -> u64 {
        let found = self.0.iter().find(|(word, _)| word == reason);
        found.unwrap_or_else(|| panic!("no {reason} in {self:?}")).1
    }

    /// All but those that a bus was given and had not answered: no bus ends in these tests before
    /// it has carried them out.
    pub fn lost(&self) -> u64 {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        all - self.of("unanswered")
    }

    pub fn shown(&self) -> String {
        let mut text = String::new();
        for (word, count) in self.0.iter().filter(|(_, count)| *count > 0) {
            let _ = write!(text, " {word}={count}");
        }
        if text.is_empty() {
            " none".into()
        } else {
            text
        }
    }
}

/// A controller, octet by octet.
pub struct Controller {
    write: UnixStream,
    read: BufReader<UnixStream>,
    events: VecDeque<Vec<u8>>,
}

impl Controller {
    pub fn connect(socket: &Path) -> Self {
        let write = UnixStream::connect(socket).expect("the bus is there");
        write.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = BufReader::new(write.try_clone().unwrap());
        Self {
            write,
            read,
            events: VecDeque::new(),
        }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.write.write_all(octets).expect("the bus reads");
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.read
            .read_until(b'\n', &mut line)
            .expect("the bus says something");
        assert!(
            line.ends_with(b"\r\n"),
            "the bus has closed: {}",
            line.escape_ascii()
        );
        line.truncate(line.len() - 2);
        line
    }

    /// The next reply: its last line, or all its lines if it is data.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        let mut is_data = false;
        loop {
            let line = self.line();
            if !is_data && line.starts_with(b"650") {
                self.events.push_back(line);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            let kind = line.get(3).copied();
            all.push_str(&text);
            if is_data {
                is_data = text != ".";
            } else if kind == Some(b' ') {
                return all;
            } else {
                is_data = kind == Some(b'+');
            }
            all.push('\n');
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// The next event.
    pub fn event(&mut self) -> Vec<u8> {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let line = self.line();
        assert!(
            line.starts_with(b"650"),
            "no event: {}",
            line.escape_ascii()
        );
        line
    }

    /// The next message: from whom, to whom, and the text.
    pub fn message(&mut self) -> (String, String, Vec<u8>) {
        let event = self.event();
        let mut words = event.splitn(6, |octet| *octet == b' ').skip(3);
        let mut word = || words.next().expect("a message").to_vec();
        let (source, to) = (word(), word());
        let text = |octets| String::from_utf8(octets).expect("a name");
        (text(source), text(to), word())
    }
}
