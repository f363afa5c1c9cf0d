//! The state directory: what a bridge has to know after it was killed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::count::{Dropped, Reason};
use crate::ledger::{Marks, Note};
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
    journal: Mutex<Journal>,
    /// Held as long as the program runs, so that no second one uses the directory.
    _lock: Flock<File>,
}

/// The marks, as they are written down: a file with all of them, and one with what has changed
/// since, to which every note is added before what it says is done.
#[derive(Debug)]
struct Journal {
    notes: File,
    is_empty: bool,
    written: Marks,
}

/// The right to write down what becomes of messages, one after the other.
#[derive(Debug)]
pub struct Notes<'a> {
    directory: &'a Path,
    journal: MutexGuard<'a, Journal>,
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
        // A loss of power may leave a new file without its octets.
        let is_blank = |octet: &u8| *octet == 0 || octet.is_ascii_whitespace();
        let record = if octets.iter().all(is_blank) {
            Record::default()
        } else {
            let damaged = |error| StateError::Damaged { path, error };
            serde_json::from_slice(&octets).map_err(damaged)?
        };
        let path = directory.join("marks");
        let written: Marks = match fs::read(&path) {
            Ok(octets) => {
                let damaged = |error| StateError::Damaged { path, error };
                serde_json::from_slice(&octets).map_err(damaged)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Marks::default(),
            Err(error) => return Err(io("read", &path)(error)),
        };
        let path = directory.join("notes");
        let open = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path);
        let notes = open.map_err(io("open", &path))?;
        let octets = fs::read(&path).map_err(io("read", &path))?;
        let mut marks = written.clone();
        // The last one may have been torn: what it says was not done then.
        let lines = octets.split(|&octet| octet == b'\n');
        for note in lines.map_while(|line| serde_json::from_slice(line).ok()) {
            marks.apply(note);
        }
        let state = Self(Arc::new(Inner {
            directory: directory.to_owned(),
            file,
            record: Mutex::new(record),
            journal: Mutex::new(Journal {
                notes,
                is_empty: octets.is_empty(),
                written,
            }),
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
        let error = |error| unwritten(self.0.directory.join("position"), error);
        let mut octets = serde_json::to_vec(record).map_err(|e| error(e.into()))?;
        octets.resize(RECORD.max(octets.len()), b' ');
        self.0.file.write_all_at(&octets, 0).map_err(error)
    }

    /// Waits until nobody else writes notes.
    pub fn notes(&self) -> Notes<'_> {
        // What a thread that panicked has left is what the files have.
        let journal = self.0.journal.lock();
        Notes {
            directory: &self.0.directory,
            journal: journal.unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // A record is whole at any time: a thread that panicked left none half made.
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes<'_> {
    /// Writes notes down, in one write. Like the position it is not forced to the disk: after a
    /// loss of power the bus is another one, and the marks are of none of its messages.
    pub fn store(&mut self, notes: &[Note]) -> Result<(), StateError> {
        if notes.is_empty() {
            return Ok(());
        }
        let path = || self.directory.join("notes");
        let mut octets = Vec::new();
        for note in notes {
            serde_json::to_writer(&mut octets, note).map_err(|e| unwritten(path(), e.into()))?;
            octets.push(b'\n');
        }
        self.journal.is_empty = false;
        let written = self.journal.notes.write_all(&octets);
        written.map_err(|error| unwritten(path(), error))
    }

    /// Writes all the marks down, and begins the notes anew.
    pub fn store_marks(&mut self, marks: Marks) -> Result<(), StateError> {
        if self.journal.is_empty && self.journal.written == marks {
            return Ok(());
        }
        // What is noted of an earlier run of the bus says nothing of this one, and comes first: a
        // kill between the two leaves the marks of that run, which nobody needs any more.
        if self.journal.written.run != marks.run {
            self.forget()?;
        }
        let path = self.directory.join("marks");
        let octets = serde_json::to_vec(&marks).map_err(io::Error::from);
        let written = octets.and_then(|octets| replace(&path, &octets));
        written.map_err(|error| unwritten(path, error))?;
        self.journal.written = marks;
        // Between the two a kill leaves notes of what the marks say already, which changes nothing.
        self.forget()
    }

    /// Begins the notes anew.
    fn forget(&mut self) -> Result<(), StateError> {
        let emptied = self.journal.notes.set_len(0);
        emptied.map_err(|error| unwritten(self.directory.join("notes"), error))?;
        self.journal.is_empty = true;
        Ok(())
    }
}

/// Puts `octets` in the place of the file, so that it is the old one or the new one after a loss of
/// power too: with half a one no bridge would start. The other name is always the same, so that
/// kills leave no more than one file.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn unwritten(path: PathBuf, error: io::Error) -> StateError {
    StateError::Io {
        what: "write",
        path,
        error,
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
        state.notes().store_marks(marks.clone()).unwrap();
        drop(state);

        let (state, again) = State::open(&directory).unwrap();
        assert_eq!((state.position(), again), (Some(position), marks));
        assert_eq!(state.dropped().of(Reason::Gone), 3);
    }

    #[test]
    fn notes_are_there_after_a_kill_and_a_torn_one_is_not() {
        let place = tempfile::tempdir().unwrap();
        let (state, mut marks) = State::open(place.path()).unwrap();
        marks.after.insert("all".into(), 3);
        state.notes().store_marks(marks.clone()).unwrap();
        let end = crate::position::End::default();
        let notes = [
            Note::Begin("all".into(), 4, end),
            Note::Begin("all".into(), 5, end),
            Note::Settle("all".into(), 4),
        ];
        state.notes().store(&notes).unwrap();
        drop(state);
        let path = place.path().join("notes");
        let whole = fs::read(&path).unwrap();
        for (length, begun) in [(whole.len(), 1), (whole.len() - 3, 2)] {
            fs::write(&path, &whole[..length]).unwrap();
            let (_, marks) = State::open(place.path()).unwrap();
            assert_eq!(marks.begun().count(), begun);
        }

        let (state, marks) = State::open(place.path()).unwrap();
        state.notes().store_marks(marks.clone()).unwrap();
        drop(state);
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(State::open(place.path()).unwrap().1, marks);
    }

    #[test]
    fn notes_of_an_earlier_run_are_not_taken_for_those_of_the_next() {
        let place = tempfile::tempdir().unwrap();
        let (state, mut marks) = State::open(place.path()).unwrap();
        marks.run = "8A7B4C2E11D09F5A".into();
        state.notes().store_marks(marks.clone()).unwrap();
        state
            .notes()
            .store(&[Note::Settle("all".into(), 5)])
            .unwrap();
        // A file in the way is like a kill before the marks are written.
        let fresh = place.path().join("marks.new");
        fs::create_dir(&fresh).unwrap();
        let next = Marks {
            run: "0123456789ABCDEF".into(),
            ..Marks::default()
        };
        state.notes().store_marks(next.clone()).unwrap_err();
        drop(state);
        let (state, kept) = State::open(place.path()).unwrap();
        assert_eq!(kept, marks, "without the note");
        fs::remove_dir(&fresh).unwrap();
        state.notes().store_marks(next.clone()).unwrap();
        drop(state);
        assert_eq!(State::open(place.path()).unwrap().1, next);
    }

    #[test]
    fn a_position_whose_octets_were_lost_is_none() {
        for octets in [&b""[..], &[0; RECORD]] {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join("position"), octets).unwrap();
            let (state, _) = State::open(place.path()).unwrap();
            assert_eq!(state.position(), None);
        }
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
