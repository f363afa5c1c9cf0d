//! The places for controllers: how many there are, and for whom some of them are kept.

use std::collections::{BTreeMap, HashMap};

use crate::bus::SessionId;

/// The most places that only root and the daemon's own user get, so that no others can keep them
/// out.
const RESERVED: usize = 32;

/// The most places of those who came to a port and have not logged in. All who come to a port are
/// one user, so that strangers must not keep those out who know a secret.
const STRANGERS: usize = 1024;

/// Descriptors the daemon needs besides those of controllers.
pub(super) const OWN_DESCRIPTORS: u64 = 64;

/// The most controllers that the options allow.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// `BusMaxControllers`.
    pub(super) controllers: usize,
    /// `BusMaxControllersPerUser`.
    pub(super) of_user: usize,
}

/// The controllers that are connected, by user.
pub(super) struct Places {
    /// The connections that descriptors allow for.
    fit: usize,
    /// The daemon's own user.
    own: u32,
    present: usize,
    of_user: HashMap<u32, usize>,
    /// The keys of those who came to a port and have not logged in.
    strangers: BTreeMap<SessionId, usize>,
}

impl Places {
    /// No controllers yet, of a daemon of the user `own` that may have `descriptors` open, `each`
    /// for a controller.
    pub(super) fn new(own: u32, descriptors: u64, each: u64) -> Self {
        let needed = OWN_DESCRIPTORS.min(descriptors / 2);
        Self {
            fit: usize::try_from((descriptors - needed) / each).unwrap_or(usize::MAX),
            own,
            present: 0,
            of_user: HashMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    /// The connections that descriptors allow for.
    pub(super) const fn fit(&self) -> usize {
        self.fit
    }

    /// The number of controllers.
    pub(super) const fn present(&self) -> usize {
        self.present
    }

    /// Why there is no place for one more controller of a user, if there is none. `left` of the
    /// connections belong to controllers that have left.
    pub(super) fn refusal(&self, uid: u32, left: usize, most: Most) -> Option<&'static str> {
        let is_trusted = uid == 0 || uid == self.own;
        let of_user = self.of_user.get(&uid).copied().unwrap_or_default();
        let (common, share) = if is_trusted {
            (most.controllers, most.of_user)
        } else {
            let kept = reserved(most.controllers);
            (most.controllers - kept, self.share(most))
        };
        let is_short = !is_trusted && self.present + left >= self.fit - reserved(self.fit);
        if self.present >= common {
            Some("BusMaxControllers")
        } else if of_user >= share {
            Some("BusMaxControllersPerUser")
        } else if is_short {
            Some("the limit of descriptors")
        } else {
            None
        }
    }

    /// Somebody came to a port, and must log in.
    pub(super) fn note_stranger(&mut self, session: SessionId, key: usize) {
        self.strangers.insert(session, key);
    }

    /// It has logged in or ends.
    pub(super) fn forget_stranger(&mut self, session: SessionId) {
        self.strangers.remove(&session);
    }

    /// Who came to a port first of those who have not logged in, where there is no room for one
    /// more: a quarter of the places of one user is theirs.
    pub(super) fn take_oldest_stranger(&mut self, most: Most) -> Option<usize> {
        let is_full = self.strangers.len() >= STRANGERS.min(self.share(most) / 4).max(1);
        let oldest = is_full.then(|| self.strangers.pop_first()).flatten();
        oldest.map(|(_, key)| key)
    }

    /// The most places of a user who has none of those that are kept: as much of the places that
    /// there are as `BusMaxControllersPerUser` is of those that there may be.
    fn share(&self, most: Most) -> usize {
        let places = most.controllers.min(self.fit);
        let share = most.of_user.saturating_mul(places) / most.controllers.max(1);
        share.max(1)
    }

    /// A controller of a user is there.
    pub(super) fn take(&mut self, uid: u32) {
        self.present += 1;
        *self.of_user.entry(uid).or_default() += 1;
    }

    /// A controller of a user has left.
    pub(super) fn leave(&mut self, uid: u32) {
        if let Some(count) = self.of_user.get_mut(&uid) {
            self.present -= 1;
            *count -= 1;
            if *count == 0 {
                self.of_user.remove(&uid);
            }
        }
    }
}

/// The number of places that are kept, a quarter at most.
const fn reserved(places: usize) -> usize {
    if places < 4 * RESERVED {
        places / 4
    } else {
        RESERVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 500;

    const fn most(controllers: usize, of_user: usize) -> Most {
        Most {
            controllers,
            of_user,
        }
    }

    /// Lets a user have as many as there are places for; the number, and why there are no more.
    fn fill(places: &mut Places, uid: u32, most: Most) -> (usize, &'static str) {
        let mut count = 0;
        loop {
            match places.refusal(uid, 0, most) {
                Some(reason) => return (count, reason),
                None => places.take(uid),
            }
            count += 1;
        }
    }

    #[test]
    fn two_users_cannot_keep_root_and_the_daemons_user_out() {
        let most = most(1000, 750);
        let mut places = Places::new(OWN, 10_000, 1);
        let per_user = "BusMaxControllersPerUser";
        assert_eq!(fill(&mut places, 1, most), (750, per_user));
        assert_eq!(fill(&mut places, 2, most), (218, "BusMaxControllers"));
        assert_eq!(places.refusal(OWN, 0, most), None);
        assert_eq!(fill(&mut places, 0, most), (32, "BusMaxControllers"));
        places.leave(1);
        assert!(places.refusal(2, 0, most).is_some());
        assert_eq!(places.refusal(0, 0, most), None);
    }

    #[test]
    fn of_few_places_a_quarter_is_kept() {
        for (all, kept) in [(1, 0), (3, 0), (4, 1), (100, 25), (127, 31), (128, 32)] {
            let most = most(all, all);
            let mut places = Places::new(OWN, 10_000, 1);
            assert_eq!(fill(&mut places, 1, most).0, all - kept, "{all}");
            assert_eq!(fill(&mut places, OWN, most).0, kept, "{all}");
        }
    }

    #[test]
    fn where_descriptors_are_few_the_places_are() {
        let most = most(16_384, 12_288);
        let mut places = Places::new(OWN, 1024, 2);
        assert_eq!(places.fit(), 480);
        let per_user = "BusMaxControllersPerUser";
        assert_eq!(fill(&mut places, 1, most), (360, per_user));
        let short = "the limit of descriptors";
        assert_eq!(fill(&mut places, 2, most), (88, short));
        assert_eq!(places.refusal(0, 0, most), None);
    }

    #[test]
    fn who_has_left_holds_descriptors_and_no_place() {
        let most = most(16_384, 12_288);
        let places = Places::new(OWN, 1024, 2);
        assert_eq!(places.refusal(1, 447, most), None);
        let short = Some("the limit of descriptors");
        assert_eq!(places.refusal(1, 448, most), short);
        assert_eq!(places.refusal(OWN, 448, most), None);
    }

    #[test]
    fn strangers_have_a_quarter_of_the_places_of_a_user_and_the_oldest_goes() {
        for (all, of_user, room) in [(100, 40, 10), (100, 3, 1), (16_384, 12_288, STRANGERS)] {
            let most = most(all, of_user);
            let mut places = Places::new(OWN, 100_000, 1);
            for key in 0..room {
                assert_eq!(places.take_oldest_stranger(most), None, "{all}");
                places.note_stranger(key as SessionId + 7, key);
            }
            assert_eq!(places.take_oldest_stranger(most), Some(0), "{all}");
            assert_eq!(places.take_oldest_stranger(most), None, "{all}");
            places.note_stranger(1 << 32, room);
            places.forget_stranger(1 << 32);
            assert_eq!(places.take_oldest_stranger(most), None, "{all}");
        }
        let places = Places::new(OWN, 1024, 2);
        assert_eq!(places.share(most(16_384, 12_288)), 360);
    }

    #[test]
    fn a_handful_of_descriptors_is_halved() {
        assert_eq!(Places::new(OWN, 40, 1).fit(), 20);
        assert_eq!(Places::new(OWN, 0, 2).fit(), 0);
    }
}
