//! `onionbus conf`: the running daemon's options.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use onionbus::wire::text::write_c_string;

use super::Stop;
use super::args::{ConfGet, ConfSet};
use super::client::{self, Client};
use super::info::print_entry;
use super::json;
use super::names;

pub fn get(arguments: &ConfGet, out: &mut dyn Write) -> anyhow::Result<()> {
    let line = client::line("GETCONF", &arguments.keys)?;
    let reply = names::ask(&mut Client::connect(&arguments.bus)?, &line)?;
    for entry in &reply.entries() {
        if arguments.form.json {
            json::key_and_value(entry).print(out)?;
        } else {
            print_entry(entry, out)?;
        }
    }
    Ok(())
}

pub fn set(arguments: &ConfSet) -> anyhow::Result<()> {
    let mut line = b"SETCONF".to_vec();
    for setting in &arguments.settings {
        line.push(b' ');
        line.extend_from_slice(&assignment(setting)?);
    }
    names::ask(&mut Client::connect(&arguments.bus)?, &line)?;
    Ok(())
}

/// `KEY=VALUE` with the value quoted, as SETCONF wants it.
fn assignment(setting: &OsStr) -> Result<Vec<u8>, Stop> {
    let octets = setting.as_bytes();
    let Some(equals) = octets.iter().position(|&octet| octet == b'=') else {
        let shown = octets.escape_ascii();
        return Err(Stop::Usage(format!("\"{shown}\" is not KEY=VALUE")));
    };
    let (key, value) = octets.split_at(equals);
    let key = client::word("KEY", OsStr::from_bytes(key))?;
    let value = client::one_line("VALUE", &value[1..])?;
    let mut assignment = [key, b"="].concat();
    write_c_string(value, &mut assignment);
    Ok(assignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_whole() {
        for (setting, octets) in [
            (&b"BusHistory=5"[..], &br#"BusHistory="5""#[..]),
            (b"A=", br#"A="""#),
            (b"A= b=\"c\\d\" ", br#"A=" b=\"c\\d\" ""#),
            (b"A=\xff", br#"A="\377""#),
        ] {
            let assigned = assignment(OsStr::from_bytes(setting));
            assert_eq!(assigned.expect("KEY=VALUE"), octets);
        }
    }

    #[test]
    fn what_would_be_another_command_is_refused() {
        for setting in ["A", "=b", "A b=c", "A=b\r\nSIGNAL HALT", ""] {
            let assigned = assignment(OsStr::new(setting));
            assert!(matches!(assigned, Err(Stop::Usage(_))), "{setting}");
        }
    }
}
