//! Octets of a terminal to the keys that were pressed.

/// A key, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    KillToEnd,
    KillToStart,
    KillWord,
    ClearScreen,
    /// Ctrl-C.
    Cancel,
    /// Ctrl-D.
    EndOfInput,
    /// Ctrl-Z.
    Suspend,
}

/// The most octets of one key: more belong to none.
const MOST: usize = 32;

const ESCAPE: u8 = 0x1b;

/// Octets go in as they come, and whole keys come out.
#[derive(Debug, Default)]
pub struct Keys {
    octets: Vec<u8>,
}

impl Keys {
    /// Takes the octets that have come next.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// The next key. What means nothing here is passed over.
    pub fn poll_key(&mut self) -> Option<Key> {
        loop {
            let length = length(&self.octets)?;
            let octets: Vec<u8> = self.octets.drain(..length).collect();
            if let Some(key) = key(&octets) {
                return Some(key);
            }
        }
    }
}

/// The number of octets of the first key; none while it is not whole.
fn length(octets: &[u8]) -> Option<usize> {
    let (&first, rest) = octets.split_first()?;
    match (first, rest) {
        (ESCAPE, [] | [b'O']) => None,
        (ESCAPE, [b'[', parameters @ ..]) => {
            let is_final = |octet: &u8| matches!(octet, b'@'..=b'~');
            match parameters.iter().position(is_final) {
                Some(end) => Some(end + 3),
                None => (octets.len() > MOST).then_some(octets.len()),
            }
        }
        (ESCAPE, [b'O', _, ..]) => Some(3),
        (ESCAPE, _) => Some(2),
        (..0x80, _) => Some(1),
        _ => {
            let start = octets.get(..4).unwrap_or(octets);
            let chunk = start.utf8_chunks().next()?;
            match chunk.valid().chars().next() {
                Some(character) => Some(character.len_utf8()),
                // Four octets that are none are not about to become one.
                None if chunk.invalid().len() == octets.len() && octets.len() < 4 => None,
                None => Some(chunk.invalid().len()),
            }
        }
    }
}

fn key(octets: &[u8]) -> Option<Key> {
    Some(match octets {
        b"\r" | b"\n" => Key::Enter,
        b"\t" => Key::Tab,
        b"\x08" | b"\x7f" => Key::Backspace,
        b"\x01" | b"\x1b[H" | b"\x1bOH" | b"\x1b[1~" | b"\x1b[7~" => Key::Home,
        b"\x05" | b"\x1b[F" | b"\x1bOF" | b"\x1b[4~" | b"\x1b[8~" => Key::End,
        b"\x02" | b"\x1b[D" | b"\x1bOD" => Key::Left,
        b"\x06" | b"\x1b[C" | b"\x1bOC" => Key::Right,
        b"\x10" | b"\x1b[A" | b"\x1bOA" => Key::Up,
        b"\x0e" | b"\x1b[B" | b"\x1bOB" => Key::Down,
        b"\x1bb" | b"\x1b[1;5D" | b"\x1b[1;3D" => Key::WordLeft,
        b"\x1bf" | b"\x1b[1;5C" | b"\x1b[1;3C" => Key::WordRight,
        b"\x1b[3~" => Key::Delete,
        b"\x0b" => Key::KillToEnd,
        b"\x15" => Key::KillToStart,
        b"\x17" | b"\x1b\x7f" => Key::KillWord,
        b"\x0c" => Key::ClearScreen,
        b"\x03" => Key::Cancel,
        b"\x04" => Key::EndOfInput,
        b"\x1a" => Key::Suspend,
        _ => {
            let character = str::from_utf8(octets).ok()?.chars().next()?;
            return (!character.is_control()).then_some(Key::Char(character));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_however_they_are_cut() {
        let octets =
            "a\u{fc}\u{4e2d}\u{1f9c5}\x1b[A\x1bOB\x1b[1;5D\x1b[3~\x1bx\x01\x07\r".as_bytes();
        let octets = [octets, b"\xff\xe4\x03\x1b[9;9;9zz\x7f"].concat();
        let expected = [
            Key::Char('a'),
            Key::Char('\u{fc}'),
            Key::Char('\u{4e2d}'),
            Key::Char('\u{1f9c5}'),
            Key::Up,
            Key::Down,
            Key::WordLeft,
            Key::Delete,
            Key::Home,
            Key::Enter,
            Key::Cancel,
            Key::Char('z'),
            Key::Backspace,
        ];
        for size in 1..=octets.len() {
            let mut keys = Keys::default();
            let mut found = Vec::new();
            for part in octets.chunks(size) {
                keys.handle_octets(part);
                found.extend(std::iter::from_fn(|| keys.poll_key()));
            }
            assert_eq!(found, expected, "cut in {size}");
        }
    }

    #[test]
    fn what_never_ends_is_no_key() {
        let mut keys = Keys::default();
        keys.handle_octets(&[b"\x1b[".to_vec(), vec![b'1'; MOST]].concat());
        assert_eq!(keys.poll_key(), None);
        keys.handle_octets(b"a");
        assert_eq!(keys.poll_key(), Some(Key::Char('a')));
    }
}
