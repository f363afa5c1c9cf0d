//! The file of the lines that were typed, without those that may hold a secret.
//!
//! The shell works without it, so nothing that is wrong with it is an error.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use onionbus::command::Verb;
use onionbus::sys::paths;

use super::edit::MOST;
use super::lines::verb;

/// The file, if there is a place for one.
pub struct History(Option<PathBuf>);

impl History {
    /// The history with the lines of the file, the oldest first.
    pub fn load() -> (Self, Vec<String>) {
        let path = paths::shell_history();
        let lines = path.as_deref().map(load).transpose();
        let lines = lines.ok().flatten().unwrap_or_default();
        (Self(path), lines)
    }

    /// Adds a line, if it can hold no secret.
    pub fn add(&self, line: &str) {
        if let Some(path) = self.0.as_deref().filter(|_| !may_be_secret(line)) {
            let _ = append(path, line);
        }
    }
}

/// The last lines of the file. One that has grown is made short again.
fn load(path: &Path) -> io::Result<Vec<String>> {
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(MOST)..);
    let last = last.unwrap_or_default();
    if lines.len() > 2 * MOST {
        let mut file = AtomicWriteFile::open(path)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        writeln!(file, "{}", last.join("\n"))?;
        file.commit()?;
    }
    Ok(last.iter().map(ToString::to_string).collect())
}

/// Appends a line. Nobody else can read the file.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut open = OpenOptions::new();
    open.append(true).create(true).mode(0o600);
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut file = open.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// Whether a line may hold a secret. One that is no command may be a misspelt AUTHENTICATE, and one
/// that begins with a blank is not to be kept, as in other shells.
fn may_be_secret(line: &str) -> bool {
    let Some(verb) = verb(line.as_bytes()) else {
        return true;
    };
    let arguments = line.split_once(|blank: char| blank.is_ascii_whitespace());
    let arguments = arguments.map_or("", |(_, rest)| rest.trim());
    let arguments = arguments.to_ascii_lowercase();
    match verb {
        Verb::Authenticate | Verb::AuthChallenge | Verb::OnionClientAuthAdd => true,
        // A key of the caller's own; the old form of ClientAuth has a cookie.
        Verb::AddOnion => !arguments.starts_with("new:") || arguments.contains("clientauth="),
        // Passwords, authenticators and whatever is spelt like them.
        Verb::SetConf | Verb::ResetConf => {
            ["pass", "auth"].iter().any(|word| arguments.contains(word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_kept() {
        for line in [
            "AUTHENTICATE \"x\"",
            "authenticate 00",
            "AUTHENTICAT x",
            "AUTHCHALLENGE SAFECOOKIE 00",
            "ADD_ONION ED25519-V3:x Port=80",
            "add_onion RSA1024:x Port=80",
            "ADD_ONION NEW:BEST ClientAuth=a:x Port=80",
            "ADD_ONION\tED25519-V3:x Port=80",
            "ONION_CLIENT_AUTH_ADD x x25519:x",
            "SETCONF BusTorPassword=x",
            "SETCONF ORPort=1 HTTPSProxyAuthenticator=x",
            "SETCONF\tBusTorPassword=x",
            "RESETCONF HidServAuth=x",
            " GETINFO version",
            "GETINF x",
            "",
        ] {
            assert!(may_be_secret(line), "{line}");
        }
        for line in [
            "GETINFO version",
            "getinfo version",
            "SETCONF BusHistory=5",
            "ADD_ONION NEW:BEST Flags=Detach Port=80",
            "ONION_CLIENT_AUTH_REMOVE x",
            "POSTMESSAGE @all authenticate yourselves",
            "+LOADCONF",
            "QUIT",
        ] {
            assert!(!may_be_secret(line), "{line}");
        }
    }

    #[test]
    fn the_file_is_for_its_user_and_ends_somewhere() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("made/history");
        let history = History(Some(path.clone()));
        history.add("GETINFO version");
        history.add("AUTHENTICATE x");
        history.add("QUIT");
        assert_eq!(
            load(&path).expect("it is there"),
            ["GETINFO version", "QUIT"]
        );
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(mode(path.parent().expect("it has one")) & 0o777, 0o700);

        let many: Vec<_> = (0..=2 * MOST).map(|n| format!("GETINFO {n}")).collect();
        fs::write(&path, many.join("\n")).expect("it is ours");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
        for _ in 0..2 {
            let lines = load(&path).expect("it is there");
            assert_eq!(lines, many[many.len() - MOST..]);
        }
        assert_eq!(mode(&path) & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("it is text");
        assert_eq!(text.lines().count(), MOST);
    }
}
