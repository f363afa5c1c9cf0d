//! The terminal while lines are edited on it: each key comes at once, and none means a signal.

use std::env;
use std::io;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr,
    tcgetwinsize, tcsetattr,
};

/// The columns of a terminal that does not say.
const COLUMNS: usize = 80;

/// A terminal that gets its own mode back in the end.
pub struct Terminal {
    before: Termios,
    raw: Termios,
}

impl Terminal {
    /// The terminal at standard input and output; none where there is none, or one that cannot move
    /// its cursor.
    pub fn open() -> Option<Self> {
        let is_dumb = env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        if is_dumb || !isatty(io::stdin()) || !isatty(io::stdout()) {
            return None;
        }
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.input_modes -= InputModes::ICRNL | InputModes::IXON;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let terminal = Self { before, raw };
        terminal.edit().ok()?;
        Some(terminal)
    }

    /// Begins to edit, or goes on with it. What was typed before is not lost.
    pub fn edit(&self) -> io::Result<()> {
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.raw)?;
        Ok(())
    }

    /// Gives the terminal its own mode back.
    pub fn give_back(&self) -> io::Result<()> {
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.before)?;
        Ok(())
    }

    /// The columns that it has now.
    pub fn columns() -> usize {
        let size = tcgetwinsize(io::stdout());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        if columns == 0 { COLUMNS } else { columns }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.give_back();
    }
}
