//! The ledger: of each target, up to which `MessageID` its messages are handed on. It decides what
//! goes out, each message once, whichever connection or history it is read from.

use std::collections::{BTreeMap, BTreeSet};

use onionbus::wire::ControllerId;
use serde::{Deserialize, Serialize};

use crate::names;
use crate::parcel::{Parcel, Run, Target};
use crate::position::End;

/// What a restart needs: of each target, the `MessageID` up to which all is done with, and what of
/// those behind it has gone on its way. Targets are written as their [key](Target::key).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// The run of the bus whose `MessageID`s these are.
    pub run: String,
    /// Up to here all is in the stream, or dropped.
    pub after: BTreeMap<String, u64>,
    /// These may be in the stream, behind the end that it had before.
    pub begun: BTreeMap<String, BTreeMap<u64, End>>,
    /// These are in the stream, or dropped, and one before them is not.
    pub settled: BTreeMap<String, BTreeSet<u64>>,
}

/// A change of the marks, small enough to be written down for every message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A message is about to be published.
    Begin(String, u64, End),
    /// It is in the stream, or dropped.
    Settle(String, u64),
}

impl Marks {
    /// Makes the change.
    pub fn apply(&mut self, note: Note) {
        match note {
            Note::Begin(target, id, end) => {
                self.begun.entry(target).or_default().insert(id, end);
            }
            Note::Settle(target, id) => self.settle(&target, id),
        }
    }

    /// A message is in the stream, or dropped.
    pub fn settle(&mut self, target: &str, id: u64) {
        if let Some(begun) = self.begun.get_mut(target) {
            begun.remove(&id);
        }
        self.settled.entry(target.into()).or_default().insert(id);
    }

    /// Of each message that may be in the stream, its target and `MessageID`, and the end of the
    /// stream behind which it lies.
    pub fn begun(&self) -> impl Iterator<Item = (&str, u64, End)> {
        self.begun.iter().flat_map(|(target, begun)| {
            let after = self.after.get(target).copied().unwrap_or(u64::MAX);
            let settled = self.settled.get(target);
            begun
                .iter()
                .filter(move |(id, _)| **id > after && settled.is_none_or(|ids| !ids.contains(*id)))
                .map(move |(&id, &end)| (&target[..], id, end))
        })
    }
}

/// A message as the bus tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its `MessageID`.
    pub id: u64,
    /// Its sender; `None` is `unset`.
    pub source: Option<ControllerId>,
    /// Whether it is to `@all`; otherwise it is to the name of the connection that hears it.
    pub to_all: bool,
    /// Its text.
    pub text: Vec<u8>,
}

/// Up to where the messages of each target are heard, and in the stream.
#[derive(Debug)]
pub struct Ledger {
    run: Run,
    targets: BTreeMap<Target, Mark>,
    /// The highest `MessageID` of the run that was heard of.
    newest: u64,
    /// The highest of the run before, where one is known.
    floor: u64,
}

#[derive(Debug, Default)]
struct Mark {
    heard: u64,
    /// What was heard and is not known to be in the stream, and where it lies if it is.
    pending: BTreeMap<u64, Option<End>>,
    /// What is done with before one that is pending, or that is still to be heard.
    settled: BTreeSet<u64>,
    closed: bool,
}

impl Mark {
    /// Up to here all is done with.
    fn after(&self) -> u64 {
        let first = self.pending.first_key_value();
        first.map_or(self.heard, |(id, _)| id.saturating_sub(1))
    }

    fn settle(&mut self, id: u64) {
        self.pending.remove(&id);
        self.settled.insert(id);
        let after = self.after();
        self.settled.retain(|&id| id > after);
    }
}

impl Ledger {
    /// The ledger of a bus of this run, and what `marks` say of the time before.
    #[must_use]
    pub fn new(run: Run, marks: &Marks) -> Self {
        let same = marks.run == run.as_str();
        let targets = marks.after.iter().filter_map(|(key, &after)| {
            let mut mark = Mark::default();
            if same {
                mark.heard = after;
                mark.settled = marks.settled.get(key).cloned().unwrap_or_default();
                mark.settled.retain(|&id| id > after);
            }
            Some((Target::of_key(key)?, mark))
        });
        let targets: BTreeMap<_, _> = targets.collect();
        let newest = targets.values().map(|mark| mark.heard).max().unwrap_or(0);
        let floor = if same {
            None
        } else {
            marks.after.values().max()
        };
        Self {
            run,
            targets,
            newest,
            floor: floor.copied().unwrap_or(0),
        }
    }

