//! The words that can stand where the cursor is.

use std::collections::HashMap;

use onionbus::command::Verb;
use onionbus::wire::message::ALL;

use super::lines::verb;
use crate::cli::args::Bus;
use crate::cli::names::Kind;

/// The names that were asked for. They stay what they are, but for those of controllers.
pub struct Words<'a> {
    bus: &'a Bus,
    known: HashMap<Kind, Vec<String>>,
}

impl<'a> Words<'a> {
    pub fn new(bus: &'a Bus) -> Self {
        let known = HashMap::new();
        Self { bus, known }
    }

    /// The words that complete the last one of `before`, in their order.
    pub fn complete(&mut self, before: &str) -> Vec<String> {
        let (before, word) = split(before);
        let begins = |name: &String| {
            let begin = name.as_bytes().get(..word.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()))
        };
        let mut words: Vec<_> = self.behind(before).into_iter().filter(begins).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// The words that may stand behind `before`, which is empty or ends with a blank.
    fn behind(&mut self, before: &str) -> Vec<String> {
        let mut behind = before.split_ascii_whitespace();
        if behind.next().is_none() {
            return self.names(Kind::Commands);
        }
        let is_first = behind.next().is_none();
        match verb(before.as_bytes()) {
            Some(Verb::GetInfo) => {
                let keys = self.names(Kind::Keys).into_iter();
                // In place of a star stands what only the user knows.
                let keys = keys.map(|key| key.trim_end_matches('*').to_owned());
                keys.collect()
            }
            Some(Verb::GetConf | Verb::ResetConf) => self.names(Kind::Options),
            Some(Verb::SetConf) => {
                let options = self.names(Kind::Options).into_iter();
                options.map(|option| option + "=").collect()
            }
            Some(Verb::SetEvents) => self.names(Kind::Events),
            Some(Verb::Signal) if is_first => self.names(Kind::Signals),
            Some(Verb::PostMessage) if is_first => {
                let names = self.names(Kind::Controllers).into_iter();
                let names = names.chain([ALL.to_owned()]);
                names.map(|name| format!("@{name}")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The names of a kind.
    pub fn names(&mut self, kind: Kind) -> Vec<String> {
        if let Some(known) = self.known.get(&kind) {
            return known.clone();
        }
        let names = kind.fetch(self.bus);
        // Where none came, the daemon may have had no time.
        if kind != Kind::Controllers && !names.is_empty() {
            self.known.insert(kind, names.clone());
        }
        names
    }
}

/// A text and its last word, which is empty behind a blank.
pub fn split(text: &str) -> (&str, &str) {
    let start = text.rfind(' ').map_or(0, |blank| blank + 1);
    text.split_at(start)
}

/// The longest beginning of all words.
pub fn common(words: &[String]) -> &str {
    let Some((first, rest)) = words.split_first() else {
        return "";
    };
    let same = |word: &String| {
        let pairs = first.bytes().zip(word.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let length = rest.iter().map(same).min().unwrap_or(first.len());
    // Names are ASCII, and anything else that begins alike is not completed.
    first.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn words_are_completed_by_their_places() {
        // Nobody listens there: what is not known yet stays unknown.
        let bus = Bus {
            socket: Some(PathBuf::from("/nonexistent/control")),
            name: None,
        };
        let mut words = Words::new(&bus);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        words
            .known
            .insert(Kind::Keys, names(&["ns/id/*", "version"]));
        words
            .known
            .insert(Kind::Options, names(&["BusHistory", "BusLog", "ORPort"]));
        words.known.insert(Kind::Events, names(&["BW", "CIRC"]));
        words.known.insert(Kind::Signals, names(&["NEWNYM"]));
        words.known.insert(Kind::Controllers, names(&["alice"]));
        for (before, expected) in [
            ("getc", &["GETCONF"][..]),
            ("GETINFO v", &["version"]),
            ("GETINFO version NS/", &["ns/id/"]),
            ("GETCONF bus", &["BusHistory", "BusLog"]),
            ("SETCONF BusLog=x o", &["ORPort="]),
            ("SETCONF BusLog=", &["BusLog="]),
            ("SETEVENTS BW c", &["CIRC"]),
            ("SIGNAL ", &["NEWNYM"]),
            ("SIGNAL NEWNYM ", &[]),
            ("postmessage @", &["@alice", "@all"]),
            ("POSTMESSAGE @all ", &[]),
            ("QUIT ", &[]),
            ("NO ", &[]),
        ] {
            assert_eq!(words.complete(before), expected, "{before:?}");
        }
    }

    #[test]
    fn the_common_beginning_is_the_longest() {
        let common_of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            common(&words).to_owned()
        };
        assert_eq!(common_of(&["BusHistory", "BusLog"]), "Bus");
        assert_eq!(common_of(&["BusLog"]), "BusLog");
        assert_eq!(common_of(&["a", "b"]), "");
        assert_eq!(common_of(&["\u{fc}", "\u{fd}"]), "");
        assert_eq!(common_of(&[]), "");
    }
}
