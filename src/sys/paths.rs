//! Where the socket and the state live when nobody says otherwise.
//!
//! The daemon and its clients ask the same functions, so both ends agree without being told.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::directory::{Unsafe, judge};

/// The environment variable that names the socket instead of the default one.
pub const SOCKET_VARIABLE: &str = "ONIONBUS_SOCKET";

/// The socket of the service, and of root.
pub const SYSTEM_SOCKET: &str = "/run/onionbus/control";

/// Why a directory under the temporary directory cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// It cannot be made or looked at.
    #[error("cannot use the directory {}: {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Something else, a symbolic link for instance, has its name.
    #[error("{} is not a directory: remove it, or name another socket with --socket", .0.display())]
    NotADirectory(PathBuf),
    /// Neither this user nor root owns it: whoever does could listen in our place.
    #[error(
        "{} belongs to user {owner}: have it removed, or name another socket with --socket",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The user id that owns it.
        owner: u32,
    },
    /// Others may replace the files in it.
    #[error("{} can be written to by others: chmod it to 0700, or name another socket with --socket", .0.display())]
    Writable(PathBuf),
}

/// The socket when neither an argument nor a file names one: `$ONIONBUS_SOCKET`, else
/// `/run/onionbus/control` for root, `$XDG_RUNTIME_DIR/onionbus/control` for others, and
/// `control` in [`private_directory`] where there is no runtime directory.
pub fn default_socket() -> PathBuf {
    socket_for(geteuid().as_raw(), |name| env::var_os(name))
}

/// Whether `$ONIONBUS_SOCKET` names the socket.
pub fn is_socket_named() -> bool {
    env::var_os(SOCKET_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// The state directory when neither an argument nor a file names one: `/var/lib/onionbus` for
/// root, else `$XDG_STATE_HOME/onionbus`, else `$HOME/.local/state/onionbus`, else `state` in
/// [`private_directory`].
pub fn default_state_directory() -> PathBuf {
    state_for(geteuid().as_raw(), |name| env::var_os(name))
}

/// The file for the lines that were typed in the shell: `onionbus/shell_history` in
/// `$XDG_STATE_HOME`, else in `$HOME/.local/state`. None where neither is known.
pub fn shell_history() -> Option<PathBuf> {
    history_for(|name| env::var_os(name))
}

/// The directory of this user under the temporary directory (`$TMPDIR`, else `/tmp`). The name is
/// no secret, so what is found there is to be checked: see [`check_private`].
pub fn private_directory() -> PathBuf {
    private_for(geteuid().as_raw(), |name| env::var_os(name))
}

/// Whether a directory is safe from other users: a directory indeed, owned by this user or root,
/// and written to by nobody else. One that is missing is an [`NotPrivate::Io`] of kind `NotFound`.
pub fn check_private(path: &Path) -> Result<(), NotPrivate> {
    let path = path.to_owned();
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) => return Err(NotPrivate::Io { path, error }),
    };
    judge(&found, geteuid().as_raw()).map_err(|why| match why {
        Unsafe::NotADirectory => NotPrivate::NotADirectory(path),
        Unsafe::Foreign { owner } => NotPrivate::Foreign { path, owner },
        // Sticky or not: another user could be the first to make the socket.
        Unsafe::Writable { .. } => NotPrivate::Writable(path),
    })
}

/// Makes a directory with mode 0700, or checks the one that is there as [`check_private`] does.
pub fn make_private(path: &Path) -> Result<(), NotPrivate> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(NotPrivate::Io {
            path: path.to_owned(),
            error,
        }),
        _ => check_private(path),
    }
}

fn socket_for(user: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if let Some(socket) = variable(SOCKET_VARIABLE).filter(|value| !value.is_empty()) {
        return socket.into();
    }
    if user == 0 {
        return SYSTEM_SOCKET.into();
    }
    match absolute(variable("XDG_RUNTIME_DIR")) {
        Some(directory) => directory.join("onionbus/control"),
        None => private_for(user, variable).join("control"),
    }
}

