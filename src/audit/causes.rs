//! Causes: the commands through the bus that explain what Tor then tells of itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::action::{Action, Changes};
use super::names::Names;

/// The time after its reply for which a command explains an event.
const EXPLAINS: Duration = Duration::from_secs(1);

/// The same of NEWNYM, which Tor may put off for ten seconds.
const EXPLAINS_NEWNYM: Duration = Duration::from_secs(11);

/// The most commands that may explain an event at a time; of more the oldest go.
const MOST: usize = 1024;

/// The signal that Tor may put off.
const NEWNYM: &[u8] = b"NEWNYM";

/// The commands that may explain an event.
#[derive(Debug, Default)]
pub struct Causes {
    known: VecDeque<Cause>,
    last: u64,
}

#[derive(Debug)]
struct Cause {
    ticket: u64,
    /// Options in lower case; none where it may be any.
    options: Option<Vec<Vec<u8>>>,
    signal: Option<Vec<u8>>,
    /// The time until which it explains anything, once it is answered.
    until: Option<Instant>,
}

impl Causes {
    /// A command is about to be done. Returns the number by which it [ends](Self::end).
    pub fn begin(&mut self, action: &Action, names: &Names, now: Instant) -> u64 {
        self.last += 1;
        let (options, signal) = match action.changes() {
            Changes::Nothing => return self.last,
            Changes::Signal(name) => (Some(Vec::new()), Some(name)),
            Changes::All(signal) => (None, signal),
            Changes::Options(options) => {
                // A former name means an option that has another now: nobody says which.
                let is_known = options.iter().all(|name| names.find(name).is_some());
                let lower = options.iter().map(|name| name.to_ascii_lowercase());
                (is_known.then(|| lower.collect()), None)
            }
        };
        self.known
            .retain(|cause| cause.until.is_none_or(|until| now <= until));
        if self.known.len() >= MOST {
            self.known.pop_front();
        }
        self.known.push_back(Cause {
            ticket: self.last,
            options,
            signal: signal.map(<[u8]>::to_vec),
            until: None,
        });
        self.last
    }

    /// A command has been answered, or never will be; a refused one explains nothing.
    pub fn end(&mut self, ticket: u64, is_refused: bool, now: Instant) {
        let Some(place) = self.known.iter().rposition(|cause| cause.ticket == ticket) else {
            return;
        };
        if is_refused {
            self.known.remove(place);
        } else if let Some(cause) = self.known.get_mut(place) {
            let is_late = cause.signal.as_deref() == Some(NEWNYM);
            let time = if is_late { EXPLAINS_NEWNYM } else { EXPLAINS };
            cause.until = Some(now + time);
        }
    }

    /// The daemon itself changes an option.
    pub fn handle_own_change(&mut self, option: &[u8], now: Instant) {
        if self.known.len() >= MOST {
            self.known.pop_front();
        }
        self.last += 1;
        self.known.push_back(Cause {
            ticket: self.last,
            options: Some(vec![option.to_ascii_lowercase()]),
            signal: None,
            until: Some(now + EXPLAINS),
        });
    }

    /// Whether a command explains that an option has changed.
    #[must_use]
    pub fn explain_option(&self, name: &[u8], now: Instant) -> bool {
        let is_of = |cause: &Cause| match &cause.options {
            None => true,
            Some(options) => options.iter().any(|one| one.eq_ignore_ascii_case(name)),
        };
        self.at(now).any(is_of)
    }

    /// Whether a command explains that a signal was taken.
    #[must_use]
    pub fn explain_signal(&self, name: &[u8], now: Instant) -> bool {
        self.at(now)
            .any(|cause| cause.signal.as_deref() == Some(name))
    }

    fn at(&self, now: Instant) -> impl Iterator<Item = &Cause> {
        let known = self.known.iter();
        known.filter(move |cause| cause.until.is_none_or(|until| now <= until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::Fields;
    use crate::wire::request::Setting;

    const SECOND: Duration = Duration::from_secs(1);

    fn names() -> Names {
        let mut names = Names::default();
        names.handle_names(vec![b"Log".to_vec(), b"ContactInfo".to_vec()]);
        names
    }

    fn of(fields: &Fields) -> Action {
        let names = names();
        let watch = crate::audit::Watch {
            names: &names,
            is_written: false,
        };
        Action::of_fields(fields, &watch, None)
    }

    fn set(name: &str) -> Action {
        let setting = Setting {
            name: name.into(),
            value: Some(b"x".to_vec()),
        };
        of(&Fields::SetConf(vec![setting]))
    }

    fn signal(name: &str) -> Action {
        of(&Fields::Signal(name.into()))
    }

    #[test]
    fn a_command_explains_by_name_from_its_beginning_to_a_second_after_its_reply() {
        let (mut causes, start) = (Causes::default(), Instant::now());
        assert!(!causes.explain_option(b"Log", start));
        let ticket = causes.begin(&set("log"), &names(), start);
        assert!(
            causes.explain_option(b"Log", start + 100 * SECOND),
            "no reply yet"
        );
        assert!(!causes.explain_option(b"ContactInfo", start));
        assert!(!causes.explain_signal(b"RELOAD", start));
        causes.end(ticket, false, start + SECOND);
        assert!(causes.explain_option(b"LOG", start + 2 * SECOND));
        assert!(!causes.explain_option(b"Log", start + 3 * SECOND));
        let ticket = causes.begin(&set("Log"), &names(), start);
        causes.end(ticket, true, start);
        assert!(
            !causes.explain_option(b"Log", start + 3 * SECOND),
            "it was refused"
        );
    }

    #[test]
    fn newnym_explains_for_longer_and_more_than_once() {
        let (mut causes, start) = (Causes::default(), Instant::now());
        for name in ["NEWNYM", "HUP"] {
            let ticket = causes.begin(&signal(name), &names(), start);
            causes.end(ticket, false, start);
        }
        for after in [10, 11] {
            assert!(causes.explain_signal(b"NEWNYM", start + after * SECOND));
        }
        assert!(!causes.explain_signal(b"NEWNYM", start + 12 * SECOND));
        assert!(causes.explain_signal(b"RELOAD", start + SECOND));
        assert!(
            causes.explain_option(b"ContactInfo", start + SECOND),
            "the file says which"
        );
        assert!(!causes.explain_signal(b"RELOAD", start + 2 * SECOND));
    }

    #[test]
    fn a_former_name_explains_any_option_and_there_is_a_bound() {
        let (mut causes, now) = (Causes::default(), Instant::now());
        let ticket = causes.begin(&set("MaxConn"), &names(), now);
        assert!(causes.explain_option(b"ConnLimit", now));
        causes.end(ticket, true, now);
        for _ in 0..2 * MOST {
            causes.begin(&set("Log"), &names(), now);
        }
        assert_eq!(causes.known.len(), MOST);
        causes.begin(&signal("HALT"), &names(), now);
        assert!(causes.explain_signal(b"HALT", now));
        let mut causes = Causes::default();
        causes.handle_own_change(b"Log", now);
        assert!(causes.explain_option(b"log", now) && !causes.explain_option(b"Nickname", now));
        assert!(!causes.explain_option(b"Log", now + 2 * SECOND));
    }
}
