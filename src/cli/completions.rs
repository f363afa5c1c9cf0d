//! `onionbus completions`: the script that a shell needs to complete our arguments.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Arguments;

pub fn run(shell: Shell, out: &mut dyn Write) -> anyhow::Result<()> {
    // The generator panics where it cannot write, so it writes where it always can.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "onionbus", &mut script);
    out.write_all(&script)?;
    Ok(())
}
