//! Directories that other users could put something into.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf, absolute};

use nix::errno::Errno;

/// The most symbolic links on the way to a directory, as for the kernel.
pub(super) const MAX_LINKS: usize = 40;

/// Why a directory is not safe from other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsafe {
    /// Something else has its name.
    NotADirectory,
    /// Neither the user nor root owns it.
    Foreign {
        /// Its owner.
        owner: u32,
    },
    /// Others can write to it.
    Writable {
        /// Its mode.
        mode: u32,
        /// Whether others can only add files, and neither remove nor replace the user's.
        sticky: bool,
    },
}

/// Judges whether only `user` and root can change what is in a directory.
pub(super) fn judge(found: &Metadata, user: u32) -> Result<(), Unsafe> {
    let (sticky, writable_by_others) = (0o1000, 0o022);
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    if !found.is_dir() {
        return Err(Unsafe::NotADirectory);
    }
    // Whoever owns a directory can do anything in it, sticky or not.
    if !is_trusted(owner, user) {
        return Err(Unsafe::Foreign { owner });
    }
    if mode & writable_by_others != 0 {
        let sticky = mode & sticky != 0;
        return Err(Unsafe::Writable { mode, sticky });
    }
    Ok(())
}

/// Whether an owner is `user` or root. In a user namespace root has another number, which is that
/// of the owner of `/`.
pub(super) fn is_trusted(owner: u32, user: u32) -> bool {
    let owns_all = || fs::metadata("/").is_ok_and(|root| root.uid() == owner);
    owner == user || owner == 0 || owns_all()
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// Others could change it, or the way to it.
    Unsafe(PathBuf, Unsafe),
    /// The system refused something.
    System(PathBuf, io::Error),
}

/// Makes a directory, and those above it that are missing, with `mode`. Refuses it as [`walk`] does.
pub(super) fn make(path: &Path, mode: u32, user: u32, others: u32) -> Result<(), Fault> {
    walk(path, user, others, |path| look_or_make(path, mode))
}

/// Goes the whole way from `/` to a directory, and refuses it where whoever is neither `user` nor
/// root could put another in its place. `others` are the bits of the mode of those who must not
/// write; in a sticky directory they may.
pub(super) fn walk(
    path: &Path,
    user: u32,
    others: u32,
    look: impl Fn(&Path) -> io::Result<Metadata>,
) -> Result<(), Fault> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| Fault::System(path, cause)
    };
    let check = |path: &Path, found: &Metadata| match judge(found, user) {
        Err(Unsafe::Writable { mode, sticky }) if sticky || mode & others == 0 => Ok(()),
        Err(why) => Err(Fault::Unsafe(path.to_owned(), why)),
        Ok(()) => Ok(()),
    };
    let path = absolute(path).map_err(failed(path))?;
    let root = PathBuf::from("/");
    check(&root, &fs::metadata(&root).map_err(failed(&root))?)?;
    let mut current = root.clone();
    let mut rest = names_reversed(&path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            current.pop();
            continue;
        }
        let next = current.join(name);
        let found = look(&next).map_err(failed(&next))?;
        if !found.is_symlink() {
            check(&next, &found)?;
            current = next;
            continue;
        }
        if !is_trusted(found.uid(), user) {
            let owner = found.uid();
            return Err(Fault::Unsafe(next, Unsafe::Foreign { owner }));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(failed(&path)(Errno::ELOOP.into()));
        }
        let target = fs::read_link(&next).map_err(failed(&next))?;
        if target.is_absolute() {
            current.clone_from(&root);
        }
        rest.extend(names_reversed(&target));
    }
    Ok(())
}

fn look_or_make(path: &Path, mode: u32) -> io::Result<Metadata> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match DirBuilder::new().mode(mode).create(path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => fs::symlink_metadata(path),
            }
        }
        found => found,
    }
}

