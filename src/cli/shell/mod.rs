//! `onionbus shell`: commands as they are typed, and events as they come.
//!
//! The line is edited here, since no editor at hand can have something printed above its line and
//! be built with the Rust of `rust-version`: rustyline can from version 19 on (18 keeps all but the
//! first character of a paste to itself then), which wants Rust 1.95. It would take the place of
//! `edit`, `keys`, `screen` and `terminal`.

mod complete;
mod edit;
mod history;
mod keys;
mod lines;
mod prompt;
mod screen;
mod script;
mod terminal;

use std::io::Write;

pub use complete::Words;
use prompt::Shell;
use terminal::Terminal;

use super::args::Bus;
use super::client::Client;

pub fn run(bus: &Bus, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::connect(bus)?;
    match Terminal::open() {
        Some(terminal) => Shell::new(terminal, client, bus).run(),
        None => script::run(client, bus, out),
    }
}
