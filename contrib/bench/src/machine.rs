//! The machine that all this runs on.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::process::find;

/// Ten thousand controllers need as many descriptors, here and in the servers, which inherit it.
const DESCRIPTORS: u64 = 32_768;

/// Allows this process as many descriptors as the loads need, or as many as it may have.
pub fn raise_descriptor_limit() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = DESCRIPTORS.max(soft);
    // Beyond the hard limit may go who is privileged.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard));
    raised.or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard))?;
    Ok(())
}

/// What was measured on: processor, kernel, and the version of each program.
pub fn description(onionbus: &Path) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|rest| rest.split_once(": "));
    let cores = available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "machine: {}, {cores} cores, Linux {}, load {}",
        model.map_or("unknown processor", |(_, model)| model),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    );
    let peers = ["tor", "redis-server", "dbus-broker", "socat"];
    let peers = peers.into_iter().filter_map(|name| find(name).ok());
    for program in std::iter::once(onionbus.to_owned()).chain(peers) {
        let is_socat = program.ends_with("socat");
        let argument = if is_socat { "-V" } else { "--version" };
        let Ok(said) = Command::new(&program).arg(argument).output() else {
            continue;
        };
        let said = String::from_utf8_lossy(&said.stdout);
        let line = said
            .lines()
            .find(|line| line.contains(|octet: char| octet.is_ascii_digit()));
        let _ = writeln!(text, "  {}", line.unwrap_or("?").trim());
    }
    text
}
