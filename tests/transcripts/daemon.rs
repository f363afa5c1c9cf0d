//! A daemon of a transcript's own, which can be started again.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::support::{self, Place};

pub struct Daemon {
    place: Place,
    options: Vec<String>,
    descriptors: Option<u32>,
    running: support::Daemon,
}

impl Daemon {
    /// Starts a daemon with these options, and with these sockets besides `control`, and waits
    /// until it is ready.
    pub fn start(
        options: &[String],
        sockets: &[(String, String)],
        descriptors: Option<u32>,
    ) -> Self {
        // Another user must get as far as the sockets, whose modes decide.
        let place = Place::open_to_all();
        let socket = |name: &str, settings: &str| {
            format!("BusSocket {} {settings}", place.path(name).display())
        };
        let mut all = vec![socket("control", "Mode=0666")];
        all.extend(sockets.iter().map(|(name, words)| socket(name, words)));
        all.extend_from_slice(options);
        let running = run(&place, &all, descriptors);
        Self {
            place,
            options: all,
            descriptors,
            running,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub fn connect(&self, socket: &str) -> UnixStream {
        UnixStream::connect(self.path(socket)).expect("the daemon listens")
    }

    /// Ends it, as SIGTERM or SIGKILL does, and starts another one in its place.
    pub fn restart(&mut self, killed: bool) {
        if killed {
            self.running.kill();
        } else {
            self.end();
        }
        self.running = run(&self.place, &self.options, self.descriptors);
    }

    /// Ends it, and checks that it ended well.
    pub fn end(&mut self) {
        self.running.stop();
    }

    /// Waits until a line with this text is logged, behind the last one that was waited for.
    pub fn logs(&mut self, text: &str) {
        self.running.logs_next(text);
    }
}

fn run(place: &Place, options: &[String], descriptors: Option<u32>) -> support::Daemon {
    let start = place.serve_bare().state(place.path("state"));
    let start = options.iter().fold(start, |start, line| start.set(line));
    match descriptors {
        None => start.ready(),
        Some(number) => {
            let limit = format!("--nofile={number}");
            start.under(&["prlimit", &limit]).ready()
        }
    }
}