    /// The bus has started again, so its history is new and all in it: nothing of it was heard.
    pub fn begin_run(&mut self, run: Run) {
        self.run = run;
        self.floor = std::mem::take(&mut self.newest).max(self.floor);
        self.targets.retain(|_, mark| !mark.closed);
        for mark in self.targets.values_mut() {
            *mark = Mark::default();
        }
    }

    /// The run of the bus.
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// Opens a target. Where it was open before the `MessageID` is returned after which its
    /// messages are to be sought in the history; otherwise only what comes from now on is new.
    pub fn open(&mut self, target: &Target) -> Option<u64> {
        if let Some(mark) = self.targets.get_mut(target) {
            let after = (!mark.closed).then_some(mark.heard);
            if mark.closed {
                mark.heard = self.newest;
                mark.closed = false;
            }
            return after;
        }
        let heard = self.newest;
        let mark = Mark {
            heard,
            ..Mark::default()
        };
        self.targets.insert(target.clone(), mark);
        None
    }

    /// No message comes for this target any more: its connection has ended and was read to the end.
    pub fn close(&mut self, target: &Target) {
        if let Some(mark) = self.targets.get_mut(target) {
            mark.closed = true;
            self.forget(target);
        }
    }

    /// A message that the connection of `target` has heard: what is to be published of it.
    ///
    /// A message to `@all` is heard on every connection, and counts on that of [`Target::All`].
    pub fn hear(&mut self, target: &Target, posted: Posted, host: &names::Host) -> Option<Parcel> {
        self.newest = self.newest.max(posted.id);
        let mark = self.targets.get_mut(target)?;
        if posted.id <= mark.heard {
            return None;
        }
        mark.heard = posted.id;
        let is_ours = posted.to_all == (*target == Target::All);
        let came_over = |name: &ControllerId| !names::is_shared(name);
        let is_known = mark.settled.contains(&posted.id);
        if is_known || !is_ours || posted.source.as_ref().is_some_and(came_over) {
            return None;
        }
        mark.pending.insert(posted.id, None);
        Some(Parcel {
            from: host.clone(),
            source: posted.source,
            run: self.run.clone(),
            id: posted.id,
            to: target.clone(),
            text: posted.text,
        })
    }

    /// Behind which `MessageID` messages of this run may have been posted that a connection has not
    /// heard, which has heard all up to `after` and whose newest is `mark`.
    ///
    /// A bus goes on with the `MessageID`s of its last run, whose messages are gone with it. It
    /// begins anew only where it has lost its state.
    pub fn unheard(&self, after: u64, mark: u64) -> u64 {
        if mark > self.floor {
            after.max(self.floor)
        } else {
            after
        }
    }

    /// What was posted to a target up to this `MessageID` is missed, and counted.
    pub fn skip(&mut self, target: &Target, id: u64) {
        if let Some(mark) = self.targets.get_mut(target) {
            mark.heard = mark.heard.max(id);
        }
    }

    /// A parcel is about to be published, where the stream has this end: what is to be written
    /// down before.
    pub fn begin(&mut self, parcel: &Parcel, end: End) -> Option<Note> {
        if parcel.run != self.run {
            return None;
        }
        let mark = self.targets.get_mut(&parcel.to)?;
        let begun = mark.pending.get_mut(&parcel.id)?;
        *begun = Some(end);
        Some(Note::Begin(parcel.to.key(), parcel.id, end))
    }

    /// A parcel is in the stream, or dropped: what is to be written down.
    pub fn settle(&mut self, parcel: &Parcel) -> Option<Note> {
        if parcel.run != self.run {
            return None;
        }
        let mark = self.targets.get_mut(&parcel.to)?;
        mark.settle(parcel.id);
        self.forget(&parcel.to);
        Some(Note::Settle(parcel.to.key(), parcel.id))
    }

    /// Parcels that wait for the stream.
    pub fn waiting(&self) -> usize {
        self.targets.values().map(|mark| mark.pending.len()).sum()
    }

    fn forget(&mut self, target: &Target) {
        let is_over = |mark: &Mark| mark.closed && mark.pending.is_empty();
        if self.targets.get(target).is_some_and(is_over) {
            self.targets.remove(target);
        }
    }

    /// What is to be known after a restart.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let mut marks = Marks {
            run: self.run.as_str().into(),
            ..Marks::default()
        };
        for (target, mark) in &self.targets {
            let key = target.key();
            let begun = mark
                .pending
                .iter()
                .filter_map(|(id, end)| Some((*id, (*end)?)));
            let begun: BTreeMap<_, _> = begun.collect();
            if !begun.is_empty() {
                marks.begun.insert(key.clone(), begun);
            }
            if !mark.settled.is_empty() {
                marks.settled.insert(key.clone(), mark.settled.clone());
            }
            marks.after.insert(key, mark.after());
        }
        marks
    }
}

