//! Reading the option file with what it includes, and the command line. The only place where
//! the options read files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::problem::{Problem, shown_path};
use super::table::{Kind, find, nearest};
use super::value::Value;
use crate::wire::shown::shown;
use crate::wire::torrc::{self, Line, MAX_TEXT};

/// How deep `%include` may nest, as in Tor.
const MAX_DEPTH: usize = 31;

/// How many files one configuration may have: files that include each other twice would
/// otherwise be read two to the power of [`MAX_DEPTH`] times.
const MAX_FILES: usize = 1000;

/// How many values an option can have.
const MAX_VALUES: usize = 64;

/// The values of the options that somebody set, by the option's name; an empty list means
/// that somebody set it back to its default.
pub(super) type Group = BTreeMap<&'static str, Vec<Value>>;

/// Why an assignment cannot be.
pub(super) enum Fault {
    /// There is no option of this name.
    Unknown(Vec<u8>),
    /// The value is not one of the option's: which, and what would be right.
    Invalid(String),
}

impl Fault {
    /// The fault as told to the person who wrote the file.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Unknown(name) => {
                let hint = match nearest(name) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "onionbus.conf(5) lists all options".into(),
                };
                format!("Unknown option '{}'; {hint}", shown(name))
            }
            Self::Invalid(text) => text.clone(),
        }
    }
}

/// Checks assignments of names to values, in their order, and gathers them by option. Of an
/// option that takes one value the last counts; an empty value sets it back to its default.
pub(super) fn group<'a, Origin>(
    assignments: impl IntoIterator<Item = (Origin, &'a [u8], &'a [u8])>,
) -> (Group, Vec<(Origin, Fault)>) {
    let mut group = Group::new();
    let mut faults = Vec::new();
    for (origin, name, text) in assignments {
        let Some(spec) = find(name) else {
            faults.push((origin, Fault::Unknown(name.to_vec())));
            continue;
        };
        let text = text.trim_ascii();
        let values = group.entry(spec.name).or_default();
        if !spec.kind.repeatable() || text.is_empty() {
            values.clear();
        }
        if text.is_empty() {
            continue;
        }
        let value = spec.kind.parse(text).and_then(|value| {
            if values.iter().any(|other| same_socket(other, &value)) {
                return Err("another line names the same socket".into());
            }
            if values.len() >= MAX_VALUES {
                return Err(format!("there can be {MAX_VALUES} of it at most"));
            }
            Ok(value)
        });
        match value {
            Ok(value) => values.push(value),
            Err(why) => {
                // Somebody may have written the password itself there.
                let what = if spec.kind == Kind::Passwords {
                    format!("{} cannot be what it is: {why}", spec.name)
                } else {
                    format!("{} cannot be '{}': {why}", spec.name, shown(text))
                };
                faults.push((origin, Fault::Invalid(what)));
            }
        }
    }
    (group, faults)
}

fn same_socket(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Socket(one), Value::Socket(other)) => one.address == other.address,
        _ => false,
    }
}

/// Puts the values of one source above those of another.
pub(super) fn overlay(base: &mut Group, above: Group) {
    base.extend(above);
    base.retain(|_, values| !values.is_empty());
}

/// The overrides of the command line, each an option's name, blanks, and its value, which is
/// taken as it stands: no comments, no quoting of the whole.
pub(super) fn command_line(overrides: &[Vec<u8>]) -> (Group, Vec<Problem>) {
    let assignments = overrides.iter().map(|text| {
        let text = text.trim_ascii();
        let end = text.iter().position(u8::is_ascii_whitespace);
        let (name, value) = text.split_at(end.unwrap_or(text.len()));
        ((), name, value)
    });
    let (group, faults) = group(assignments);
    let problems = faults.into_iter().map(|((), fault)| Problem {
        file: None,
        line: None,
        text: format!("on the command line: {}", fault.advice()),
    });
    (group, problems.collect())
}

/// What a text without a file sets, what is wrong with its syntax, and, by line, with what it
/// assigns; `%include` is refused in it.
pub(super) fn text(text: &[u8]) -> (Group, Vec<Problem>, Vec<(usize, Fault)>) {
    let (lines, mistakes) = torrc::scan(text);
    let mut problems = Problem::of_all(mistakes);
    let (includes, lines): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(Line::is_include);
    problems.extend(includes.iter().map(|line| {
        // Else whoever sends a configuration could have any file of the daemon's read, and
        // told in the error message.
        Problem::at(line.number, "%include works only in the file itself")
    }));
    let assignments = lines
        .iter()
        .map(|line| (line.number, &line.key[..], &line.value[..]));
    let (group, faults) = group(assignments);
    (group, problems, faults)
}

