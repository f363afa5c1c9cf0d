//! Programs that draw on a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{eventually, run};

/// A terminal that nobody looks at, with a program in it.
pub struct Terminal(PathBuf);

impl Terminal {
    /// Runs a shell's command in the directory `home`, which it takes for the user's own.
    #[track_caller]
    pub fn start(home: &Path, script: &str) -> Self {
        let terminal = Self(home.join("tmux"));
        let mut command = terminal.tmux();
        command.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "40",
            script,
        ]);
        command
            .env("HOME", home)
            .env("LANG", "C.UTF-8")
            .env_remove("TMUX");
        run(&mut command);
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.0);
        command
    }

    /// The text that can be seen; nothing once the program has ended.
    pub fn screen(&self) -> String {
        let output = self.tmux().args(["capture-pane", "-p"]).output();
        let Output { stdout, .. } = output.expect("tmux starts");
        String::from_utf8(stdout).expect("the terminal has UTF-8")
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), || {
            self.screen().contains(text)
        });
    }

    #[track_caller]
    pub fn press(&self, key: &str) {
        run(self.tmux().args(["send-keys", key]));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails if the program has ended, and the terminal with it.
        let _ = self.tmux().arg("kill-server").output();
    }
}