/// The names of a path, the last first, without its root.
fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.strip_prefix("/").unwrap_or(path).components().rev();
    names.map(|name| name.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::unistd::{Uid, chown};

    use super::*;

    #[test]
    fn a_directory_is_safe_where_only_its_owner_can_write() {
        let root = tempfile::tempdir().unwrap();
        let owner = fs::metadata(root.path()).unwrap().uid();
        for (mode, sticky) in [
            (0o700, None),
            (0o755, None),
            (0o1755, None),
            (0o2750, None),
            (0o720, Some(false)),
            (0o702, Some(false)),
            (0o777, Some(false)),
            (0o1770, Some(true)),
            (0o1777, Some(true)),
        ] {
            fs::set_permissions(root.path(), Permissions::from_mode(mode)).unwrap();
            let judged = judge(&fs::metadata(root.path()).unwrap(), owner);
            let expected = sticky.map_or(Ok(()), |sticky| Err(Unsafe::Writable { mode, sticky }));
            assert_eq!(judged, expected, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_is_safe_in_the_hands_of_its_user_and_of_root() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        if Uid::effective().is_root() {
            chown(root.path(), Some(Uid::from_raw(65534)), None).unwrap();
        }
        let found = fs::metadata(root.path()).unwrap();
        let owner = found.uid();
        let foreign = Err(Unsafe::Foreign { owner });
        assert_eq!(judge(&found, owner - 1), foreign, "sticky or not");
        assert_eq!(judge(&fs::metadata("/").unwrap(), 12345), Ok(()));
    }

    /// Makes `path` below `root` for its owner, and tells which directory is unsafe, and why.
    fn made(root: &Path, path: &str, others: u32) -> Option<(String, Unsafe)> {
        let owner = fs::metadata(root).unwrap().uid();
        match make(&root.join(path), 0o700, owner, others) {
            Ok(()) => None,
            Err(Fault::Unsafe(path, why)) => {
                let path = path.strip_prefix(root).unwrap();
                Some((path.to_str().unwrap().to_owned(), why))
            }
            Err(Fault::System(path, cause)) => panic!("{}: {cause}", path.display()),
        }
    }

    #[test]
    fn the_whole_way_to_a_directory_must_be_safe() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        assert_eq!(made(&root, "a/b/c", 0o022), None);
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode();
        assert_eq!(mode("a") & mode("a/b/c") & 0o7777, 0o700);
        for (mode, others, is_safe) in [
            (0o755, 0o022, true),
            (0o777, 0o022, false),
            (0o775, 0o022, false),
            (0o775, 0o002, true),
            (0o777, 0o002, false),
            (0o1777, 0o022, true),
        ] {
            fs::set_permissions(root.join("a"), Permissions::from_mode(mode)).unwrap();
            let sticky = false;
            let open = ("a".to_owned(), Unsafe::Writable { mode, sticky });
            let expected = (!is_safe).then_some(open);
            assert_eq!(made(&root, "a/b/c", others), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_link_leads_only_through_safe_directories() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["open/inner", "safe/state"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        symlink("open/hop", root.join("link")).unwrap();
        symlink("../safe/../safe", root.join("open/hop")).unwrap();
        symlink(root.join("safe"), root.join("good")).unwrap();
        symlink("self", root.join("self")).unwrap();
        assert_eq!(made(&root, "link/state", 0o022), None);
        assert_eq!(made(&root, "good/new", 0o022), None);
        assert!(root.join("safe/new").is_dir());
        fs::set_permissions(root.join("open"), Permissions::from_mode(0o777)).unwrap();
        let open = made(&root, "link/state", 0o022).unwrap();
        assert_eq!(open.0, "open", "whoever writes there chooses the state");
        let owner = fs::metadata(&root).unwrap().uid();
        let looped = make(&root.join("self"), 0o700, owner, 0o022);
        assert!(matches!(looped, Err(Fault::System(..))), "{looped:?}");
    }

    #[test]
    fn nothing_else_is_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(root.path(), &link).unwrap();
        for path in [file, link] {
            let found = fs::symlink_metadata(&path).unwrap();
            let judged = judge(&found, found.uid());
            assert_eq!(judged, Err(Unsafe::NotADirectory), "{}", path.display());
        }
    }
}
