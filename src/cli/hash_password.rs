//! `onionbus hash-password`: the hash of a password, for an option file of the bus or of Tor.

use std::ffi::OsStr;
use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, ensure};
use onionbus::auth::HashedPassword;

use super::Stop;

/// The most octets of a password: a controller sends it in one line, hexadecimal or escaped.
const MOST: usize = 1024;

/// Prints the hash. A password in the arguments is refused, since every user of the machine sees
/// those, and the shell keeps them.
pub fn run(argument: Option<&OsStr>, out: &mut dyn Write) -> anyhow::Result<()> {
    if argument.is_some() {
        let text = "a password is no argument, which everybody here could read: leave it out, and \
                    it is asked for, or read from standard input";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    let password = if io::stdin().is_terminal() {
        typed()?
    } else {
        piped()?
    };
    if password.is_empty() || password.len() > MOST {
        let text = format!(
            "a password has 1 to {MOST} octets, this one has {}",
            password.len()
        );
        return Err(Stop::Usage(text).into());
    }
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).context("no random octets for the salt")?;
    writeln!(out, "{}", HashedPassword::new(&password, salt))?;
    Ok(())
}

/// Asks twice, since nobody sees what is typed.
fn typed() -> anyhow::Result<Vec<u8>> {
    let ask = |prompt| rpassword::prompt_password(prompt).context("cannot ask for the password");
    let password = ask("Password: ")?;
    ensure!(
        password == ask("The same again: ")?,
        "the two passwords differ: nothing was made"
    );
    Ok(password.into_bytes())
}

/// Reads the first line of standard input, without its end.
fn piped() -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut input = io::stdin().lock().take(MOST as u64 + 2);
    input
        .read_until(b'\n', &mut line)
        .context("cannot read standard input")?;
    if line.pop_if(|octet| *octet == b'\n').is_some() {
        line.pop_if(|octet| *octet == b'\r');
    }
    Ok(line)
}