fn state_for(user: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if user == 0 {
        return "/var/lib/onionbus".into();
    }
    if let Some(directory) = absolute(variable("XDG_STATE_HOME")) {
        return directory.join("onionbus");
    }
    match absolute(variable("HOME")) {
        Some(home) => home.join(".local/state/onionbus"),
        None => private_for(user, variable).join("state"),
    }
}

fn history_for(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || Some(absolute(variable("HOME"))?.join(".local/state"));
    let state = absolute(variable("XDG_STATE_HOME")).or_else(home)?;
    Some(state.join("onionbus/shell_history"))
}

fn private_for(user: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    absolute(variable("TMPDIR"))
        .unwrap_or_else(|| "/tmp".into())
        .join(format!("onionbus-{user}"))
}

/// The XDG base directory specification has relative paths ignored: they would mean another place
/// in each working directory.
fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn among<'a>(
        variables: &'a [(&'a str, &'a str)],
    ) -> impl Fn(&str) -> Option<OsString> + Copy + 'a {
        move |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        }
    }

    #[test]
    fn the_socket_is_in_the_first_place_there_is() {
        for (user, variables, place) in [
            (0, &[][..], "/run/onionbus/control"),
            (0, &[("XDG_RUNTIME_DIR", "/x")][..], "/run/onionbus/control"),
            (0, &[("ONIONBUS_SOCKET", "here")][..], "here"),
            (7, &[("XDG_RUNTIME_DIR", "/x")][..], "/x/onionbus/control"),
            (
                7,
                &[("ONIONBUS_SOCKET", ""), ("XDG_RUNTIME_DIR", "/x")][..],
                "/x/onionbus/control",
            ),
            (
                7,
                &[("XDG_RUNTIME_DIR", "x")][..],
                "/tmp/onionbus-7/control",
            ),
            (7, &[("TMPDIR", "/t")][..], "/t/onionbus-7/control"),
        ] {
            assert_eq!(
                socket_for(user, among(variables)),
                Path::new(place),
                "{user} {variables:?}"
            );
        }
    }

    #[test]
    fn the_state_is_in_the_first_place_there_is() {
        for (user, variables, place) in [
            (0, &[("HOME", "/root")][..], "/var/lib/onionbus"),
            (
                7,
                &[("XDG_STATE_HOME", "/s"), ("HOME", "/h")][..],
                "/s/onionbus",
            ),
            (7, &[("HOME", "/h")][..], "/h/.local/state/onionbus"),
            (7, &[("XDG_STATE_HOME", "s")][..], "/tmp/onionbus-7/state"),
        ] {
            assert_eq!(
                state_for(user, among(variables)),
                Path::new(place),
                "{user} {variables:?}"
            );
        }
    }

    #[test]
    fn the_history_is_where_state_is_kept_also_for_root() {
        for (variables, place) in [
            (
                &[("XDG_STATE_HOME", "/s"), ("HOME", "/h")][..],
                Some("/s/onionbus/shell_history"),
            ),
            (
                &[("XDG_STATE_HOME", "s"), ("HOME", "/h")][..],
                Some("/h/.local/state/onionbus/shell_history"),
            ),
            (&[("HOME", "")][..], None),
        ] {
            let found = history_for(among(variables));
            assert_eq!(found.as_deref(), place.map(Path::new), "{variables:?}");
        }
    }

    #[test]
    fn only_a_directory_of_ones_own_is_private() {
        let outer = tempfile::tempdir().expect("a temporary directory");
        let path = outer.path().join("onionbus");
        assert!(matches!(
            check_private(&path),
            Err(NotPrivate::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound
        ));

        make_private(&path).expect("made");
        let metadata = fs::symlink_metadata(&path).expect("it was just made");
        assert_eq!(metadata.mode() & 0o777, 0o700);
        make_private(&path).expect("still there");

        for mode in [0o770, 0o1777] {
            let open = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, open).expect("it is ours");
            let made = make_private(&path);
            assert!(matches!(made, Err(NotPrivate::Writable(_))), "{mode:o}");
        }

        let link = outer.path().join("link");
        symlink(outer.path(), &link).expect("a link");
        assert!(matches!(
            make_private(&link),
            Err(NotPrivate::NotADirectory(_))
        ));
    }
}
