//! `onionbus command`: one line as it is, and the reply as it is.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use onionbus::wire::text::write_data;

use super::Stop;
use super::args::Raw;
use super::client::{self, Client};
use super::names;

pub fn run(arguments: &Raw, out: &mut dyn Write) -> anyhow::Result<()> {
    let line = arguments.line.join(OsStr::new(" "));
    let line = client::one_line("the line", line.as_bytes())?;
    let mut octets = [line, b"\r\n"].concat();
    if line.starts_with(b"+") {
        write_data(&read_body()?, &mut octets);
    }
    let mut client = Client::connect(&arguments.bus)?;
    client.send(&octets)?;
    let reply = client.reply()?;
    out.write_all(&reply.raw())?;
    if !reply.is_success() {
        out.flush()?;
        names::tell(&reply, |kind| kind.ask(&mut client).unwrap_or_default());
        return Err(Stop::RefusedAndPrinted.into());
    }
    Ok(())
}

fn read_body() -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut input = io::stdin().lock().take(client::MAX_COMMAND + 1);
    let read = input.read_to_end(&mut body);
    if read.context("cannot read standard input")? as u64 > client::MAX_COMMAND {
        let text = "the body is longer than 1 MiB, which no daemon takes";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    Ok(body)
}
