//! Programs that draw on a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{eventually, run};

/// The columns of the terminal.
const WIDTH: usize = 120;

/// The number of looks at the screen before the program is asked to draw it anew.
const LOOKS: usize = 50;

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
            &WIDTH.to_string(),
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
        self.shows_what(&format!("{text:?} on the screen"), |screen| {
            screen.contains(text)
        });
    }

    /// Waits until the screen is as it should be, and returns it.
    ///
    /// Several threads of nyx draw, and now and then the text of one stands where another's belongs
    /// until everything is drawn anew: that is seen to again and again.
    #[track_caller]
    pub fn shows_what(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let (mut screen, mut looks) = (String::new(), 0);
        eventually(what, || {
            looks += 1;
            if looks % LOOKS == 0 {
                self.draw_anew();
            }
            screen = self.screen();
            holds(&screen)
        });
        screen
    }

    /// Has the program draw everything, as it does when the size changes.
    pub fn draw_anew(&self) {
        for width in [WIDTH + 1, WIDTH] {
            let width = width.to_string();
            // It fails only once the program has ended.
            let _ = self.tmux().args(["resize-window", "-x", &width]).output();
        }
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
