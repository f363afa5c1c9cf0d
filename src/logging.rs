//! The daemon's log: to standard error, and as events to the controllers that asked for them.

mod limit;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;

use crate::sys::process;
use crate::wire::event::{Event, EventMask, Severity};
use limit::{Kind, LeftOut, Limit, SPELL, Verdict};

/// What is logged and to whom; shared by the logger and the loop.
#[derive(Debug, Default)]
pub struct Logging {
    /// `BusLog`, as a [`LevelFilter`].
    written: AtomicUsize,
    /// The kinds of events that somebody subscribed to.
    wanted: AtomicU64,
    /// Lines that are to become events, until the loop takes them.
    events: Mutex<Vec<Event>>,
    /// Lines that were not written, or that nobody was told of, because there were too many.
    lost: AtomicU64,
    /// How many lines of each kind there were.
    limit: Mutex<Limit>,
}

/// The target of the lines that say how many others were left out.
const COUNTS: &str = concat!(env!("CARGO_CRATE_NAME"), "::counts");

/// The target of lines whose number has a bound of its own, so that all of them are told.
pub const BOUNDED: &str = concat!(env!("CARGO_CRATE_NAME"), "::bounded");

/// The beginning of the target of lines that are bounded for each user, whose number follows: nobody
/// can hide another's.
const USER: &str = concat!(env!("CARGO_CRATE_NAME"), "::user ");

/// The target of a line that this user has caused, and that has the user's own bound.
#[must_use]
pub fn by_user(uid: u32) -> String {
    format!("{USER}{uid}")
}

/// Lines that wait to be written. Whoever reads standard error may be slow, and must not stop the
/// daemon: what does not fit is counted as lost.
const LINES: usize = 1024;

/// Lines that wait to become events.
const EVENTS: usize = 1024;

/// How long the end of the daemon waits for its last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

struct BusLogger {
    terminal: Logger,
    lines: Sender<Line>,
    logging: Arc<Logging>,
}

/// What the writing thread is given.
enum Line {
    Text(Vec<u8>),
    /// Lines are left out: somebody must say so when their spell is over.
    LeftOut,
    Flush(Sender<()>),
}

/// Hands formatted lines to the writing thread.
struct Lines {
    sender: Sender<Line>,
    logging: Arc<Logging>,
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Line::Text(line.to_vec())).is_err() {
            self.logging.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of the log, until a thread writes them.
pub struct Writer {
    lines: Receiver<Line>,
    logging: Arc<Logging>,
}

impl Writer {
    /// Starts the thread that writes the lines, those from before as well.
    pub fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("log".into());
        thread
            .spawn(move || write_lines(&self.lines, &self.logging))
            .map(drop)
    }
}