/// What a file sets, and whether it includes others, with everything wrong in all of them.
pub(super) fn file(path: &Path) -> (Group, bool, Vec<Problem>) {
    let mut reader = Reader::default();
    reader.file(path, 0);
    let assignments = reader
        .lines
        .iter()
        .map(|(file, line)| ((*file, line.number), &line.key[..], &line.value[..]));
    let (group, faults) = group(assignments);
    let mut problems = reader.problems;
    for ((file, line), fault) in faults {
        problems.push(Problem {
            file: Some(reader.files[file].clone()),
            line: Some(line),
            text: fault.advice(),
        });
    }
    problems.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    (group, reader.included, problems)
}

/// The secrets in a file and in all that it includes, where others than the owner may read them.
pub(super) fn exposed(path: &Path) -> Vec<Problem> {
    let mut reader = Reader::default();
    reader.file(path, 0);
    let mut problems = Vec::new();
    for (file, line) in &reader.lines {
        let Some((path, spec)) = reader.files.get(*file).zip(find(&line.key)) else {
            continue;
        };
        let value = spec.kind.parse(&line.value);
        if !value.is_ok_and(|value| value.is_secret()) {
            continue;
        }
        // A file that is gone by now is nobody's to read.
        let mode = fs::metadata(path).map_or(0, |found| found.mode() & 0o7777);
        let others = 0o077;
        if mode & others != 0 {
            let text = format!(
                "{} is a secret, and others can use this file (mode {mode:04o}): run \
                 'chmod 600 {}', or name a file of its own with file:PATH",
                spec.name,
                shown_path(path)
            );
            problems.push(Problem {
                file: Some(path.clone()),
                ..Problem::at(line.number, text)
            });
        }
    }
    problems
}

/// Collects the lines of a file and of all that it includes, in the order that counts.
#[derive(Default)]
struct Reader {
    files: Vec<PathBuf>,
    /// Each with the index of its file.
    lines: Vec<(usize, Line)>,
    problems: Vec<Problem>,
    included: bool,
    /// Set when the includes seem to have no end: nothing more is read then.
    halted: bool,
}

impl Reader {
    fn file(&mut self, path: &Path, depth: usize) {
        let index = self.files.len();
        let text = read(path);
        self.files.push(path.to_owned());
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let what = format!("cannot be read: {error}");
                self.problems.push(Problem::of(path, what));
                return;
            }
        };
        let (lines, mistakes) = torrc::scan(&text);
        self.problems.extend(
            Problem::of_all(mistakes)
                .into_iter()
                .map(|problem| Problem {
                    file: Some(path.to_owned()),
                    ..problem
                }),
        );
        for line in lines {
            if !line.is_include() {
                self.lines.push((index, line));
            } else if !self.halted {
                self.included = true;
                if let Err(what) = self.include(path, &line.value, depth + 1) {
                    self.problems.push(Problem {
                        file: Some(path.to_owned()),
                        ..Problem::at(line.number, what)
                    });
                }
            }
        }
    }

    /// Reads what an `%include` in the file `from` names: a file, or the files of a directory.
    fn include(&mut self, from: &Path, value: &[u8], depth: usize) -> Result<(), String> {
        if value.is_empty() {
            return Err("%include takes the path of a file or directory".into());
        }
        if depth > MAX_DEPTH {
            self.halted = true;
            return Err(format!(
                "%include nests deeper than {MAX_DEPTH} files: does a file include itself?"
            ));
        }
        let named = from.with_file_name("").join(OsStr::from_bytes(value));
        let files = files_of(&named)
            .map_err(|error| format!("%include '{}' cannot be read: {error}", shown(value)))?;
        for file in files {
            if self.halted {
                break;
            }
            if self.files.len() >= MAX_FILES {
                self.halted = true;
                return Err(format!("%include reads more than {MAX_FILES} files in all"));
            }
            self.file(&file, depth);
        }
        Ok(())
    }
}

