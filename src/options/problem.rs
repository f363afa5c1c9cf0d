//! What is wrong with a configuration, told to the person who must correct it.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::wire::shown::{MOST, shown};
use crate::wire::torrc::Mistake;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file; none for a text that is no file, and for the command line.
    pub file: Option<PathBuf>,
    /// The line, counted from 1; none when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong and what would be right. Holds no control octet.
    pub text: String,
}

impl Problem {
    /// A problem with a line of a text of which the file is not known here.
    pub(super) fn at(line: usize, text: impl Into<String>) -> Self {
        Self {
            file: None,
            line: Some(line),
            text: text.into(),
        }
    }

    /// The same for each mistake of a text.
    pub(super) fn of_all(mistakes: Vec<Mistake>) -> Vec<Self> {
        let at = |mistake: Mistake| Self::at(mistake.line, mistake.text);
        mistakes.into_iter().map(at).collect()
    }

    /// A problem with a file as a whole.
    pub(super) fn of(file: &Path, text: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_owned()),
            line: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", shown_path(file))?,
            (Some(file), None) => write!(f, "{}: ", shown_path(file))?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with a configuration, at once; displayed as one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A path, whole but otherwise as [`shown`] does it.
pub(super) fn shown_path(path: &Path) -> String {
    path.as_os_str()
        .as_bytes()
        .chunks(MOST)
        .map(shown)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_whole() {
        let path = "/x".repeat(500);
        assert_eq!(shown_path(Path::new(&path)), path);
    }

    #[test]
    fn problems_are_one_line_each_and_say_where() {
        let mut third = Problem::at(7, "bad");
        third.file = Some("/etc/a\nb".into());
        let all = Problems(vec![
            Problem::at(3, "odd"),
            Problem::of(Path::new("/etc/x"), "gone"),
            third,
        ]);
        assert_eq!(
            all.to_string(),
            "line 3: odd\n/etc/x: gone\n/etc/a\\nb:7: bad"
        );
    }
}
