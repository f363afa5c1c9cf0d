//! Servers as child processes, and what the kernel says of them: processor time, memory, waking.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// How long anything may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A program that is not installed: its part of the benchmark is left out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// Where `program` is installed.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| Missing("not installed".into()).into())
}

/// A directory for the sockets and files of one server, for its owner only: Tor asks for that.
pub fn place() -> Result<TempDir> {
    let private = fs::Permissions::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    let place = builder.prefix("bench-").permissions(private).tempdir()?;
    Ok(place)
}

/// A running process; it is killed when this goes.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose output goes into a file in `place`.
    pub fn start(command: Command, place: &Path) -> Result<Self> {
        Self::start_with(command, place, Stdio::null())
    }

    /// As [`Process::start`], with this as its standard input.
    pub fn start_with(mut command: Command, place: &Path, stdin: Stdio) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name();
        let name = name.and_then(OsStr::to_str).unwrap_or("server").to_owned();
        let log = place.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        command
            .current_dir(place)
            .env("HOME", place)
            .stdin(stdin)
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self { child, log })
    }

    /// Waits until it takes connections on `socket`.
    pub fn listens(mut self, socket: &Path) -> Result<Self> {
        let begun = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once, {status}: {}", self.said());
            }
            if begun.elapsed() > PATIENCE {
                bail!("nothing listens on {}: {}", socket.display(), self.said());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self)
    }

    fn said(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).trim().to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The threads' directories in proc(5).
    fn tasks(&self) -> Result<Vec<PathBuf>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id()))?;
        Ok(tasks.flatten().map(|entry| entry.path()).collect())
    }

    /// Whether all of its threads wait for something.
    fn is_at_rest(&self) -> Result<bool> {
        for task in self.tasks()? {
            let stat = fs::read_to_string(task.join("stat"))?;
            let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
            if state == Some("R") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The processor time that it has used, in microseconds. It is exact once the process rests, which this waits
    /// for a little.
    pub fn cpu(&self) -> Result<f64> {
        for _ in 0..100 {
            if self.is_at_rest()? {
                break;
            }
            thread::sleep(Duration::from_micros(200));
        }
        let mut nanoseconds = 0;
        for task in self.tasks()? {
            let schedstat = fs::read_to_string(task.join("schedstat"))
                .context("this kernel does not count processor time in /proc/PID/schedstat")?;
            let first = schedstat.split(' ').next().unwrap_or_default();
            nanoseconds += first.parse::<u64>().context("schedstat")?;
        }
        Ok(nanoseconds as f64 / 1e3)
    }

    /// How often its threads were switched to, which is: had something to do after a rest.
    pub fn switches(&self) -> Result<u64> {
        let mut switches = 0;
        for task in self.tasks()? {
            switches += field(&task.join("status"), "voluntary_ctxt_switches:")?;
        }
        Ok(switches)
    }

    /// A figure in KiB from `/proc/PID/status`, such as `VmRSS:` or `VmHWM:`.
    pub fn memory(&self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.id());
        Ok(field(Path::new(&path), name)? as f64)
    }
}

fn field(path: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|rest| rest.split_whitespace().next());
    value
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("{name} in {}", path.display()))
}

impl Drop for Process {
    fn drop(&mut self) {
        // They fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
