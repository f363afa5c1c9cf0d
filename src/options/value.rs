//! What the text of an option's value means, and the one way each value is written.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use log::LevelFilter;

use crate::auth::HashedPassword;

use super::address::Address;
use super::socket::{SocketSpec, absolute_path};
use super::table::Kind;

/// The severities of Tor and the levels of the log crate that stand for them.
const SEVERITIES: [(&str, LevelFilter); 5] = [
    ("debug", LevelFilter::Trace),
    ("info", LevelFilter::Debug),
    ("notice", LevelFilter::Info),
    ("warn", LevelFilter::Warn),
    ("err", LevelFilter::Error),
];

/// Units of octets with the power of two that each is, as Tor spells them.
const SIZES: [(&[&str], u32); 4] = [
    (&["", "b", "byte", "bytes", "octet", "octets"], 0),
    (
        &["k", "kb", "kib", "kbyte", "kbytes", "kilobyte", "kilobytes"],
        10,
    ),
    (
        &["m", "mb", "mib", "mbyte", "mbytes", "megabyte", "megabytes"],
        20,
    ),
    (
        &["g", "gb", "gib", "gbyte", "gbytes", "gigabyte", "gigabytes"],
        30,
    ),
];

/// Units of time with the seconds that each has.
const TIMES: [(&[&str], u64); 4] = [
    (&["", "s", "sec", "second", "seconds"], 1),
    (&["min", "minute", "minutes"], 60),
    (&["hour", "hours"], 3600),
    (&["day", "days"], 86_400),
];

/// One checked value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Boolean(bool),
    /// A count, octets, or seconds.
    Number(u64),
    Path(PathBuf),
    Ports(Vec<u16>),
    /// Names of options.
    Words(Vec<String>),
    Severity(LevelFilter),
    Tor(Option<Address>),
    Secret(Vec<u8>),
    Password(Option<HashedPassword>),
    /// Empty is none.
    User(String),
    Socket(SocketSpec),
}

impl Value {
    /// Whether the value itself is a secret, and not only the place of one.
    pub(super) fn is_secret(&self) -> bool {
        let is_text = |text: &[u8]| !text.is_empty() && !text.starts_with(b"file:");
        match self {
            Self::Secret(text) => is_text(text),
            Self::Password(hash) => hash.is_some(),
            _ => false,
        }
    }

    /// What controllers are shown: of a password, only that there is one.
    pub(super) fn hidden(&self) -> Self {
        if self.is_secret() {
            Self::Secret(b"(hidden)".to_vec())
        } else {
            self.clone()
        }
    }

    /// The value as GETCONF shows it and SAVECONF writes it.
    pub(super) fn to_octets(&self) -> Vec<u8> {
        match self {
            Self::Boolean(value) => u8::from(*value).to_string().into_bytes(),
            Self::Number(value) => value.to_string().into_bytes(),
            Self::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Words(words) => words.join(" ").into_bytes(),
            Self::Ports(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                ports.join(" ").into_bytes()
            }
            Self::Severity(level) => SEVERITIES
                .iter()
                .filter(|(_, of)| of == level)
                .flat_map(|(name, _)| name.bytes())
                .collect(),
            Self::Tor(address) => match address {
                Some(address) => address.to_string().into_bytes(),
                None => b"none".to_vec(),
            },
            Self::Secret(text) => text.clone(),
            Self::Password(hash) => hash
                .as_ref()
                .map(|hash| hash.to_string().into_bytes())
                .unwrap_or_default(),
            Self::User(name) => name.clone().into_bytes(),
            Self::Socket(spec) => spec.to_value(),
        }
    }
}

impl Kind {
    /// Reads a value of this kind. Fails with what would be right.
    pub(super) fn parse(self, text: &[u8]) -> Result<Value, String> {
        let text = text.trim_ascii();
        let value = match self {
            Self::Boolean => match text {
                b"0" => Some(Value::Boolean(false)),
                b"1" => Some(Value::Boolean(true)),
                _ => None,
            },
            Self::Count { min, max } => ranged(
                measured(text, |unit| unit.is_empty().then_some(1)),
                min,
                max,
            ),
            Self::Octets { min, max } => ranged(
                measured(text, |unit| named(&SIZES, unit).map(|bits| 1 << bits)),
                min,
                max,
            ),
            Self::Seconds { min, max } => {
                ranged(measured(text, |unit| named(&TIMES, unit)), min, max)
            }
            Self::Path | Self::Paths => absolute_path(text.to_vec()).map(Value::Path),
            Self::Ports => ports(text).map(Value::Ports),
            Self::Words => words(text).map(Value::Words),
            Self::Severity => SEVERITIES
                .iter()
                .find(|(name, _)| text.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, level)| Value::Severity(*level)),
            Self::Tor if text.eq_ignore_ascii_case(b"none") => Some(Value::Tor(None)),
            Self::Tor => std::str::from_utf8(text)
                .ok()
                .and_then(Address::parse)
                .map(|address| Value::Tor(Some(address))),
            Self::Secret => Some(Value::Secret(text.to_vec())),
            Self::Passwords if text.is_empty() => Some(Value::Password(None)),
            Self::Passwords => {
                return HashedPassword::parse(text).map(|hash| Value::Password(Some(hash)));
            }
            Self::User => std::str::from_utf8(text)
                .ok()
                .filter(|name| !name.contains(|c: char| c.is_whitespace() || c.is_control()))
                .map(|name| Value::User(name.to_owned())),
            Self::Sockets => return SocketSpec::parse(text).map(Value::Socket),
        };
        value.ok_or_else(|| format!("it takes {}", self.takes()))
    }
}

