//! The daemon's log: to standard error, and as events to the controllers that asked for them.

use std::env;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;
use env_logger::{Builder, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::bus::To;
use crate::bus::fanout::Item;
use crate::wire::event::{Event, EventMask, Severity};

/// What is logged and to whom; shared by the logger and the loop.
#[derive(Debug, Default)]
pub struct Logging {
    /// `BusLog`, as a [`LevelFilter`].
    written: AtomicUsize,
    /// The kinds of events that somebody subscribed to.
    wanted: AtomicU64,
    events: OnceLock<Sender<Item>>,
    /// Lines that nobody was told of, because the fan-out thread was behind.
    lost: AtomicU64,
}

struct BusLogger {
    terminal: Logger,
    logging: Arc<Logging>,
}

/// Begins to log to standard error. Called once, before anything else logs.
pub fn start() -> Arc<Logging> {
    let logging = Arc::new(Logging::default());
    let mut terminal = Builder::new();
    terminal.filter_level(LevelFilter::Trace);
    // The journal has its own clock and reads the priority from a prefix (sd-daemon(3)).
    if env::var_os("JOURNAL_STREAM").is_some() {
        terminal.format(|out, record| writeln!(out, "<{}>{}", priority(record), record.args()));
    } else {
        terminal.format(|out, record| {
            let severity = Severity::of(record.level()).kind().name();
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
        logging: Arc::clone(&logging),
    };
    // It fails only if a logger is set already, and then that one stays.
    let _ = log::set_boxed_logger(Box::new(logger));
    logging.write_from(LevelFilter::Info);
    logging
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

    /// Log lines become events from now on.
    pub fn send_to(&self, fanout: Sender<Item>) {
        // Set once, at the start.
        let _ = self.events.set(fanout);
    }

    /// Somebody wants these kinds of events.
    pub fn want(&self, kinds: EventMask) {
        self.wanted.store(kinds.bits(), Ordering::Relaxed);
        self.set_max_level();
    }

    /// Lines that should have been events and were not, because too much else was.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn wants(&self, level: Level) -> bool {
        EventMask::from_bits(self.wanted.load(Ordering::Relaxed))
            .contains(Severity::of(level).kind())
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
        if self.logging.writes(record.level()) {
            self.terminal.log(record);
        }
        if self.logging.wants(record.level())
            && let Some(fanout) = self.logging.events.get()
        {
            let event = Event::Log {
                severity: Severity::of(record.level()),
                text: record
                    .args()
                    .to_string()
                    .replace(['\r', '\n', '\0'], " ")
                    .into(),
            };
            // Never wait here: whoever logs may be what the fan-out thread waits for.
            let item = Item::Events(vec![(event, To::Subscribers)]);
            if fanout.try_send(item).is_err() {
                self.logging.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {
        self.terminal.flush();
    }
}