/// The `MessageID`s of those that may have left the history before they were read, so that each
/// is counted once, whichever connections have missed it. Those between local controllers count
/// too: nobody else can see them.
#[derive(Debug, Default)]
pub struct Missed(Vec<(u64, u64)>);

impl Missed {
    /// Those behind `after` up to `last` were missed by one more: how many that is more.
    pub fn extend(&mut self, after: u64, last: u64) -> u64 {
        let before = self.count();
        let (mut low, mut high) = (after, last.max(after));
        self.0.retain(|&(after, last)| {
            let is_apart = last < low || high < after;
            if !is_apart {
                (low, high) = (low.min(after), high.max(last));
            }
            is_apart
        });
        self.0.push((low, high));
        self.count() - before
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(after, last)| last - after).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "8A7B4C2E11D09F5A";
    const NEXT_RUN: &str = "0123456789ABCDEF";

    fn run(digits: &str) -> Run {
        Run::parse(digits).unwrap()
    }

    fn ledger(after: &[(&str, u64)]) -> Ledger {
        let after = after.iter().map(|(key, id)| (key.to_string(), *id));
        let marks = Marks {
            run: RUN.into(),
            after: after.collect(),
            ..Marks::default()
        };
        Ledger::new(run(RUN), &marks)
    }

    fn alice() -> Target {
        Target::of_key("two.alice").unwrap()
    }

    fn hear(
        ledger: &mut Ledger,
        target: &Target,
        id: u64,
        source: &str,
        all: bool,
    ) -> Option<Parcel> {
        let posted = Posted {
            id,
            source: ControllerId::parse(source.as_bytes()),
            to_all: all,
            text: b"x".to_vec(),
        };
        ledger.hear(target, posted, &"own".parse().unwrap())
    }

    #[test]
    fn a_message_goes_out_once_whoever_hears_it() {
        let mut ledger = ledger(&[]);
        assert_eq!(ledger.open(&Target::All), None);
        assert_eq!(ledger.open(&alice()), None);
        assert!(hear(&mut ledger, &Target::All, 1, "bob", true).is_some());
        assert!(
            hear(&mut ledger, &alice(), 1, "bob", true).is_none(),
            "main has it"
        );
        assert!(hear(&mut ledger, &alice(), 2, "bob", false).is_some());
        assert!(
            hear(&mut ledger, &alice(), 2, "bob", false).is_none(),
            "again"
        );
        assert!(
            hear(&mut ledger, &Target::All, 3, "bob", false).is_none(),
            "a mark of the bridge"
        );
        assert!(
            hear(&mut ledger, &Target::All, 4, "", true).is_some(),
            "unset"
        );
    }

    #[test]
    fn what_came_over_nats_is_not_sent_back() {
        let mut ledger = ledger(&[]);
        ledger.open(&Target::All);
        ledger.open(&alice());
        for (id, source) in [
            (1, "carol_at_two"),
            (2, "unset_at_three"),
            (3, "x_at_y_at_z"),
        ] {
            assert_eq!(hear(&mut ledger, &Target::All, id, source, true), None);
            assert_eq!(hear(&mut ledger, &alice(), id, source, false), None);
        }
        assert_eq!(
            ledger.marks().after["all"],
            3,
            "they are heard all the same"
        );
    }

    #[test]
    fn a_mark_stays_before_what_is_not_in_the_stream() {
        let mut ledger = ledger(&[("all", 7), ("two.alice", 5)]);
        assert_eq!(ledger.open(&alice()), Some(5));
        let six = hear(&mut ledger, &alice(), 6, "bob", false).unwrap();
        let nine = hear(&mut ledger, &alice(), 9, "bob", false).unwrap();
        assert_eq!(ledger.marks().after["two.alice"], 5);
        ledger.settle(&six);
        assert_eq!(
            (ledger.marks().after["two.alice"], ledger.waiting()),
            (8, 1)
        );
        ledger.settle(&nine);
        assert_eq!(
            (ledger.marks().after["two.alice"], ledger.waiting()),
            (9, 0)
        );
        assert_eq!(
            Ledger::new(run(RUN), &ledger.marks()).marks(),
            ledger.marks()
        );
    }

