//! A file that lines are put behind, which nobody but its owner reads.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::process;

/// The mode of the file.
const MODE: u32 = 0o600;

/// A file of lines, each written at once.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// The last line has no end: not all of it could be written.
    is_torn: bool,
}

impl Journal {
    /// A file that is opened when the first line is written.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            is_torn: false,
        }
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens whatever file the path leads to by now; it is made if there is none.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if found.uid() != process::uid() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if found.permissions().mode() & 0o777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE))?;
        }
        let mut last = [b'\n'];
        if let Some(at) = found.len().checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        self.is_torn = last != [b'\n'];
        self.file = Some(file);
        Ok(())
    }

    /// Writes one line, with its end, in one write. Where a line was cut off before, this one
    /// begins a line all the same.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("it is not open"));
        };
        let whole;
        let line = if self.is_torn {
            whole = [b"\n", line].concat();
            &whole
        } else {
            line
        };
        let written = loop {
            match file.write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written,
            }
        };
        match written {
            Ok(length) if length == line.len() => {
                self.is_torn = false;
                Ok(())
            }
            Ok(length) => {
                self.is_torn |= length > 0;
                Err(io::Error::other("the disk is full"))
            }
            Err(error) => {
                // The next line tries whatever is at the path by then.
                if !self.is_torn {
                    self.file = None;
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_behind_what_is_there_and_others_cannot_read_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        std::fs::write(&path, "old\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut journal = Journal::new(&path);
        journal.write(b"one\n").unwrap();
        let moved = place.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        journal.write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&moved).unwrap(), b"old\none\ntwo\n");
        assert_eq!(moved.metadata().unwrap().permissions().mode() & 0o777, MODE);
        journal.reopen().unwrap();
        journal.write(b"three\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn a_line_that_was_cut_off_stays_alone_when_the_file_is_opened_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        std::fs::write(&path, "old\ncut").unwrap();
        let mut journal = Journal::new(&path);
        journal.write(b"one\n").unwrap();
        journal.reopen().unwrap();
        journal.write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old\ncut\none\ntwo\n");
    }

    #[test]
    fn only_a_regular_file_is_written_and_one_that_comes_back_is_too() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Journal::new(&pipe).write(b"x\n").is_err());
        assert!(Journal::new(Path::new("/dev/full")).write(b"x\n").is_err());
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let mut journal = Journal::new(&path);
        assert!(journal.write(b"x\n").is_err());
        std::fs::remove_file(&path).unwrap();
        journal.write(b"x\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x\n");
    }
}
