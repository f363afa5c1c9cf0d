//! Directories that other users could put something into.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

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
    if owner != user && owner != 0 {
        return Err(Unsafe::Foreign { owner });
    }
    if mode & writable_by_others != 0 {
        let sticky = mode & sticky != 0;
        return Err(Unsafe::Writable { mode, sticky });
    }
    Ok(())
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
