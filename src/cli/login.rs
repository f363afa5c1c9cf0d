//! The login: nothing where the socket's permissions are enough, else SAFECOOKIE, or a password that
//! is asked for.
//!
//! Plain COOKIE is left out on purpose: COOKIE hands the content of any file of 32 octets that this
//! user can read to whoever listens on the socket (control-spec 3.21 warns of that).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use onionbus::auth::Cookie;
use onionbus::sys::file::read_small;
use onionbus::wire::text::read_c_string;

use super::reply::{Entry, Message};

const COOKIE_OCTETS: u64 = 32;

/// The most octets of a file that is read as a cookie: more is none by far.
const MOST: u64 = 1024;

/// Authenticates as the daemon wants it. AUTHENTICATE is sent even where the daemon wants nothing,
/// so that a PROTOCOLINFO of the user's own is not the second one before the login, on which the
/// daemon hangs up. `ask` sends a line and returns the reply to it; a refusal is an error.
pub fn log_in(mut ask: impl FnMut(&[u8]) -> anyhow::Result<Message>) -> anyhow::Result<()> {
    let entries = ask(b"PROTOCOLINFO 1")?.entries();
    let Some((methods, cookie_file)) = methods(&entries) else {
        bail!("the daemon does not say how to log in: PROTOCOLINFO without AUTH METHODS");
    };
    let offers = |name: &[u8]| methods.split(|&octet| octet == b',').any(|m| m == name);
    if offers(b"NULL") {
        ask(b"AUTHENTICATE")?;
        return Ok(());
    }
    let file = cookie_file.filter(|_| offers(b"SAFECOOKIE"));
    let cookie = file.map(|file| read_cookie(&OsString::from_vec(file)));
    match cookie {
        Some(Ok(cookie)) => safe_cookie(ask, &cookie),
        // Who may not read the cookie may know a password.
        _ if offers(b"HASHEDPASSWORD") => password(ask),
        Some(Err(error)) => Err(error),
        None => bail!(
            "the daemon wants a login that this client does not know: NULL, SAFECOOKIE and \
             HASHEDPASSWORD it does"
        ),
    }
}

fn read_cookie(file: &OsStr) -> anyhow::Result<Cookie> {
    let wanted = || format!("the daemon wants the cookie in {}", file.display());
    let octets = read_small(Path::new(file), MOST).with_context(wanted)?;
    let Ok(octets) = <[u8; 32]>::try_from(octets) else {
        bail!(
            "{}: it is no cookie: it does not have {COOKIE_OCTETS} octets",
            wanted()
        );
    };
    Ok(Cookie::from(octets))
}

/// Asks for the password at the terminal, whatever standard input is.
fn password(mut ask: impl FnMut(&[u8]) -> anyhow::Result<Message>) -> anyhow::Result<()> {
    let password = rpassword::prompt_password("Password: ")
        .context("the daemon wants a password, and there is no terminal to ask for it")?;
    let line = format!("AUTHENTICATE {}", hex::encode(password));
    ask(line.as_bytes())?;
    Ok(())
}

/// The value of METHODS and the file of COOKIEFILE, if there is one.
fn methods(entries: &[Entry]) -> Option<(&[u8], Option<Vec<u8>>)> {
    let mut lines = entries.iter().map(|entry| &entry.text[..]);
    let rest = lines.find_map(|text| text.strip_prefix(b"AUTH METHODS="))?;
    let end = rest.iter().position(|&octet| octet == b' ');
    let (methods, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let cookie_file = rest.strip_prefix(b" COOKIEFILE=").and_then(read_c_string);
    Some((methods, cookie_file))
}

/// Proves the cookie as control-spec 3.24 wants it: the daemon first, then the client.
fn safe_cookie(
    mut ask: impl FnMut(&[u8]) -> anyhow::Result<Message>,
    cookie: &Cookie,
) -> anyhow::Result<()> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).context("no random octets for the login")?;
    let challenge = format!("AUTHCHALLENGE SAFECOOKIE {}", hex::encode(nonce));
    let entries = ask(challenge.as_bytes())?.entries();
    let field = |name: &[u8]| {
        let text = entries.first().map_or(&b""[..], |entry| &entry.text);
        let mut words = text.split(|&octet| octet == b' ');
        let value = words.find_map(|word| word.strip_prefix(name));
        value.and_then(|value| hex::decode(value).ok())
    };
    let (Some(server_hash), Some(server_nonce)) = (field(b"SERVERHASH="), field(b"SERVERNONCE="))
    else {
        bail!("the daemon's AUTHCHALLENGE reply lacks SERVERHASH or SERVERNONCE");
    };
    let expected = cookie.server_hash(&nonce, &server_nonce);
    ensure!(
        Cookie::proves(&expected, &server_hash),
        "what listens on the socket does not know the cookie: it is not the daemon it says it is"
    );
    let answer = cookie.client_hash(&nonce, &server_nonce);
    ask(format!("AUTHENTICATE {}", hex::encode(answer)).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(lines: &[&[u8]]) -> Vec<Entry> {
        let entry = |text: &&[u8]| Entry {
            text: text.to_vec(),
            data: None,
        };
        lines.iter().map(entry).collect()
    }

    #[test]
    fn the_methods_are_found_among_other_lines() {
        let replies = entries(&[
            b"PROTOCOLINFO 1",
            b"FUTURE x",
            br#"AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/a \"b\"" MORE"#,
        ]);
        let file = br#"/a "b""#.to_vec();
        assert_eq!(
            methods(&replies),
            Some((&b"COOKIE,SAFECOOKIE"[..], Some(file)))
        );
        let replies = entries(&[b"AUTH METHODS=NULL"]);
        assert_eq!(methods(&replies), Some((&b"NULL"[..], None)));
        assert_eq!(methods(&entries(&[b"PROTOCOLINFO 1"])), None);
    }
}