    #[test]
    fn what_is_settled_out_of_order_is_not_sent_again_after_a_kill() {
        let end = End {
            stream: 1,
            last: 30,
        };
        let mut ledger = ledger(&[("all", 7), ("two.alice", 5)]);
        ledger.open(&alice());
        let mut killed = ledger.marks();
        let parcels: Vec<_> = (6..10)
            .map(|id| hear(&mut ledger, &alice(), id, "bob", false).unwrap())
            .collect();
        for parcel in &parcels[..3] {
            killed.apply(ledger.begin(parcel, end).unwrap());
        }
        killed.apply(ledger.settle(&parcels[0]).unwrap());
        killed.apply(ledger.settle(&parcels[2]).unwrap());
        let begun = |marks: &Marks| -> Vec<_> {
            let begun = marks.begun();
            begun
                .map(|(key, id, end)| (key.to_owned(), id, end))
                .collect()
        };
        assert_eq!(begun(&killed), [("two.alice".into(), 7, end)]);
        assert_eq!(begun(&ledger.marks()), begun(&killed));

        for marks in [killed, ledger.marks()] {
            let mut next = Ledger::new(run(RUN), &marks);
            next.open(&alice());
            let again = (6..11).filter(|&id| hear(&mut next, &alice(), id, "bob", false).is_some());
            assert_eq!(again.collect::<Vec<_>>(), [7, 9, 10]);
        }
    }

    #[test]
    fn a_controller_that_comes_again_gets_nothing_from_before() {
        let mut ledger = ledger(&[("all", 7)]);
        assert_eq!(ledger.open(&alice()), None);
        let ten = hear(&mut ledger, &alice(), 10, "bob", false).unwrap();
        ledger.close(&alice());
        assert_eq!(
            ledger.marks().after["two.alice"],
            9,
            "ten is not in the stream"
        );
        ledger.settle(&ten);
        assert!(!ledger.marks().after.contains_key("two.alice"));
        assert_eq!(ledger.open(&alice()), None);
        assert_eq!(hear(&mut ledger, &alice(), 10, "bob", false), None);
        assert!(hear(&mut ledger, &alice(), 11, "bob", false).is_some());
    }

    #[test]
    fn another_run_of_the_bus_has_nothing_that_was_heard() {
        let mut before = ledger(&[("all", 7)]);
        before.open(&Target::All);
        let late = hear(&mut before, &Target::All, 8, "bob", true).unwrap();
        before.begin_run(run(NEXT_RUN));
        assert_eq!(before.open(&Target::All), Some(0));
        assert!(
            hear(&mut before, &Target::All, 2, "bob", true).is_some(),
            "ids may begin anew"
        );
        before.settle(&late);
        assert_eq!(
            before.waiting(),
            1,
            "a parcel of another run is none of this one"
        );

        let mut after = Ledger::new(run(NEXT_RUN), &ledger(&[("all", 7)]).marks());
        assert_eq!(after.open(&Target::All), Some(0));
    }

    #[test]
    fn what_an_earlier_run_has_posted_is_not_missed_in_this_one() {
        let mut ledger = ledger(&[("all", 7)]);
        ledger.open(&Target::All);
        hear(&mut ledger, &Target::All, 5000, "bob", true);
        assert_eq!(ledger.unheard(4900, 5003), 4900, "the same run");
        let later = Ledger::new(run(NEXT_RUN), &ledger.marks());
        assert_eq!(later.unheard(0, 5300), 4999, "5000 is not in the stream");
        ledger.begin_run(run(NEXT_RUN));
        assert_eq!(ledger.unheard(0, 5300), 5000);
        assert_eq!(ledger.unheard(5200, 5300), 5200);
        assert_eq!(ledger.unheard(0, 12), 0, "it has begun anew");
    }

    #[test]
    fn what_several_have_missed_counts_once() {
        let mut missed = Missed::default();
        assert_eq!(missed.extend(10, 20), 10);
        assert_eq!(missed.extend(12, 20), 0);
        assert_eq!(missed.extend(5, 22), 7);
        assert_eq!(missed.extend(1000, 1010), 10, "not those between");
        assert_eq!(missed.extend(21, 1001), 978);
        assert_eq!(missed.extend(0, 1010), 5);
    }

    #[test]
    fn what_was_missed_is_not_sought_again() {
        let mut ledger = ledger(&[("all", 7)]);
        ledger.open(&Target::All);
        ledger.skip(&Target::All, 20);
        assert_eq!(ledger.marks().after["all"], 20);
        ledger.skip(&Target::All, 10);
        assert_eq!(ledger.marks().after["all"], 20);
    }
}
