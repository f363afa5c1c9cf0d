//! A terminal, for tests of what people see and type.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::{PATIENCE, eventually};

/// A program on a terminal, and the person before it.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    /// What has been shown and not been looked at.
    shown: Vec<u8>,
    /// The octets that have been shown.
    pub count: usize,
}

impl Terminal {
    pub fn new(mut command: Command) -> Self {
        let pty = openpty(None, None).expect("a terminal");
        command.env("TERM", "xterm");
        let slave = || pty.slave.try_clone().expect("a descriptor");
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().expect("it starts");
        drop((command, pty.slave));
        let keys = File::from(pty.master);
        let mut master = keys.try_clone().expect("a descriptor");
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Once nobody has the other end open, it is EIO that says so.
            while let Ok(length) = master.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let shown = Vec::new();
        Self {
            child,
            keys,
            screen,
            shown,
            count: 0,
        }
    }

    pub fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Waits until each of these has been shown, in this order.
    #[track_caller]
    pub fn shows(&mut self, texts: &[&str]) {
        let until = Instant::now() + PATIENCE;
        for text in texts {
            loop {
                let found = memchr::memmem::find(&self.shown, text.as_bytes());
                if let Some(at) = found {
                    self.shown.drain(..at + text.len());
                    break;
                }
                let left = until.saturating_duration_since(Instant::now());
                let more = self.screen.recv_timeout(left);
                let shown = self.shown.escape_ascii();
                let more = more.unwrap_or_else(|end| panic!("no {text:?} ({end}) in {shown}"));
                self.count += more.len();
                self.shown.extend(more);
            }
        }
    }

    /// Waits until nothing that is typed is shown.
    #[track_caller]
    pub fn hides(&self) {
        eventually("the terminal hides what is typed", || {
            let mode = tcgetattr(&self.keys).expect("a terminal");
            !mode.local_flags.contains(LocalFlags::ECHO)
        });
    }

    /// Waits for the end of it, and checks that the terminal is as it was.
    #[track_caller]
    pub fn ends(mut self, code: i32) -> String {
        let status = self.child.wait().expect("it is our child");
        let mode = tcgetattr(&self.keys).expect("a terminal");
        assert!(
            mode.local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO)
        );
        drop(self.keys);
        self.shown.extend(self.screen.into_iter().flatten());
        let shown = String::from_utf8_lossy(&self.shown).into_owned();
        assert_eq!(status.code(), Some(code), "{shown}");
        shown
    }
}
