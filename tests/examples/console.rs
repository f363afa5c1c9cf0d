//! Terminals: `$ command`, what it prints, and what is typed into it.
//!
//! What is typed into `socat -` needs no mark: everything that is not an answer of the daemon is.
//! `^C` interrupts the command.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Place, masked, signal};
use crate::document::Example;
use crate::transcript;

/// Far more than anything takes; only a wrong example waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running command and its terminal.
struct Running {
    place: String,
    command: String,
    child: Child,
    stdin: Option<ChildStdin>,
    printed: Receiver<String>,
    /// Inside of a data reply.
    in_data: bool,
    interrupted: bool,
    /// It is a daemon that has not said yet that it is ready.
    starting: bool,
}

/// The terminals of one document.
#[derive(Default)]
pub struct Consoles {
    running: BTreeMap<String, Running>,
    order: Vec<String>,
    /// What commands in the background are to print in the end.
    pending: Vec<(String, Vec<(String, String)>)>,
}

impl Consoles {
    /// Plays an example; `skip` says which commands are not run.
    pub fn play(&mut self, place: &Place, example: &Example, mut skip: impl FnMut(&str) -> bool) {
        let named = example.note("terminal ");
        let terminal = named.unwrap_or(&example.place).to_owned();
        let in_background = example.note("in the background").is_some();
        let mut skipped = false;
        let mut later = Vec::new();
        for (index, line) in example.lines.iter().enumerate() {
            let at = format!("{} (its line {})", example.place, index + 1);
            if let Some(command) = line.strip_prefix("$ ") {
                self.end(&terminal);
                skipped = skip(command);
                if !skipped {
                    let running = Running::start(place, &at, command);
                    running.wait_until_known(place);
                    self.running.insert(terminal.clone(), running);
                    self.order.push(terminal.clone());
                }
            } else if in_background && !skipped {
                later.push((at, line.clone()));
            } else if !skipped {
                let running = self.running.get_mut(&terminal);
                running
                    .expect("a command comes first")
                    .line(place, &at, line);
            }
        }
        if in_background {
            self.pending.push((terminal, later));
        } else if named.is_none() {
            if let Some(running) = self.running.get(&terminal) {
                running.wait_until_ready();
            }
            self.end(&terminal);
        }
    }

    /// Ends every command, the youngest first.
    pub fn finish(&mut self, place: &Place) {
        for (terminal, lines) in std::mem::take(&mut self.pending) {
            for (at, line) in lines {
                let running = self.running.get_mut(&terminal);
                running.expect("it was started").line(place, &at, &line);
            }
        }
        while let Some(terminal) = self.order.pop() {
            self.end(&terminal);
        }
    }

    fn end(&mut self, terminal: &str) {
        if let Some(running) = self.running.remove(terminal) {
            running.end();
        }
    }
}

impl Running {
    fn start(place: &Place, at: &str, command: &str) -> Self {
        let command = place.real(command);
        let mut child = place
            .command("bash")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let (sender, printed) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            place: at.to_owned(),
            starting: command.starts_with("onionbus serve"),
            command,
            stdin: child.stdin.take(),
            child,
            printed,
            in_data: false,
            interrupted: false,
        }
    }

    /// A controller that names itself is awaited, so that what follows can be posted to it.
    fn wait_until_known(&self, place: &Place) {
        let mut words = self.command.split(' ').skip_while(|word| *word != "--as");
        if let Some(name) = words.nth(1)
            && self.command.contains("watch")
        {
            transcript::wait_for_controller(place, name);
        }
    }

    /// A daemon is not ended before it has begun.
    fn wait_until_ready(&self) {
        if !self.starting {
            return;
        }
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(line) if !line.contains("is ready") => {}
                // Or it said what the example shows, and ended.
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("{}: it is never ready", self.place),
            }
        }
    }

    fn line(&mut self, place: &Place, at: &str, line: &str) {
        if line == "^C" {
            signal(&self.child, Signal::SIGINT);
            self.interrupted = true;
        } else if self.command.starts_with("socat - ") && !self.is_answer(line) {
            let stdin = self.stdin.as_mut().expect("it is piped");
            writeln!(stdin, "{line}").expect("socat reads on");
        } else {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(printed) => {
                    assert_eq!(masked(&printed), masked(&place.real(line)), "{at}");
                    self.starting &= !printed.contains("is ready");
                }
                Err(error) => panic!("{at}: nothing was printed ({error}), but: {line}"),
            }
        }
    }

    /// A status begins each line of the daemon but those of data.
    fn is_answer(&mut self, line: &str) -> bool {
        if self.in_data {
            self.in_data = line != ".";
            return true;
        }
        let octets = line.as_bytes();
        let status = octets.len() > 3 && octets[..3].iter().all(u8::is_ascii_digit);
        self.in_data = status && octets[3] == b'+';
        status
    }

    /// Lets the command end, which it has to do well and without another word.
    fn end(mut self) {
        drop(self.stdin.take());
        let serves = self.command.starts_with("onionbus serve");
        if serves {
            signal(&self.child, Signal::SIGTERM);
        }
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(_) if serves => {}
                Ok(line) => panic!("{}: printed besides: {line}", self.place),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    signal(&self.child, Signal::SIGKILL);
                    panic!("{}: it does not end: {}", self.place, self.command);
                }
            }
        }
        let status = self.child.wait().expect("it was started here");
        let fine = status.success() || self.interrupted;
        assert!(fine, "{}: {status}: {}", self.place, self.command);
    }
}

impl Drop for Running {
    /// Nothing runs on after an example that is wrong.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(&self.child, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
