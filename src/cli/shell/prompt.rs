//! The shell on a terminal: a line is typed at the bottom, and everything that comes goes above it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, raise};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::complete::{Words, common, split};
use super::edit::Edit;
use super::history::History;
use super::keys::{Key, Keys};
use super::lines::Lines;
use super::screen::{Screen, show, table};
use super::terminal::Terminal;
use crate::cli::args::Bus;
use crate::cli::client::Client;
use crate::cli::names::hint;

const PROMPT: &str = "onionbus> ";

/// The prompt for the lines of a body, which ends with a dot.
const BODY: &str = "       .> ";

/// The answer to `help`, which is no command of the protocol.
const HELP: &str = "\
Each line is a command of the control protocol; one that begins with + ends with a line that is a
single dot. TAB completes a word, and shows all that it may become.

  GETINFO info/names      what can be asked
  SETEVENTS POSTMESSAGE   show each message as it comes; GETINFO events/names has the other events
  POSTMESSAGE @all hello  say something to everybody
  QUIT                    or Ctrl-D

onionbus-protocol(7) and Tor's control-spec have all commands.";

/// The time for a reply before the prompt comes back without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The octets that one call reads from the terminal.
const READ: usize = 1024;

/// The conversation on a terminal.
pub struct Shell<'a> {
    terminal: Terminal,
    client: Client,
    words: Words<'a>,
    history: History,
    keys: Keys,
    edit: Edit,
    lines: Lines,
    screen: Screen,
    /// The octets for the terminal, until they are written all at once.
    out: String,
    /// The time until which a reply is waited for without a prompt.
    waiting: Option<Instant>,
    /// The daemon has been told to hang up.
    is_leaving: bool,
}

impl<'a> Shell<'a> {
    pub fn new(terminal: Terminal, client: Client, bus: &'a Bus) -> Self {
        let (history, past) = History::load();
        let socket = client.socket().display().to_string();
        let mut shell = Self {
            terminal,
            client,
            words: Words::new(bus),
            history,
            keys: Keys::default(),
            edit: Edit::new(past),
            lines: Lines::default(),
            screen: Screen::default(),
            out: String::new(),
            waiting: None,
            is_leaving: false,
        };
        let text = format!("Connected to {socket}. TAB completes, help says more, Ctrl-D ends.");
        show(text.as_bytes(), &mut shell.out);
        shell
    }

    /// Goes on until the user has enough, or the daemon is gone.
    pub fn run(mut self) -> anyhow::Result<()> {
        let ended = self.go_on();
        self.out.push_str("\r\n");
        self.write()?;
        match ended {
            Err(_) if self.is_leaving => Ok(()),
            ended => ended,
        }
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        self.paint();
        loop {
            // What came along with the replies of the login is here already.
            self.show_received()?;
            self.write()?;
            let (is_typed, has_come) = self.wait()?;
            if has_come {
                self.client.receive()?;
                self.show_received()?;
            }
            if is_typed && !self.read_keys()? {
                return Ok(());
            }
        }
    }

