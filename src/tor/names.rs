//! Names of Tor's events that the bus has no name for: a newer Tor's.

use crate::wire::event::{EventKind, EventMask};

/// The most octets of a name; Tor's have up to 18.
const LONGEST: usize = 64;

/// Gives each name a place among the kinds, for as long as somebody wants its events.
#[derive(Debug, Default)]
pub struct Names([Option<Box<[u8]>>; EventKind::OTHERS as usize]);

impl Names {
    /// The kind of a name, in any letter case. A new name takes a place that none of `wanted` has;
    /// none is left if controllers want [`EventKind::OTHERS`] others.
    pub fn kind(&mut self, name: &[u8], wanted: EventMask) -> Option<EventKind> {
        if let Some(known) = self.find(name) {
            return Some(known);
        }
        let free = |kind: &EventKind| !wanted.contains(*kind);
        let kind = kinds().find(free).filter(|_| name.len() <= LONGEST)?;
        let place = kinds().position(|other| other == kind)?;
        *self.0.get_mut(place)? = Some(name.to_ascii_uppercase().into());
        Some(kind)
    }

    /// The kind of a name that has one.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<EventKind> {
        let known = |place: &Option<Box<[u8]>>| {
            place
                .as_ref()
                .is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        kinds()
            .zip(&self.0)
            .find_map(|(kind, place)| known(place).then_some(kind))
    }

    /// The name of a kind, as SETEVENTS takes it.
    #[must_use]
    pub fn name(&self, kind: EventKind) -> &[u8] {
        match kind.name() {
            Some(name) => name.as_bytes(),
            None => kinds()
                .zip(&self.0)
                .find(|(other, _)| *other == kind)
                .and_then(|(_, name)| name.as_deref())
                .unwrap_or_default(),
        }
    }
}

fn kinds() -> impl Iterator<Item = EventKind> {
    (0..EventKind::OTHERS).map(EventKind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_while_it_is_wanted() {
        let mut names = Names::default();
        let first = names.kind(b"newer", EventMask::NONE).unwrap();
        let wanted = [first].into_iter().collect();
        assert_eq!(names.kind(b"NEWER", wanted), Some(first));
        let second = names.kind(b"OTHER", wanted).unwrap();
        assert_ne!(second, first);
        assert_eq!(
            (names.name(first), names.find(b"Other")),
            (&b"NEWER"[..], Some(second))
        );
        let again = names.kind(b"THIRD", EventMask::NONE).unwrap();
        assert_eq!((again, names.find(b"NEWER")), (first, None));
        let all = kinds().collect();
        assert_eq!(names.kind(b"FOURTH", all), None);
        assert_eq!(names.kind(&[b'x'; 65], EventMask::NONE), None);
        assert_eq!(names.name(EventKind::Circ), b"CIRC");
    }
}
