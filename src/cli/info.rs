//! `onionbus info`: values of GETINFO keys.

use std::io::{self, Write};

use super::args::Info;
use super::client::{self, Client};
use super::json;
use super::names;
use super::reply::Entry;

pub fn run(arguments: &Info, out: &mut dyn Write) -> anyhow::Result<()> {
    let line = client::line("GETINFO", &arguments.keys)?;
    let reply = names::ask(&mut Client::connect(&arguments.bus)?, &line)?;
    for entry in &reply.entries() {
        match arguments.keys[..] {
            _ if arguments.form.json => json::key_and_value(entry).print(out)?,
            [_] => print_value(entry, out)?,
            _ => print_entry(entry, out)?,
        }
    }
    Ok(())
}

/// Prints `Key=Value`, and the data below it where there is some.
pub fn print_entry(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&entry.text)?;
    out.write_all(b"\n")?;
    out.write_all(entry.data.as_deref().unwrap_or_default())
}

/// Prints the value alone: the data, or the text behind the `=`.
pub fn print_value(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(entry.value())?;
    match entry.data {
        Some(_) => Ok(()),
        None => out.write_all(b"\n"),
    }
}
