//! The file of the lines that were typed, without those that may hold a secret.
//!
//! The shell works without it, so nothing that is wrong with it is an error.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use nix::fcntl::OFlag;
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

/// Opens the file, if it is one: a device must not get a mode of ours, and nobody waits for the
/// other end of a pipe.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(file)
}

/// The last lines of the file that can have been typed. One that has grown is made short again.
fn load(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    open(path, OpenOptions::new().read(true))?.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let is_typed = |line: &&str| !line.chars().any(char::is_control);
    let lines: Vec<_> = text.lines().filter(is_typed).collect();
    let last = lines.get(lines.len().saturating_sub(MOST)..);
    let last = last.unwrap_or_default();
    if lines.len() > 2 * MOST {
        // A link stays one.
        let mut file = AtomicWriteFile::open(fs::canonicalize(path)?)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        writeln!(file, "{}", last.join("\n"))?;
        file.commit()?;
    }
    Ok(last.iter().map(ToString::to_string).collect())
}

/// Appends a line. Nobody else can read the file.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut file = open(path, &mut options)?;
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
        Verb::SetConf | Verb::ResetConf => {
            let mut words = arguments.split_ascii_whitespace();
            words.any(may_name_a_secret)
        }
        _ => false,
    }
}

/// Whether a word of SETCONF, in lower case, may be a secret or the option of one: spelt like
/// passwords and authenticators are, or the beginning of such a name, which Tor takes for all of
/// it.
fn may_name_a_secret(word: &str) -> bool {
    /// What begins as a harmless option does, and the rest of the name.
    const SECRETS: [(&str, &str); 6] = [
        ("bushashed", "password"),
        ("bustor", "password"),
        ("hashedcontrol", "password"),
        ("httpproxy", "authenticator"),
        ("httpsproxy", "authenticator"),
        ("socks5proxy", "password"),
    ];
    let name = word.split('=').next().unwrap_or_default();
    let begins = |(option, secret): (&str, &str)| {
        let rest = name.strip_prefix(option).filter(|rest| !rest.is_empty());
        rest.is_some_and(|rest| secret.starts_with(rest))
    };
    ["pas", "auth"].iter().any(|secret| word.contains(secret)) || SECRETS.into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use nix::pty::openpty;
    use nix::sys::stat::Mode;
    use nix::unistd::{mkfifo, ttyname};

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
            // Tor takes a beginning for the whole name.
            "SETCONF Socks5ProxyUsername=x socks5proxyp=x",
            "SETCONF Socks5ProxyPasword=x",
            "SETCONF HTTPSProxyA=x",
            "SETCONF BusTorP=x",
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
            "SETCONF Socks5Proxy=127.0.0.1:9",
            "SETCONF HTTPSProxy=127.0.0.1:9",
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

    #[test]
    fn what_is_no_file_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("history");
        let pty = openpty(None, None).expect("a terminal");
        let device = ttyname(&pty.slave).expect("it has a name");
        let mode = || fs::metadata(&device).expect("it is there").mode();
        symlink(&device, &path).expect("a link");
        fs::set_permissions(&device, Permissions::from_mode(0o620)).expect("it is ours");
        let before = mode();
        History(Some(path.clone())).add("GETINFO version");
        assert_eq!(mode(), before, "as that of /dev/null has to stay");

        fs::remove_file(&path).expect("it is ours");
        mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        History(Some(path.clone())).add("GETINFO version");
        assert!(load(&path).is_err(), "nobody waits for its other end");
    }

    #[test]
    fn a_link_stays_one_and_shows_nothing_that_could_not_be_typed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [path, real] = ["history", "real"].map(|name| directory.path().join(name));
        symlink(&real, &path).expect("a link");
        let text = "GETINFO a\nGETINFO \x1b[2J\n".repeat(2 * MOST + 1);
        fs::write(&real, text).expect("it is ours");
        let lines = load(&path).expect("it is there");
        assert!(lines.iter().all(|line| line == "GETINFO a"), "{lines:?}");
        assert!(path.is_symlink());
        let text = fs::read_to_string(&real).expect("it is text");
        assert_eq!(text.lines().count(), lines.len());
    }
}
