//! Words that a name is compared with.

use std::collections::BTreeSet;

/// Whether `text` is what `pattern` says, where a `*` stands for any octets, or for any but
/// `/` where `within` a directory.
pub fn is_match(pattern: &[u8], text: &[u8], within: bool) -> bool {
    // The place behind the last `*`, and the octet that the rest is tried from next.
    let mut retry = None;
    let (mut at, mut from) = (0, 0);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, from));
            }
            Some(octet) if *octet == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match retry {
                Some((star, begun)) if !(within && text[begun] == b'/') => {
                    at = star;
                    from = begun + 1;
                    retry = Some((star, from));
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|octet| *octet == b'*')
}

/// A set of names, some by how they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    pub all: bool,
    pub exact: BTreeSet<Vec<u8>>,
    pub prefixes: BTreeSet<Vec<u8>>,
}

impl Patterns {
    /// Puts in a word; a `*` at its end stands for anything.
    pub fn insert(&mut self, word: &[u8]) {
        match word.strip_suffix(b"*") {
            Some(b"") => self.all = true,
            Some(prefix) => {
                self.prefixes.insert(prefix.to_vec());
            }
            None => {
                self.exact.insert(word.to_vec());
            }
        }
    }

    pub fn covers(&self, name: &[u8]) -> bool {
        self.all
            || self.exact.contains(name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    pub fn is_empty(&self) -> bool {
        !self.all && self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// The words, as they are written.
    pub fn words(&self) -> impl Iterator<Item = Vec<u8>> {
        let all = self.all.then(|| b"*".to_vec());
        let prefixes = self
            .prefixes
            .iter()
            .map(|prefix| [prefix, &b"*"[..]].concat());
        all.into_iter()
            .chain(prefixes)
            .chain(self.exact.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_octets() {
        for (pattern, text, expected) in [
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*b*", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("**", "x", true),
        ] {
            let found = is_match(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(found, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn within_a_directory_a_star_is_no_slash() {
        assert!(is_match(b"/run/*/s", b"/run/a/s", true));
        assert!(!is_match(b"/run/*/s", b"/run/a/b/s", true));
        assert!(!is_match(b"/run/*", b"/run/a/b", true));
        assert!(is_match(b"/run/*", b"/run/a/b", false));
    }
}
