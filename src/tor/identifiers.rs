//! Identifiers of circuits and streams: words of Tor's, four octets in the binary dialects.

use std::collections::{HashMap, VecDeque};

/// So many identifiers that do not fit four octets are remembered; then the oldest is forgotten.
const MOST: usize = 16 * 1024;

/// How many numbers there are for those. Tor counts upwards, so its own are seldom among them.
const NUMBERS: u32 = 1 << 20;

/// The first of those numbers: far from where Tor's begin, and from where they stop to fit.
const FIRST: u32 = 1 << 31;

/// Gives each identifier a number, and finds it again. One that is a number of four octets stands
/// for itself; Tor's all are, until it has seen 2^32 streams.
#[derive(Debug, Default)]
pub struct Identifiers {
    numbers: HashMap<Vec<u8>, u32>,
    names: HashMap<u32, Vec<u8>>,
    /// The numbers that are given, the oldest first.
    given: VecDeque<u32>,
    /// Where the next number is looked for, counted from the first.
    next: u32,
}

impl Identifiers {
    /// The number of the identifier in an event, `650 KEYWORD Identifier ...`.
    pub fn number_in(&mut self, event: &[u8]) -> u32 {
        let mut words = event.split(u8::is_ascii_whitespace);
        self.number(words.nth(2).unwrap_or_default())
    }

    /// The number that stands for an identifier.
    pub fn number(&mut self, identifier: &[u8]) -> u32 {
        let itself = itself(identifier);
        if let Some(number) = itself
            && !(FIRST..FIRST + NUMBERS).contains(&number)
        {
            return number;
        }
        if let Some(&number) = self.numbers.get(identifier) {
            return number;
        }
        // One of Tor's own among the numbers that are given here takes its own, if that is free.
        let number = match itself {
            Some(number) if !self.names.contains_key(&number) => number,
            _ => self.unused(),
        };
        if self.given.len() >= MOST
            && let Some(oldest) = self.given.pop_front()
            && let Some(name) = self.names.remove(&oldest)
        {
            self.numbers.remove(&name);
        }
        self.numbers.insert(identifier.to_vec(), number);
        self.names.insert(number, identifier.to_vec());
        self.given.push_back(number);
        number
    }

    /// A number that is not given. There are more of them than are remembered.
    fn unused(&mut self) -> u32 {
        loop {
            let number = FIRST + self.next;
            self.next = (self.next + 1) % NUMBERS;
            if !self.names.contains_key(&number) {
                return number;
            }
        }
    }

    /// The identifier that a number stands for.
    #[must_use]
    pub fn name(&self, number: u32) -> Vec<u8> {
        match self.names.get(&number) {
            Some(name) => name.clone(),
            None => number.to_string().into_bytes(),
        }
    }
}

/// The number that an identifier is, if it is written as one of four octets is.
fn itself(identifier: &[u8]) -> Option<u32> {
    let number: u32 = std::str::from_utf8(identifier).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == identifier).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_four_octets_stands_for_itself() {
        let mut identifiers = Identifiers::default();
        for number in [0, 7, FIRST - 1, FIRST, FIRST + NUMBERS, u32::MAX] {
            let name = number.to_string().into_bytes();
            assert_eq!(identifiers.number(&name), number);
            assert_eq!(identifiers.name(number), name);
        }
        assert_eq!(identifiers.number_in(b"650 CIRC 12 BUILT\r\n"), 12);
        assert_eq!(identifiers.number_in(b"650 STREAM 13\r\n"), 13);
    }

    #[test]
    fn what_does_not_fit_has_a_number_of_its_own() {
        let mut identifiers = Identifiers::default();
        let own = FIRST + 2;
        identifiers.number(own.to_string().as_bytes());
        let names = ["4294967296", "18446744073709551615", "A1", "007", "+5", ""];
        let numbers = names.map(|name| identifiers.number(name.as_bytes()));
        assert!(!numbers.contains(&own));
        for (name, number) in names.iter().zip(numbers) {
            assert_eq!(identifiers.name(number), name.as_bytes());
            assert_eq!(identifiers.number(name.as_bytes()), number);
            // Tor's own use of a number that is given goes another way.
            let taken = number.to_string().into_bytes();
            let other = identifiers.number(&taken);
            assert_ne!(other, number);
            assert_eq!(identifiers.name(other), taken);
        }
        assert_eq!(identifiers.name(own), own.to_string().as_bytes());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut identifiers = Identifiers::default();
        for number in 0..MOST as u64 + 10 {
            identifiers.number((number + (1 << 40)).to_string().as_bytes());
        }
        assert_eq!(identifiers.names.len(), MOST);
        assert_eq!(identifiers.numbers.len(), MOST);
        assert_eq!(identifiers.given.len(), MOST);
        assert_eq!(identifiers.name(FIRST), FIRST.to_string().as_bytes());
        let last = (MOST as u64 + 9 + (1 << 40)).to_string().into_bytes();
        let number = identifiers.number(&last);
        assert_eq!(identifiers.name(number), last);
    }
}
