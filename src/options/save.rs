//! Writing the options in force back into the option file, with its comments and order.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use std::path::{Path, PathBuf};

use atomic_write_file::unix::OpenOptionsExt as _;

use super::load::{self, Group};
use super::problem::{Problem, shown_path};
use super::table::{Spec, TABLE, find};
use super::value::Value;
use crate::wire::torrc::{self, Line, written};

/// Why the options were not saved. The file is as it was. Displayed as what follows `551 `.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// There is no file to save to.
    #[error("Unable to write configuration to disk: onionbus was started without --config")]
    NoFile,
    /// Saving would take the place of what other files say.
    #[error(
        "Unable to write configuration to disk: {} includes other files; SAVECONF FORCE writes \
         their options into it and drops its %include lines",
        shown_path(.0)
    )]
    Included(PathBuf),
    /// What is in the file now could not be kept, or what would be in it not be read.
    #[error("Unable to write configuration to disk: {0}; correct the file first")]
    Broken(Problem),
    /// The system refused.
    #[error("Unable to write configuration to disk: {}: {cause}", shown_path(.path))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// Makes the file say `values`. `included` tells whether some of them came from other files.
pub(super) fn save(
    path: &Path,
    values: &Group,
    included: bool,
    force: bool,
) -> Result<(), SaveError> {
    let failed = |cause| SaveError::Write {
        path: path.to_owned(),
        cause,
    };
    // Through a symbolic link: what it points to is the file, and the link stays.
    let (target, old) = match path.canonicalize() {
        Ok(target) if !target.is_file() => {
            return Err(failed(io::Error::other("is not a regular file")));
        }
        Ok(target) => {
            let old = load::read(&target).map_err(failed)?;
            (target, old)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let broken = |problem| {
        SaveError::Broken(Problem {
            file: Some(path.to_owned()),
            ..problem
        })
    };
    let (lines, mistakes) = torrc::scan(&old);
    if let Some(problem) = Problem::of_all(mistakes).into_iter().next() {
        return Err(broken(problem));
    }
    if !force && (included || lines.iter().any(Line::is_include)) {
        return Err(SaveError::Included(path.to_owned()));
    }
    let new = compose(&old, &lines, values);
    // Somebody may have broken lines that are kept as they are since the file was last read.
    let (_, problems, faults) = load::text(&new);
    let faults = faults
        .iter()
        .map(|(line, fault)| Problem::at(*line, fault.advice()));
    if let Some(problem) = problems.into_iter().chain(faults).next() {
        return Err(broken(problem));
    }
    let is_secret = values.values().flatten().any(Value::is_secret);
    write(&target, &new, is_secret).map_err(failed)
}

/// Puts `octets` in the place of the file, so that at every instant the path is the old file
/// or the new one, whole. A new file is its owner's alone, and so is one with a secret, from
/// before the first octet is in it.
fn write(path: &Path, octets: &[u8], is_secret: bool) -> io::Result<()> {
    let mut file = atomic_write_file::OpenOptions::new()
        .mode(0o600)
        .preserve_mode(!is_secret)
        .open(path)?;
    file.write_all(octets)?;
    // Once here as well: after a failure within commit the temporary file would stay.
    file.sync_all()?;
    file.commit()
}

/// The options as lines of a file.
pub(super) fn text_of(values: &Group) -> Vec<u8> {
    compose(b"", &[], values)
}

/// What happens to one line of the file.
enum Fate {
    Keep,
    Drop,
    Rewrite(Value),
}

/// What happens at one line of the file: lines before it, it, lines after it.
struct Plan {
    before: Vec<(&'static Spec, Value)>,
    fate: Fate,
    after: Vec<(&'static Spec, Value)>,
}

/// The text of a file that says `values`: `old` (of which `lines` are the lines) with what
/// must differ changed, and without its `%include` lines.
fn compose(old: &[u8], lines: &[Line], values: &Group) -> Vec<u8> {
    let (plans, appended) = plan(lines, values);
    let mut out = Output {
        text: Vec::with_capacity(old.len()),
        ending: if old.windows(2).any(|pair| pair == b"\r\n") {
            b"\r\n"
        } else {
            b"\n"
        },
    };
    let mut copied = 0;
    for (line, plan) in lines.iter().zip(plans) {
        out.text.extend_from_slice(&old[copied..line.span.start]);
        copied = line.span.end;
        out.lines(plan.before);
        match plan.fate {
            Fate::Keep => out.text.extend_from_slice(&old[line.span.clone()]),
            Fate::Drop => {}
            Fate::Rewrite(value) => {
                let before = &old[line.span.start..line.value_span.start];
                out.text.extend_from_slice(before);
                if !before.last().copied().is_some_and(torrc::is_blank) {
                    out.text.push(b' ');
                }
                out.text.extend_from_slice(&written(&value.to_octets()));
                out.text
                    .extend_from_slice(&old[line.value_span.end..line.span.end]);
            }
        }
        out.lines(plan.after);
    }
    out.text.extend_from_slice(&old[copied..]);
    out.lines(appended);
    out.text
}

/// Decides the fate of every line, and what is to be appended at the end.
fn plan(lines: &[Line], values: &Group) -> (Vec<Plan>, Vec<(&'static Spec, Value)>) {
    let mut plans: Vec<Plan> = lines
        .iter()
        .map(|line| Plan {
            before: Vec::new(),
            fate: if line.is_include() {
                Fate::Drop
            } else {
                Fate::Keep
            },
            after: Vec::new(),
        })
        .collect();
    let (in_file, _) = load::group(
        lines
            .iter()
            .map(|line| ((), &line.key[..], &line.value[..])),
    );
    let mut appended = Vec::new();
    for spec in TABLE {
        let mut wanted = values.get(spec.name).map_or(&[][..], Vec::as_slice);
        if in_file.get(spec.name).map_or(&[][..], Vec::as_slice) == wanted {
            continue;
        }
        // Each line of the option with its value, if it has one.
        let slots: Vec<(usize, Option<Value>)> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| find(&line.key).is_some_and(|found| found.name == spec.name))
            .map(|(index, line)| (index, spec.kind.parse(&line.value).ok()))
            .collect();
        for (number, (index, value)) in slots.iter().enumerate() {
            let plan = &mut plans[*index];
            if let Some(at) = wanted
                .iter()
                .position(|wanted| Some(wanted) == value.as_ref())
            {
                plan.before
                    .extend(wanted[..at].iter().map(|value| (spec, value.clone())));
                wanted = &wanted[at + 1..];
                continue;
            }
            // A value that a later line has already is left to that line.
            let later = &slots[number + 1..];
            plan.fate = match wanted.split_first() {
                Some((next, rest)) if !later.iter().any(|(_, has)| has.as_ref() == Some(next)) => {
                    wanted = rest;
                    Fate::Rewrite(next.clone())
                }
                _ => Fate::Drop,
            };
        }
        let left = wanted.iter().map(|value| (spec, value.clone()));
        match slots.last() {
            Some((last, _)) => plans[*last].after.extend(left),
            None => appended.extend(left),
        }
    }
    (plans, appended)
}

/// The text being made.
struct Output {
    text: Vec<u8>,
    ending: &'static [u8],
}

impl Output {
    /// Adds lines of their own.
    fn lines(&mut self, lines: Vec<(&'static Spec, Value)>) {
        for (spec, value) in lines {
            if self.text.last().is_some_and(|&octet| octet != b'\n') {
                self.text.extend_from_slice(self.ending);
            }
            self.text.extend_from_slice(spec.name.as_bytes());
            self.text.push(b' ');
            self.text.extend_from_slice(&written(&value.to_octets()));
            self.text.extend_from_slice(self.ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use proptest::prelude::*;

    use super::*;

    /// The values that a text sets, as the options keep them.
    fn values(text: &[u8]) -> Group {
        let (mut values, problems, faults) = load::text(text);
        assert!(problems.is_empty() && faults.is_empty(), "{problems:?}");
        load::overlay(&mut values, Group::new());
        values
    }

    /// What becomes of the file `old` when `new` is in force.
    fn saved(old: &str, new: &str) -> String {
        let text = compose(
            old.as_bytes(),
            &torrc::parse(old.as_bytes()).unwrap(),
            &values(new.as_bytes()),
        );
        assert_eq!(values(&text), values(new.as_bytes()));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_has_not_changed_stays_octet_for_octet() {
        let old = "# mine\r\n\n  bushistory   0050 # few\nBusMaxQueue 1 \\\n  MB\n\n# end";
        let new = "BusHistory 50\nBusMaxQueue 1048576";
        assert_eq!(saved(old, new), old);
        let doubled = "BusHistory 1\nBusHistory 2\n";
        assert_eq!(saved(doubled, "BusHistory 2"), doubled);
    }

    #[test]
    fn what_has_changed_is_rewritten_in_place() {
        let old = "# a\nBusHistory 50 # few\nBusLog\twarn\nBusMaxControllers 9#x\n# z\n";
        let new = "BusHistory 60\nBusLog err\nBusMaxControllers 8";
        assert_eq!(
            saved(old, new),
            "# a\nBusHistory 60 # few\nBusLog\terr\nBusMaxControllers 8#x\n# z\n"
        );
        assert_eq!(
            saved("BusHistory # none\n", "BusHistory 1"),
            "BusHistory 1 # none\n"
        );
        assert_eq!(saved("BusHistory", "BusHistory 1"), "BusHistory 1");
        assert_eq!(
            saved("BusHistory\\\n1\\\n # x\n0\n", "BusHistory 7"),
            "BusHistory 7\n"
        );
        assert_eq!(
            saved("BusHistory 1\nBusHistory 2\n", "BusHistory 3"),
            "BusHistory 3\n"
        );
    }

    #[test]
    fn what_is_back_at_its_default_is_dropped() {
        let old = "# a\nBusHistory 50 # few\n# b\nBusLog warn\n";
        assert_eq!(saved(old, "BusLog warn"), "# a\n# b\nBusLog warn\n");
        assert_eq!(saved(old, ""), "# a\n# b\n");
    }

    #[test]
    fn what_is_new_is_appended() {
        assert_eq!(saved("", "BusHistory 1"), "BusHistory 1\n");
        assert_eq!(saved("# a", "BusHistory 1"), "# a\nBusHistory 1\n");
        assert_eq!(
            saved("BusLog err\r\n# b\r\n", "BusLog err\nBusHistory 1"),
            "BusLog err\r\n# b\r\nBusHistory 1\r\n"
        );
    }

    #[test]
    fn sockets_keep_their_lines_and_their_order() {
        let old = "BusSocket /a # A\nBusSocket /b # B\n# x\nBusSocket /c # C\n";
        let cases = [
            (
                "BusSocket /b\nBusSocket /c",
                "BusSocket /b # B\n# x\nBusSocket /c # C\n",
            ),
            ("BusSocket /c", "# x\nBusSocket /c # C\n"),
            (
                "BusSocket /a\nBusSocket /n\nBusSocket /c",
                "BusSocket /a # A\nBusSocket /n # B\n# x\nBusSocket /c # C\n",
            ),
            (
                "BusSocket /a\nBusSocket /b\nBusSocket /c\nBusSocket /n Mode=0660",
                "BusSocket /a # A\nBusSocket /b # B\n# x\nBusSocket /c # C\nBusSocket /n Mode=0660\n",
            ),
            (
                "BusSocket /n\nBusSocket /a\nBusSocket /b\nBusSocket /c",
                "BusSocket /n\nBusSocket /a # A\nBusSocket /b # B\n# x\nBusSocket /c # C\n",
            ),
            (
                "BusSocket /c\nBusSocket /a\nBusSocket \"/b b\" Mode=0600",
                "BusSocket /c\nBusSocket /a # A\nBusSocket \"/b b\" Mode=0600 # B\n# x\n",
            ),
        ];
        for (new, expected) in cases {
            assert_eq!(saved(old, new), expected);
        }
    }

    #[test]
    fn values_that_need_it_are_quoted() {
        assert_eq!(
            saved(
                "BusStateDirectory /a # b\n",
                "BusStateDirectory \"/a # c\"\nBusSocket \"/x#y\" Mode=0600"
            ),
            "BusStateDirectory \"/a # c\" # b\nBusSocket \"/x#y\"\n"
        );
    }

    #[test]
    fn included_lines_take_the_place_of_the_include() {
        assert_eq!(
            saved(
                "# a\n%include x # b\nBusLog err\n",
                "BusLog err\nBusHistory 5"
            ),
            "# a\nBusLog err\nBusHistory 5\n"
        );
    }

    /// Lines of a file: settings, well written in several ways, and what is none.
    fn line() -> impl Strategy<Value = String> {
        let setting = prop_oneof![
            (0..3_u32).prop_map(|n| format!("BusHistory {n}")),
            Just("BUSHISTORY".to_owned()),
            (0..3_u32).prop_map(|n| format!("busmaxqueue \\\n  {n}01 MB")),
            (0..3_u32)
                .prop_map(|n| format!("BusLog\\\n # c\n {}", ["err", "warn", "info"][n as usize])),
            "[a-c #]{0,3}".prop_map(|p| format!("BusStateDirectory \"/{p}\"")),
        ];
        prop_oneof![
            4 => (setting, "( # [a-z\\\\\"]{0,3})?").prop_map(|(line, comment)| line + &comment),
            1 => Just("  # BusHistory 9 \\".to_owned()),
            1 => Just(String::new()),
            1 => Just("%include x".to_owned()),
        ]
    }

    /// A file of such lines, and of each socket at most one, in any order.
    fn file() -> impl Strategy<Value = String> {
        let sockets = vec![
            "/a",
            "/b # x",
            "\"/c d\" Mode=0600",
            "\"/e\"",
            "fd:f",
            "/g#g",
            "\"\\\"/h i\\\"\"",
        ];
        let sockets = proptest::sample::subsequence(sockets, 0..5).prop_shuffle();
        let lines = proptest::collection::vec(line(), 0..8);
        (sockets, lines, any::<bool>(), any::<bool>())
            .prop_flat_map(|(sockets, mut lines, crlf, ended)| {
                lines.extend(sockets.iter().map(|socket| format!("BusSocket {socket}")));
                (Just(lines).prop_shuffle(), Just(crlf), Just(ended))
            })
            .prop_map(|(lines, crlf, ended)| {
                let text = lines.join("\n") + if ended { "\n" } else { "" };
                if crlf {
                    text.replace('\n', "\r\n")
                } else {
                    text
                }
            })
    }

    fn settings_of(text: &str) -> Group {
        // A file's own lines, without what it includes.
        values(text.replace("%include x", "").as_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn what_is_saved_reads_back_as_what_is_in_force(old in file(), new in file()) {
            let wanted = settings_of(&new);
            let lines = torrc::parse(old.as_bytes()).unwrap();
            let text = compose(old.as_bytes(), &lines, &wanted);
            prop_assert_eq!(&values(&text), &wanted);
            // Saving again changes nothing.
            let lines = torrc::parse(&text).unwrap();
            prop_assert_eq!(&compose(&text, &lines, &wanted), &text);
            // A comment of its own line is never lost.
            let whole = |text: &[u8]| {
                text.split(|&octet| octet == b'\n').filter(|line| line.starts_with(b"  #")).count()
            };
            prop_assert_eq!(whole(old.as_bytes()), whole(&text));
            prop_assert_eq!(&values(&text_of(&wanted)), &wanted);
        }
    }

    fn directory(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("conf");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn the_file_keeps_its_mode_and_a_link_stays_a_link() {
        let (dir, path) = directory("BusHistory 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link");
        symlink("conf", &link).unwrap();
        save(&link, &values(b"BusHistory 2"), false, false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"BusHistory 2\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_gone_is_made_anew_for_its_owner() {
        let (_dir, path) = directory("");
        fs::remove_file(&path).unwrap();
        save(&path, &values(b"BusHistory 2"), false, false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"BusHistory 2\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn includes_are_merged_only_by_force() {
        let (_dir, path) = directory("%include x\nBusLog err\n");
        let values = values(b"BusLog err\nBusHistory 2");
        let error = save(&path, &values, true, false).unwrap_err().to_string();
        assert!(
            error.starts_with("Unable to write configuration to disk: /"),
            "{error}"
        );
        assert!(error.contains("SAVECONF FORCE"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"%include x\nBusLog err\n");
        save(&path, &values, true, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"BusLog err\nBusHistory 2\n");

        // Whichever of the two has it: the file as it is now, or as it was read.
        fs::write(&path, "%include x\n").unwrap();
        assert!(matches!(
            save(&path, &values, false, false),
            Err(SaveError::Included(_))
        ));
        fs::write(&path, "").unwrap();
        assert!(matches!(
            save(&path, &values, true, false),
            Err(SaveError::Included(_))
        ));
    }

    #[test]
    fn a_file_that_would_not_read_again_stays_as_it_is() {
        for (text, part) in [
            ("# x\nBusLog \"err\n", "conf:2: a value begins with"),
            ("# x\nNonsense\n", "conf:2: Unknown option 'Nonsense'"),
            (
                "BusHistory 1\\",
                "conf:1: the last line ends in a backslash",
            ),
        ] {
            let (_dir, path) = directory(text);
            let error = save(&path, &values(b"BusHistory 2"), false, true)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.ends_with("; correct the file first"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
        }
        let full = "#".repeat(torrc::MAX_TEXT);
        let (_dir, path) = directory(&full);
        let error = save(&path, &values(b"BusHistory 2"), false, true).unwrap_err();
        assert!(
            error.to_string().contains("the text is longer than"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), full.as_bytes());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        for path in ["/dev/null", "/"] {
            let error = save(Path::new(path), &Group::new(), false, true).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Unable to write configuration to disk: {path}: is not a regular file")
            );
        }
    }

    #[test]
    fn what_the_system_refuses_leaves_the_old_file() {
        // A name so long that no temporary file beside it can have a longer one.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c".repeat(255));
        fs::write(&path, "BusHistory 1\n").unwrap();
        let error = save(&path, &values(b"BusHistory 2"), false, false).unwrap_err();
        let expected = format!("{}: File name too long (os error 36)", path.display());
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"BusHistory 1\n");
    }
}