fn write_lines(lines: &Receiver<Line>, logging: &Logging) {
    loop {
        let line = if logging.limit.lock().is_limiting() {
            lines.recv_timeout(SPELL)
        } else {
            lines.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match line {
            // A log that cannot be written has nobody to tell of it.
            Ok(Line::Text(text)) => drop(io::stderr().write_all(&text)),
            Ok(Line::Flush(done)) => drop(done.send(())),
            Ok(Line::LeftOut) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        logging.tell_left_out(false);
    }
}

/// Begins to log to standard error. Called once, before anything else logs. Nothing is written
/// before the writer is started.
pub fn start() -> (Arc<Logging>, Writer) {
    let logging = Arc::new(Logging::default());
    let (lines, to_write) = bounded(LINES);
    let mut terminal = Builder::new();
    terminal.filter_level(LevelFilter::Trace);
    terminal.target(Target::Pipe(Box::new(Lines {
        sender: lines.clone(),
        logging: Arc::clone(&logging),
    })));
    // The journal has its own clock and reads the priority from a prefix (sd-daemon(3)).
    if process::writes_to_journal() {
        terminal.format(|out, record| writeln!(out, "<{}>{}", priority(record), record.args()));
    } else {
        terminal.format(|out, record| {
            let severity = severity(record.level()).name();
            let time = out.timestamp_millis();
            writeln!(
                out,
                "{time} [{}] {}",
                severity.to_ascii_lowercase(),
                record.args()
            )
        });
    }
    let logger = BusLogger {
        terminal: terminal.build(),
        lines,
        logging: Arc::clone(&logging),
    };
    // It fails only if a logger is set already, and then that one stays.
    let _ = log::set_boxed_logger(Box::new(logger));
    logging.write_from(LevelFilter::Info);
    let writer = Writer {
        lines: to_write,
        logging: Arc::clone(&logging),
    };
    (logging, writer)
}

/// The priorities of syslog(3).
fn priority(record: &Record<'_>) -> u8 {
    match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug => 6,
        Level::Trace => 7,
    }
}

impl Logging {
    /// Writes lines of this level and worse to standard error (`BusLog`).
    pub fn write_from(&self, level: LevelFilter) {
        self.written.store(level as usize, Ordering::Relaxed);
        self.set_max_level();
    }

    /// The lines since the last call that somebody wants as events.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }

    /// Somebody wants these kinds of events.
    pub fn want(&self, kinds: EventMask) {
        self.wanted.store(kinds.bits(), Ordering::Relaxed);
        self.set_max_level();
    }

    /// Lines that should have been written or told and were not, because there were too many.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether a line is told, and not only counted.
    fn lets_through(&self, record: &Record<'_>, lines: &Sender<Line>) -> bool {
        let uid = record.target().strip_prefix(USER);
        let uid = uid.and_then(|uid| uid.parse().ok());
        let kind: Kind = (record.module_path_static(), record.line(), uid);
        let verdict = self
            .limit
            .lock()
            .judge(kind, record.level(), Instant::now());
        match verdict {
            Verdict::Tell => true,
            Verdict::Last => {
                let text = record.args().to_string();
                self.limit.lock().keep(kind, text);
                true
            }
            Verdict::FirstLeftOut => {
                // If there is no room, the writing thread is awake anyway.
                let _ = lines.try_send(Line::LeftOut);
                false
            }
            Verdict::LeftOut => false,
        }
    }

    /// Logs how many lines were left out in spells that are over; in all of them, if `all`.
    fn tell_left_out(&self, all: bool) {
        let left_out = self.limit.lock().take_left_out(Instant::now(), all);
        for LeftOut { count, level, like } in left_out {
            log::log!(target: COUNTS, level, "{count} more lines were left out, like: {like}");
        }
    }

    fn wants(&self, level: Level) -> bool {
        EventMask::from_bits(self.wanted.load(Ordering::Relaxed)).contains(severity(level).kind())
    }

    fn writes(&self, level: Level) -> bool {
        level as usize <= self.written.load(Ordering::Relaxed)
    }

    fn set_max_level(&self) {
        let most = Level::iter()
            .filter(|&level| self.wants(level) || self.writes(level))
            .max();
        log::set_max_level(most.map_or(LevelFilter::Off, |level| level.to_level_filter()));
    }
}

impl Log for BusLogger {
    /// Other crates are heard only when something is wrong.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        let level = metadata.level();
        (ours || level <= Level::Warn) && (self.logging.writes(level) || self.logging.wants(level))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_bounded = [COUNTS, BOUNDED].contains(&record.target());
        if !is_bounded && !self.logging.lets_through(record, &self.lines) {
            return;
        }
        if self.logging.writes(record.level()) {
            self.terminal.log(record);
        }
        if self.logging.wants(record.level()) {
            let event = Event::Log {
                severity: severity(record.level()),
                text: record
                    .args()
                    .to_string()
                    .replace(['\r', '\n', '\0'], " ")
                    .into(),
            };
            let mut events = self.logging.events.lock();
            if events.len() < EVENTS {
                events.push(event);
            } else {
                self.logging.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything is written, but not for a reader that does not read.
    fn flush(&self) {
        self.logging.tell_left_out(true);
        let (done, wait) = bounded(1);
        let asked = self.lines.send_timeout(Line::Flush(done), PATIENCE);
        if asked.is_ok() {
            // Whether it was written or takes too long, there is nothing more to do.
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}
/// Tor has five severities and the log crate has five levels: they are matched by rank.
const fn severity(level: log::Level) -> Severity {
    match level {
        log::Level::Error => Severity::Err,
        log::Level::Warn => Severity::Warn,
        log::Level::Info => Severity::Notice,
        log::Level::Debug => Severity::Info,
        log::Level::Trace => Severity::Debug,
    }
}