/// The file itself; of a directory its files, sorted, without those that begin with a dot
/// and without directories.
fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_bytes().starts_with(b".");
        if !hidden && fs::metadata(entry.path())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The octets of a file, and one more than [`MAX_TEXT`] at most, which [`torrc::parse`] refuses.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MAX_TEXT as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in a directory of their own; `/` in a name makes a directory.
    fn files(contents: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in contents {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn history(group: &Group) -> Option<Vec<u8>> {
        Some(group.get("BusHistory")?.first()?.to_octets())
    }

    /// The problems of the file `main`, with the directory's own name left out.
    fn problems(dir: &tempfile::TempDir) -> Vec<String> {
        let name = format!("{}/", dir.path().display());
        let (_, _, problems) = file(&dir.path().join("main"));
        let texts = problems.iter().map(|p| p.to_string().replace(&name, ""));
        texts.collect()
    }

    #[test]
    fn an_include_counts_where_it_stands() {
        let before = "BusHistory 1\n%include inc\n";
        let after = "%include inc\nBusHistory 1\n";
        let dir = files(&[
            ("inc", "BusHistory 2"),
            ("before", before),
            ("after", after),
        ]);
        let (group, included, problems) = file(&dir.path().join("before"));
        assert_eq!((history(&group), included), (Some(b"2".to_vec()), true));
        assert!(problems.is_empty());
        let (group, _, _) = file(&dir.path().join("after"));
        assert_eq!(history(&group), Some(b"1".to_vec()));
    }

    #[test]
    fn a_directory_is_its_files_in_order() {
        let dir = files(&[
            ("main", "%INCLUDE \"conf d\""),
            ("conf d/10", "BusHistory 10"),
            ("conf d/20", "BusHistory 20"),
            ("conf d/.30", "BusHistory 30"),
            ("conf d/40/x", "BusHistory 40"),
        ]);
        let (group, _, problems) = file(&dir.path().join("main"));
        assert_eq!(history(&group), Some(b"20".to_vec()));
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn an_include_is_sought_beside_the_file_that_includes_it() {
        let dir = files(&[
            ("main", "%include sub/one"),
            ("sub/one", "%include two"),
            ("sub/two", "BusHistory 2"),
        ]);
        let (group, _, _) = file(&dir.path().join("main"));
        assert_eq!(history(&group), Some(b"2".to_vec()));
    }

    #[test]
    fn includes_nest_so_deep_and_no_deeper() {
        let chain = |length: usize| {
            let mut all: Vec<(String, String)> = (1..length)
                .map(|n| (format!("f{n}"), format!("%include f{}", n + 1)))
                .collect();
            all.push((format!("f{length}"), "BusHistory 7".into()));
            all.push(("main".into(), "%include f1".into()));
            let all: Vec<_> = all.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            files(&all)
        };
        let dir = chain(MAX_DEPTH);
        let (group, _, problems) = file(&dir.path().join("main"));
        assert_eq!(history(&group), Some(b"7".to_vec()));
        assert!(problems.is_empty());
        let dir = chain(MAX_DEPTH + 1);
        let (_, _, problems) = file(&dir.path().join("main"));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].text.contains("deeper than 31"));
    }

    #[test]
    fn files_that_include_themselves_twice_end_soon() {
        let dir = files(&[("main", "%include main\n%include main\n")]);
        assert_eq!(
            problems(&dir),
            ["main:1: %include nests deeper than 31 files: does a file include itself?"]
        );
    }

    #[test]
    fn so_many_files_and_no_more() {
        let leaves = "%include x\n".repeat(MAX_FILES);
        let dir = files(&[("main", &leaves), ("x", "")]);
        assert_eq!(
            problems(&dir),
            ["main:1000: %include reads more than 1000 files in all"]
        );
    }

    #[test]
    fn everything_wrong_in_all_files_is_told_at_once() {
        let dir = files(&[
            (
                "main",
                "BusHistry 1\nBusHistory x\n%include inc\n%include gone\n%include\n\
                 BusLog \"a\nNonsense\n",
            ),
            ("inc", "# all well\n\nBusLog loud"),
        ]);
        assert_eq!(
            problems(&dir),
            [
                "inc:3: BusLog cannot be 'loud': it takes debug, info, notice, warn or err",
                "main:1: Unknown option 'BusHistry'; did you mean BusHistory?",
                "main:2: BusHistory cannot be 'x': it takes an integer from 0 to 10000",
                "main:4: %include 'gone' cannot be read: No such file or directory (os error 2)",
                "main:5: %include takes the path of a file or directory",
                "main:6: a value begins with '\"' but has no closing '\"'",
                "main:7: Unknown option 'Nonsense'; onionbus.conf(5) lists all options",
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let dir = files(&[("sub/x", ""), ("nul", "a\n\0"), ("long", "")]);
        fs::write(dir.path().join("long"), vec![b'#'; MAX_TEXT + 1]).unwrap();
        fs::write(dir.path().join("full"), vec![b'#'; MAX_TEXT]).unwrap();
        let first = |name: &str| {
            let (_, _, problems) = file(&dir.path().join(name));
            problems.first().map(|problem| problem.text.clone())
        };
        assert_eq!(
            first("sub").unwrap(),
            "cannot be read: Is a directory (os error 21)"
        );
        assert_eq!(
            first("gone").unwrap(),
            "cannot be read: No such file or directory (os error 2)"
        );
        assert_eq!(first("nul").unwrap(), "a NUL octet: this is no text file");
        assert!(
            first("long")
                .unwrap()
                .starts_with("the text is longer than 1048576 octets")
        );
        assert_eq!(first("full"), None);
    }

    #[test]
    fn the_command_line_is_taken_as_it_stands() {
        let words = |words: &[&str]| -> Vec<Vec<u8>> {
            words.iter().map(|word| word.as_bytes().to_vec()).collect()
        };
        let (group, problems) = command_line(&words(&[
            "BusStateDirectory   /a b#c\"d ",
            "bussocket /one",
            "BusSocket \"/t w o\" Mode=0660",
            "BusHistory",
        ]));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(group["BusStateDirectory"][0].to_octets(), b"/a b#c\"d");
        let sockets: Vec<_> = group["BusSocket"].iter().map(Value::to_octets).collect();
        assert_eq!(sockets, [&b"/one"[..], b"\"/t w o\" Mode=0660"]);
        assert!(group["BusHistory"].is_empty());

        let (_, problems) = command_line(&words(&["BusHistory=5", "BusLog x", ""]));
        let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            texts,
            [
                "on the command line: Unknown option 'BusHistory=5'; did you mean BusHistory?",
                "on the command line: BusLog cannot be 'x': it takes debug, info, notice, warn or err",
                "on the command line: Unknown option ''; onionbus.conf(5) lists all options",
            ]
        );
    }

    #[test]
    fn a_text_without_a_file_includes_nothing() {
        let dir = files(&[("secret", "root:x:0")]);
        let sent = format!("BusHistory 3\n%include {}/secret\n", dir.path().display());
        let (group, problems, faults) = text(sent.as_bytes());
        assert_eq!(history(&group), Some(b"3".to_vec()));
        assert!(faults.is_empty());
        assert_eq!(
            problems,
            [Problem::at(2, "%include works only in the file itself")]
        );
    }

    #[test]
    fn sockets_are_distinct_and_not_too_many() {
        let many: Vec<_> = (0..=MAX_VALUES)
            .map(|n| format!("BusSocket /{n}"))
            .collect();
        let (_, _, faults) = text(many.join("\n").as_bytes());
        assert_eq!(faults.len(), 1);
        assert_eq!(
            faults[0].1.advice(),
            "BusSocket cannot be '/64': there can be 64 of it at most"
        );
        let (_, _, faults) = text(b"BusSocket /a\nBusSocket \"/a\" Mode=0660\nBusSocket fd:a\n");
        assert_eq!(faults.len(), 1);
        assert_eq!(
            (faults[0].0, faults[0].1.advice()),
            (
                2,
                "BusSocket cannot be '\"/a\" Mode=0660': another line names the same socket".into()
            )
        );
    }

    #[test]
    fn an_empty_value_forgets_the_lines_before() {
        let (group, _, faults) =
            text(b"BusSocket /a\nBusSocket\nBusSocket /b\nBusHistory 3\nBusHistory \"\"");
        assert!(faults.is_empty());
        assert_eq!(group["BusSocket"].len(), 1);
        assert!(group["BusHistory"].is_empty());
    }
}
