//! The bound on lines of one kind: whoever can cause a line can cause a million.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::Level;

/// The most lines of one kind in one [`SPELL`].
pub const LINES: u32 = 10;

/// How long lines of a kind are counted together.
pub const SPELL: Duration = Duration::from_secs(1);

/// The most kinds that are known when no lines of them are counted.
const KINDS: usize = 1024;

/// The place in the source that a line comes from, and the user where each has a bound of its own.
pub type Kind = (Option<&'static str>, Option<u32>, Option<u32>);

/// How many lines of each kind there were.
#[derive(Debug, Default)]
pub struct Limit {
    kinds: HashMap<Kind, Counted>,
    /// The kinds of which lines were left out in a spell that is not told of yet.
    limited: usize,
}

#[derive(Debug)]
struct Counted {
    began: Instant,
    lines: u32,
    left_out: u64,
    level: Level,
    /// The text of the last line that was let through.
    last: String,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is told.
    Tell,
    /// It is told, and the last of its kind for now: its text is to be [kept](Limit::keep).
    Last,
    /// It is counted only, and is the first of its spell.
    FirstLeftOut,
    /// It is counted only.
    LeftOut,
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of them.
    pub count: u64,
    /// Their level.
    pub level: Level,
    /// The text of the last line of their kind that was told.
    pub like: String,
}

impl Limit {
    /// Judges a line of this kind.
    pub fn judge(&mut self, kind: Kind, level: Level, now: Instant) -> Verdict {
        if self.kinds.len() >= KINDS {
            self.kinds.retain(|_, one| {
                one.left_out > 0 || now.saturating_duration_since(one.began) < SPELL
            });
        }
        let counted = self.kinds.entry(kind).or_insert_with(|| Counted {
            began: now,
            lines: 0,
            left_out: 0,
            level,
            last: String::new(),
        });
        // A spell of which lines were left out ends when it is told of.
        if counted.left_out == 0 && now.saturating_duration_since(counted.began) >= SPELL {
            counted.began = now;
            counted.lines = 0;
        }
        counted.lines = counted.lines.saturating_add(1);
        if counted.lines > LINES {
            counted.left_out += 1;
            if counted.left_out > 1 {
                return Verdict::LeftOut;
            }
            self.limited += 1;
            return Verdict::FirstLeftOut;
        }
        if counted.lines == LINES {
            Verdict::Last
        } else {
            Verdict::Tell
        }
    }

    /// Keeps the text of a line that was the [last](Verdict::Last) of its kind.
    pub fn keep(&mut self, kind: Kind, text: String) {
        if let Some(counted) = self.kinds.get_mut(&kind) {
            counted.last = text;
        }
    }

    /// Whether lines were left out that nobody was told of.
    pub const fn is_limiting(&self) -> bool {
        self.limited > 0
    }

    /// Takes what was left out in spells that are over; in all of them, if `all`.
    pub fn take_left_out(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let mut told = Vec::new();
        for counted in self.kinds.values_mut().filter(|one| one.left_out > 0) {
            if all || now.saturating_duration_since(counted.began) >= SPELL {
                told.push(LeftOut {
                    count: std::mem::take(&mut counted.left_out),
                    level: counted.level,
                    like: std::mem::take(&mut counted.last),
                });
                counted.began = now;
                counted.lines = 0;
            }
        }
        self.limited -= told.len();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Kind = (Some("here"), Some(1), None);
    const THERE: Kind = (Some("there"), Some(1), None);

    #[test]
    fn of_one_kind_ten_lines_a_second_are_told_and_the_others_counted() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let mut told = 0;
        for line in 0..1000 {
            match limit.judge(HERE, Level::Warn, start) {
                Verdict::Tell => told += 1,
                Verdict::Last => {
                    told += 1;
                    limit.keep(HERE, format!("line {line}"));
                }
                Verdict::FirstLeftOut | Verdict::LeftOut => {}
            }
        }
        assert_eq!(told, 10);
        assert_eq!(limit.judge(THERE, Level::Warn, start), Verdict::Tell);
        assert!(limit.is_limiting());
        let before = start + SPELL / 2;
        assert_eq!(limit.take_left_out(before, false), []);
        let left_out = limit.take_left_out(start + SPELL, false);
        assert_eq!(
            left_out,
            [LeftOut {
                count: 990,
                level: Level::Warn,
                like: "line 9".into()
            }]
        );
        assert!(!limit.is_limiting());
        let verdict = limit.judge(HERE, Level::Warn, start + SPELL);
        assert_eq!(verdict, Verdict::Tell);
    }

    #[test]
    fn who_stays_below_the_bound_is_always_told() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        for line in 0..100 {
            let now = start + SPELL / 9 * line;
            let verdict = limit.judge(HERE, Level::Warn, now);
            assert!(matches!(verdict, Verdict::Tell | Verdict::Last));
        }
        assert_eq!(limit.take_left_out(start + 100 * SPELL, true), []);
    }

    #[test]
    fn each_user_can_have_a_bound_and_takes_no_memory_for_long() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let of = |uid| (HERE.0, HERE.1, Some(uid));
        for _ in 0..20 {
            limit.judge(of(1), Level::Debug, start);
        }
        let other = limit.judge(of(2), Level::Debug, start);
        assert_eq!(other, Verdict::Tell);
        for uid in 3..100_000 {
            limit.judge(of(uid), Level::Debug, start + SPELL * (uid / 100));
        }
        assert!(limit.kinds.len() <= KINDS);
        let left_out = limit.take_left_out(start + 2000 * SPELL, false);
        assert_eq!(left_out.len(), 1, "it is still told");
    }
}
