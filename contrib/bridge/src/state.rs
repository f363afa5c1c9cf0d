//! The state directory: what a bridge has to know after it was killed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::count::{Dropped, Reason};
use crate::ledger::Marks;
use crate::position::Position;

/// The octets of the file with the position: one write, so that a kill leaves the old or the new.
const RECORD: usize = 1024;

/// The state directory, and what is in it.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    file: File,
    record: Mutex<Record>,
    /// Held as long as the program runs, so that no second one uses the directory.
    _lock: Flock<File>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    position: Option<Position>,
    dropped: Dropped,
}

/// What is wrong with a state directory.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system refuses.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// Open, make, lock or write.
        what: &'static str,
        /// What file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else has it.
    #[error("{0} is in use by another onionbus-bridge: give each its own --state")]
    InUse(PathBuf),
    /// A file that this program has not written.
    #[error(
        "{path} cannot be read: {error}. Remove it to go by what the NATS server knows, \
         which may deliver some messages twice"
    )]
    Damaged {
        /// What file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
}

impl State {
    /// Opens the directory, which is made if it is missing, and what the last life has left there.
    pub fn open(directory: &Path) -> Result<(Self, Marks), StateError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Io { what, path, error }
        };
        if !directory.exists() {
            fs::create_dir_all(directory).map_err(io("make", directory))?;
            let private = Permissions::from_mode(0o700);
            fs::set_permissions(directory, private).map_err(io("make", directory))?;
        }
        let path = directory.join("position");
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(io("open", &path))?;
        let held = file.try_clone().map_err(io("open", &path))?;
        let lock = Flock::lock(held, FlockArg::LockExclusiveNonblock)
            .map_err(|_| StateError::InUse(directory.to_owned()))?;
        let octets = fs::read(&path).map_err(io("read", &path))?;
        let record = if octets.iter().all(u8::is_ascii_whitespace) {
            Record::default()
        } else {
            let damaged = |error| StateError::Damaged { path, error };
            serde_json::from_slice(&octets).map_err(damaged)?
        };
        let path = directory.join("marks");
        let marks = match fs::read(&path) {
            Ok(octets) => {
                let damaged = |error| StateError::Damaged { path, error };
                serde_json::from_slice(&octets).map_err(damaged)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Marks::default(),
            Err(error) => return Err(io("read", &path)(error)),
        };
        let state = Self(Arc::new(Inner {
            directory: directory.to_owned(),
            file,
            record: Mutex::new(record),
            _lock: lock,
        }));
        Ok((state, marks))
    }

    /// The position in the stream, if there was one.
    pub fn position(&self) -> Option<Position> {
        self.record().position.clone()
    }

    /// What was dropped since the directory was made.
    pub fn dropped(&self) -> Dropped {
        self.record().dropped
    }

    /// Writes the position down, and counts what was dropped with it, in one write. It is not
    /// forced to the disk: a kill leaves it, and after a loss of power the bus has lost more.
    pub fn store(&self, position: &Position, dropped: &[(Reason, u64)]) -> Result<(), StateError> {
        let mut record = self.record();
        record.position = Some(position.clone());
        self.write(&mut record, dropped)
    }

    /// Counts and logs what is dropped.
    pub fn drop_messages(&self, reason: Reason, count: u64) -> Result<(), StateError> {
        if count == 0 {
            return Ok(());
        }
        self.write(&mut self.record(), &[(reason, count)])
    }

    fn write(&self, record: &mut Record, dropped: &[(Reason, u64)]) -> Result<(), StateError> {
        for &(reason, count) in dropped.iter().filter(|(_, count)| *count > 0) {
            record.dropped.add(reason, count);
            let all = record.dropped.of(reason);
            log::warn!("dropped {count} messages {}; {all} by now", reason.phrase());
        }
        let error = |error| StateError::Io {
            what: "write",
            path: self.0.directory.join("position"),
            error,
        };
        let mut octets = serde_json::to_vec(record).map_err(|e| error(e.into()))?;
        octets.resize(RECORD.max(octets.len()), b' ');
        self.0.file.write_all_at(&octets, 0).map_err(error)
    }

    /// Writes the marks down.
    pub fn store_marks(&self, marks: &Marks) -> Result<(), StateError> {
        let path = self.0.directory.join("marks");
        let fresh = self.0.directory.join("marks.new");
        let error = |error| StateError::Io {
            what: "write",
            path: path.clone(),
            error,
        };
        let octets = serde_json::to_vec(marks).map_err(|e| error(e.into()))?;
        fs::write(&fresh, octets).map_err(error)?;
        fs::rename(&fresh, &path).map_err(error)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // A record is whole at any time: a thread that panicked left none half made.
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_there_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("state");
        let (state, marks) = State::open(&directory).unwrap();
        assert_eq!((state.position(), marks), (None, Marks::default()));
        assert!(matches!(State::open(&directory), Err(StateError::InUse(_))));
        let position = Position::at(5, 17);
        state.store(&position, &[(Reason::Gone, 2)]).unwrap();
        state.drop_messages(Reason::Gone, 1).unwrap();
        let mut marks = Marks::default();
        marks.after.insert("all".into(), 3);
        state.store_marks(&marks).unwrap();
        drop(state);

        let (state, again) = State::open(&directory).unwrap();
        assert_eq!((state.position(), again), (Some(position), marks));
        assert_eq!(state.dropped().of(Reason::Gone), 3);
    }

    #[test]
    fn a_file_of_others_is_not_taken_for_the_state() {
        for file in ["position", "marks"] {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join(file), "mine").unwrap();
            let opened = State::open(place.path());
            assert!(matches!(opened, Err(StateError::Damaged { .. })), "{file}");
        }
    }
}
