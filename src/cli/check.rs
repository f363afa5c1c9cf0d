//! `onionbus check`: whether a configuration file is right, without opening anything else.

use std::io::Write;

use anyhow::anyhow;
use onionbus::options::{Defaults, Options};
use onionbus::sys::paths;

use super::args::Check;

pub fn run(arguments: &Check, out: &mut dyn Write) -> anyhow::Result<()> {
    let defaults = Defaults {
        socket: paths::default_socket(),
        state_directory: paths::default_state_directory(),
    };
    Options::load(Some(&arguments.config), &[], defaults)
        .map_err(|problems| anyhow!("this has to be corrected:\n{problems}"))?;
    writeln!(out, "{}: ok", arguments.config.display())?;
    Ok(())
}