/// Names, between blanks or commas.
fn words(text: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    let is_name = |word: &str| {
        word.bytes()
            .all(|octet| octet == b'_' || octet.is_ascii_alphanumeric())
    };
    let word = |word: &str| is_name(word).then(|| word.to_owned());
    words.filter(|word| !word.is_empty()).map(word).collect()
}

/// Ports, between blanks or commas.
fn ports(text: &[u8]) -> Option<Vec<u16>> {
    let text = std::str::from_utf8(text).ok()?;
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    let port = |word: &str| word.parse().ok().filter(|port| *port > 0);
    words.filter(|word| !word.is_empty()).map(port).collect()
}

fn ranged(number: Option<u64>, min: u64, max: u64) -> Option<Value> {
    number
        .filter(|number| (min..=max).contains(number))
        .map(Value::Number)
}

/// A number with a unit, blanks between them or not: `16`, `16MB`, `16 mb`.
fn measured(text: &[u8], unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(unit(rest.trim_start())?)
}

fn named<T: Copy>(units: &[(&[&str], T)], unit: &str) -> Option<T> {
    units
        .iter()
        .find(|(names, _)| names.iter().any(|name| unit.eq_ignore_ascii_case(name)))
        .map(|&(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Option<Value> {
        kind.parse(text.as_bytes()).ok()
    }

    #[test]
    fn counts_have_digits_and_a_range() {
        let kind = Kind::Count { min: 2, max: 30 };
        for (text, number) in [("2", 2), ("30", 30), (" 007 ", 7)] {
            assert_eq!(read(kind, text), Some(Value::Number(number)), "{text}");
        }
        for text in [
            "1",
            "31",
            "-2",
            "+2",
            "2.0",
            "0x2",
            "2 KB",
            "x",
            "99999999999999999999",
        ] {
            assert_eq!(read(kind, text), None, "{text}");
        }
        assert_eq!(
            kind.parse(b"x").unwrap_err(),
            "it takes an integer from 2 to 30"
        );
    }

    #[test]
    fn octets_have_units() {
        let kind = Kind::Octets {
            min: 0,
            max: 1 << 40,
        };
        for (text, number) in [
            ("0", 0),
            ("17", 17),
            ("17 bytes", 17),
            ("1b", 1),
            ("3 kb", 3 << 10),
            ("3KBytes", 3 << 10),
            ("16 MB", 16 << 20),
            ("16   megabytes", 16 << 20),
            ("1 GB", 1 << 30),
            ("2\tGiB", 2 << 30),
        ] {
            assert_eq!(read(kind, text), Some(Value::Number(number)), "{text}");
        }
        for text in [
            "MB",
            "1 parsec",
            "1.5 GB",
            "1 K B",
            "18446744073709551615 GB",
            "1 MB x",
        ] {
            assert_eq!(read(kind, text), None, "{text}");
        }
    }

    #[test]
    fn seconds_have_units() {
        let kind = Kind::Seconds {
            min: 1,
            max: 86_400,
        };
        for (text, number) in [
            ("1", 1),
            ("1 second", 1),
            ("90 SECONDS", 90),
            ("5 minutes", 300),
            ("24 hours", 86_400),
            ("1 day", 86_400),
        ] {
            assert_eq!(read(kind, text), Some(Value::Number(number)), "{text}");
        }
        for text in ["0", "86401", "2 days", "1 fortnight", "0.5 hours", "5 m"] {
            assert_eq!(read(kind, text), None, "{text}");
        }
    }

    #[test]
    fn booleans_are_0_or_1() {
        assert_eq!(read(Kind::Boolean, "0"), Some(Value::Boolean(false)));
        assert_eq!(read(Kind::Boolean, "1"), Some(Value::Boolean(true)));
        for text in ["", "2", "yes", "true", "01"] {
            assert_eq!(read(Kind::Boolean, text), None, "{text}");
        }
    }

    #[test]
    fn severities_are_those_of_tor() {
        for (text, level) in SEVERITIES {
            let value = read(Kind::Severity, &text.to_uppercase()).unwrap();
            assert_eq!(value, Value::Severity(level));
            assert_eq!(value.to_octets(), text.as_bytes());
        }
        assert_eq!(read(Kind::Severity, "warning"), None);
    }

    #[test]
    fn paths_are_absolute_and_clean() {
        assert_eq!(
            read(Kind::Path, "/var/lib/a b"),
            Some(Value::Path("/var/lib/a b".into()))
        );
        for text in ["", "var", "./x", "~/x", "/a\nb", "/a\0"] {
            assert_eq!(read(Kind::Path, text), None, "{text}");
        }
        let octets = b"/not/utf8/\xff";
        assert_eq!(Kind::Path.parse(octets).unwrap().to_octets(), octets);
    }

    #[test]
    fn what_is_written_reads_back() {
        let octets = Kind::Octets {
            min: 0,
            max: u64::MAX,
        };
        for (kind, text) in [
            (Kind::Boolean, "1"),
            (octets, "16 MB"),
            (Kind::Path, "/x"),
            (Kind::Severity, "Err"),
            (Kind::Sockets, "/x mode=666"),
        ] {
            let value = read(kind, text).unwrap();
            assert_eq!(kind.parse(&value.to_octets()), Ok(value));
        }
    }
}