    /// Waits for keys or octets of the daemon.
    fn wait(&mut self) -> anyhow::Result<(bool, bool)> {
        let stdin = io::stdin();
        let mut sources = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&self.client, PollFlags::IN),
        ];
        let left = self.waiting.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or_default()
        });
        let polled = poll(&mut sources, left.as_ref());
        let [keys, octets] = sources.map(|source| !source.revents().is_empty());
        match polled {
            Ok(0) => {
                self.waiting = None;
                self.paint();
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the terminal"),
        }
        Ok((keys, octets))
    }

    /// Shows what has been received.
    fn show_received(&mut self) -> anyhow::Result<()> {
        let mut is_new = false;
        while let Some(message) = self.client.received()? {
            if !is_new {
                self.screen.erase(Terminal::columns(), &mut self.out);
                is_new = true;
            }
            show(&message.raw(), &mut self.out);
            if !message.is_event() {
                self.waiting = None;
                if let Some(hint) = hint(&message, |kind| self.words.names(kind)) {
                    show(hint.as_bytes(), &mut self.out);
                }
            }
        }
        if is_new {
            self.paint();
        }
        Ok(())
    }

    /// Does what was typed. Returns whether it goes on.
    fn read_keys(&mut self) -> anyhow::Result<bool> {
        let mut buffer = [0; READ];
        // Not through the library's buffer: the poll tells nothing of what waits there.
        let read = match rustix::io::read(io::stdin(), &mut buffer) {
            // Its user has closed the terminal.
            Ok(0) | Err(rustix::io::Errno::IO) => return Ok(false),
            Err(rustix::io::Errno::INTR) => return Ok(true),
            read => read.context("cannot read from the terminal")?,
        };
        self.keys.handle_octets(&buffer[..read]);
        self.waiting = None;
        // Once for all of them: who pastes a long line would wait for each of its beginnings.
        self.screen.erase(Terminal::columns(), &mut self.out);
        while let Some(key) = self.keys.poll_key() {
            if !self.handle_key(key)? {
                return Ok(false);
            }
        }
        self.paint();
        Ok(true)
    }

    /// Does what a key means; the prompt is not shown meanwhile. Returns whether it goes on.
    fn handle_key(&mut self, key: Key) -> anyhow::Result<bool> {
        match key {
            Key::Enter => {
                let line = self.end_line("");
                self.enter(&line)?;
            }
            Key::Cancel => {
                self.end_line("^C");
                self.lines = Lines::default();
            }
            Key::EndOfInput if self.edit.is_empty() => {
                self.paint();
                return Ok(false);
            }
            Key::EndOfInput => self.edit.handle_key(Key::Delete),
            Key::Tab => self.complete(),
            Key::ClearScreen => self.out.push_str("\x1b[H\x1b[2J"),
            Key::Suspend => {
                self.write()?;
                self.terminal.give_back()?;
                // A shell that waits has the terminal now, until this goes on.
                raise(Signal::SIGTSTP).context("cannot be suspended")?;
                self.terminal.edit()?;
            }
            key => self.edit.handle_key(key),
        }
        Ok(true)
    }

    /// Leaves the line as it is on the screen, and returns it.
    fn end_line(&mut self, mark: &str) -> String {
        let line = self.edit.take();
        let shown = self.prompt().to_owned() + &line + mark + "\r\n";
        self.out.push_str(&shown);
        line
    }

    /// Sends the command that the line completes.
    fn enter(&mut self, line: &str) -> anyhow::Result<()> {
        if !self.lines.is_inside() && !line.trim_ascii().is_empty() {
            self.edit.remember(line);
            self.history.add(line);
            // No Tor and no bus has such a command.
            if ["help", "?"].contains(&line.trim_ascii().to_ascii_lowercase().as_str()) {
                show(HELP.as_bytes(), &mut self.out);
                return Ok(());
            }
        }
        match self.lines.handle_line(line.as_bytes()) {
            Ok(None) => {}
            Ok(Some(command)) => {
                self.is_leaving |= command.is_last;
                // The daemon may take its time over both.
                self.write()?;
                self.client.send(&command.octets)?;
                self.waiting = Some(Instant::now() + PATIENCE);
            }
            Err(stop) => {
                self.lines = Lines::default();
                show(stop.to_string().as_bytes(), &mut self.out);
            }
        }
        Ok(())
    }

    /// Completes the word in front of the cursor, or shows what it may become.
    fn complete(&mut self) {
        let (before, after) = self.edit.halves();
        let words = if self.lines.is_inside() {
            Vec::new()
        } else {
            self.words.complete(&before)
        };
        let (_, word) = split(&before);
        let mut longer = common(&words).to_owned();
        match &words[..] {
            [] => self.out.push('\x07'),
            [only] => {
                // Behind these the word goes on.
                if !only.ends_with(['=', '/']) && !after.starts_with(' ') {
                    longer.push(' ');
                }
                self.edit.replace(word.chars().count(), &longer);
            }
            _ if longer.len() > word.len() => self.edit.replace(word.chars().count(), &longer),
            _ => {
                let shown = self.prompt().to_owned() + &before + &after + "\r\n";
                self.out.push_str(&shown);
                self.out.push_str(&table(&words, Terminal::columns()));
            }
        }
    }

    const fn prompt(&self) -> &'static str {
        if self.lines.is_inside() { BODY } else { PROMPT }
    }

    /// Shows the prompt and the line, unless a reply is about to come.
    fn paint(&mut self) {
        if self.waiting.is_none() {
            let (before, after) = self.edit.halves();
            let line = (&before[..], &after[..]);
            let columns = Terminal::columns();
            self.screen
                .paint(self.prompt(), line, columns, &mut self.out);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut out = io::stdout();
        out.write_all(self.out.as_bytes())?;
        self.out.clear();
        out.flush()
    }
}
