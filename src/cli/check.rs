//! `onionbus check`: whether a configuration file is right, without opening anything else.

use std::io::{self, Write};

use anyhow::anyhow;
use onionbus::options::{Defaults, Options};
use onionbus::sys::paths;

use super::args::Check;

pub fn run(arguments: &Check, out: &mut dyn Write) -> anyhow::Result<()> {
    let defaults = Defaults {
        socket: paths::default_socket(),
        state_directory: paths::default_state_directory(),
    };
    let path = arguments.path();
    let options = Options::load(Some(path), &[], defaults)
        .map_err(|problems| anyhow!("this has to be corrected:\n{problems}"))?;
    for problem in options.exposed() {
        // Nobody can be told that standard error is gone.
        let _ = writeln!(io::stderr(), "onionbus: warning: {problem}");
    }
    writeln!(out, "{}: ok", path.display())?;
    Ok(())
}
