//! Policy files: which there are, and that nobody but those who may has written them.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::directory::{self, Fault, MAX_LINKS, Unsafe};

/// The most octets of a file.
const MOST: u64 = 1 << 20;

/// A file that counts.
#[derive(Debug)]
pub struct PolicyFile {
    /// Its path, as it was named or found.
    pub path: PathBuf,
    /// What it holds.
    pub text: Vec<u8>,
    /// The place of the line that names it.
    pub line: usize,
}

/// A path that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {text}", path.display())]
pub struct Unusable {
    /// The path.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub text: String,
}

/// Reads the files that these paths name: each a file, or a directory of which `*.policy` are read.
/// Of two files with the same base name the one of the later path counts. Tells all that is wrong.
pub fn read(paths: &[PathBuf], daemon: u32) -> Result<Vec<PolicyFile>, Vec<Unusable>> {
    let mut problems = Vec::new();
    let mut counting = BTreeMap::new();
    for (line, path) in paths.iter().enumerate() {
        match files(path) {
            Ok(files) if files.is_empty() => problems.push(Unusable {
                path: path.clone(),
                text: "the directory has no file *.policy".into(),
            }),
            Ok(files) => {
                for file in files {
                    let name = file.file_name().map(ToOwned::to_owned);
                    counting.insert(name, (line, file));
                }
            }
            Err(error) => problems.push(Unusable {
                path: path.clone(),
                text: format!("it cannot be read: {error}"),
            }),
        }
    }
    let mut files = Vec::new();
    for (line, path) in counting.into_values() {
        match read_one(&path, daemon) {
            Ok(text) => files.push(PolicyFile { path, text, line }),
            Err(text) => problems.push(Unusable { path, text }),
        }
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

/// The file, or those in the directory, in the order of their names.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let octets = name.as_bytes();
        if octets.ends_with(b".policy") && !octets.starts_with(b".") {
            files.push(path.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file that only root and the daemon's user can have written.
fn read_one(path: &Path, daemon: u32) -> Result<Vec<u8>, String> {
    let io = |error: io::Error| format!("it cannot be read: {error}");
    let path = follow(path, daemon)?;
    // Nobody else can put another in its place by now; a pipe that nobody writes to is not waited
    // for.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(&path)
        .map_err(io)?;
    read_opened(&path, file, daemon)
}

/// Reads a file that was opened at a path; what stands there by now does not matter.
fn read_opened(path: &Path, file: File, daemon: u32) -> Result<Vec<u8>, String> {
    let io = |error: io::Error| format!("it cannot be read: {error}");
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    check(path, &metadata, daemon)?;
    let mut text = Vec::new();
    file.take(MOST + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MOST {
        return Err(format!("it has more than {MOST} octets"));
    }
    Ok(text)
}

/// The place that a path leads to, links followed, if only root and the daemon's user can change
/// the way.
fn follow(path: &Path, daemon: u32) -> Result<PathBuf, String> {
    let io = |error: io::Error| format!("it cannot be read: {error}");
    let mut path = std::path::absolute(path).map_err(io)?;
    for _ in 0..=MAX_LINKS {
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        let others = 0o022;
        directory::walk(&parent, daemon, others, |path| fs::symlink_metadata(path))
            .map_err(told)?;
        if !fs::symlink_metadata(&path).map_err(io)?.is_symlink() {
            return Ok(path);
        }
        path = parent.join(fs::read_link(&path).map_err(io)?);
    }
    Err("too many links lead to it".into())
}

/// A directory on the way that cannot be used, as it is told to people.
fn told(fault: Fault) -> String {
    match fault {
        Fault::System(path, error) => format!("{} cannot be read: {error}", path.display()),
        Fault::Unsafe(path, why) => match why {
            Unsafe::NotADirectory => format!("{} is no directory", path.display()),
            Unsafe::Foreign { owner } => foreign(&path, owner),
            Unsafe::Writable { .. } => writable(&path),
        },
    }
}

fn foreign(path: &Path, owner: u32) -> String {
    let path = path.display();
    format!("{path} belongs to user {owner}; it must be root's or the daemon's")
}

fn writable(path: &Path) -> String {
    let path = path.display();
    format!("others than its owner can write to {path}: chmod go-w {path}")
}

/// Checks that only root and the daemon's user can write to a file.
fn check(path: &Path, metadata: &Metadata, daemon: u32) -> Result<(), String> {
    if !directory::is_trusted(metadata.uid(), daemon) {
        return Err(foreign(path, metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(writable(path));
    }
    Ok(())
}

/// Whether nobody but root can write to any directory on the way to a path, links resolved; a
/// sticky one is one that others write to.
#[must_use]
pub fn is_roots(path: &Path) -> bool {
    let Some(directory) = path
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok())
    else {
        return false;
    };
    let is_good = |directory: &Path| {
        fs::symlink_metadata(directory)
            .is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
    };
    // A link at its end leads where nobody has looked.
    !is_link(path) && directory.ancestors().all(is_good)
}

/// Whether a path is a link, wherever that leads.
#[must_use]
pub fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// The file or directory that a path leads to, links followed. Its name says less: a directory can
/// be mounted at a second place.
#[must_use]
pub fn id(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::sys::users;

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(path: &Path, text: &str, mode: u32) -> PathBuf {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_owned()
    }

    fn texts(paths: &[PathBuf]) -> Result<Vec<(String, usize)>, Vec<String>> {
        match read(paths, users::own()) {
            Ok(files) => Ok(files
                .into_iter()
                .map(|file| (String::from_utf8(file.text).unwrap(), file.line))
                .collect()),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn of_two_files_of_one_name_the_later_counts() {
        let (one, other) = (place(), place());
        write(&one.path().join("a.policy"), "1a", 0o644);
        write(&one.path().join("b.policy"), "1b", 0o600);
        write(&one.path().join(".c.policy"), "1c", 0o644);
        write(&one.path().join("d.txt"), "1d", 0o644);
        write(&other.path().join("a.policy"), "2a", 0o644);
        let paths = [one.path().to_owned(), other.path().to_owned()];
        let expected = [("2a".to_owned(), 1), ("1b".to_owned(), 0)];
        assert_eq!(texts(&paths).unwrap(), expected);
        let file = write(&one.path().join("e"), "e", 0o644);
        assert_eq!(texts(&[file]).unwrap(), [("e".to_owned(), 0)]);
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        let below = write(&at("open").join("f"), "", 0o644);
        symlink(&below, at("link")).unwrap();
        let problems = texts(&[
            at("none"),
            at("empty"),
            write(&at("group"), "", 0o664),
            write(&at("others"), "", 0o602),
            below,
            at("link"),
            "/dev/null".into(),
        ]);
        let problems = problems.unwrap_err().join("\n");
        for part in [
            "none: it cannot be read",
            "empty: the directory has no file",
            "chmod go-w",
            "others than its owner can write to",
            "open: chmod",
            "link: others than",
            "null: it is no regular file",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert_eq!(problems.lines().count(), 7, "{problems}");
    }

    #[test]
    fn what_is_somebody_elses_is_told_with_its_owner() {
        let foreign = told(Fault::Unsafe("/x".into(), Unsafe::Foreign { owner: 7 }));
        assert_eq!(
            foreign,
            "/x belongs to user 7; it must be root's or the daemon's"
        );
        let place = place();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        let file = write(&at("file"), "", 0o644);
        let below = write(&at("dir/below"), "", 0o644);
        // Who is not root has them already, and root is always trusted.
        let owner = if users::own() == 0 {
            4711
        } else {
            users::own()
        };
        for path in [&file, &at("dir")] {
            std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        }
        let daemon = if users::own() == 0 { 0 } else { u32::MAX };
        let problems = read(&[file, below], daemon).unwrap_err();
        let belongs = format!("belongs to user {owner}; it must be");
        assert_eq!(problems.len(), 2, "{problems:?}");
        for problem in problems {
            assert!(problem.text.contains(&belongs), "{problem}");
        }
    }

    #[test]
    fn the_opened_file_is_looked_at_and_not_its_path() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        let (good, bad) = (
            write(&at("good"), "good", 0o644),
            write(&at("bad"), "bad", 0o666),
        );
        let opened = [File::open(&good).unwrap(), File::open(&bad).unwrap()];
        // Each stands where the other was when it was opened.
        fs::rename(&good, at("kept")).unwrap();
        fs::rename(&bad, &good).unwrap();
        fs::rename(at("kept"), &bad).unwrap();
        let [of_good, of_bad] = opened;
        let own = users::own();
        assert_eq!(read_opened(&good, of_good, own).unwrap(), b"good");
        let refused = read_opened(&bad, of_bad, own).unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
    }

    #[test]
    fn a_link_leads_through_what_is_checked_too() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        write(&at("dir/f"), "f", 0o644);
        symlink("dir", at("to")).unwrap();
        symlink("../to/f", at("dir/again")).unwrap();
        assert_eq!(texts(&[at("to/again")]).unwrap(), [("f".to_owned(), 0)]);
        symlink("round", at("round")).unwrap();
        assert!(texts(&[at("round")]).is_err());
    }

    #[test]
    fn links_of_both_kinds_lead_to_the_same() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        for name in ["dir", "other"] {
            fs::create_dir(at(name)).unwrap();
        }
        symlink("dir", at("to")).unwrap();
        let file = write(&at("dir/f"), "", 0o644);
        fs::hard_link(&file, at("other/g")).unwrap();
        write(&at("other/f"), "", 0o644);
        for (one, other, expected) in [
            ("dir", "to", true),
            ("dir/f", "to/f", true),
            ("dir/f", "other/g", true),
            ("dir/f", "other/f", false),
            ("dir", "other", false),
        ] {
            let (one, other) = (id(&at(one)).unwrap(), id(&at(other)).unwrap());
            assert_eq!(one == other, expected);
        }
        assert_eq!(id(&at("none")), None);
    }

    #[test]
    fn directories_are_roots_or_not() {
        let place = place();
        assert!(!is_roots(&place.path().join("socket")));
        assert!(!is_roots(Path::new("/tmp/socket")));
        assert!(!is_roots(Path::new("/nowhere/at/all")));
        assert!(is_roots(Path::new("/etc/socket")));
    }
}
