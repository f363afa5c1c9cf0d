//! The trail: what was done and what was refused, numbered, and the last of it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::causes::Causes;
use super::names::Names;
use crate::wire::message::{SessionId, UNSET};

/// Whoever did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The connection's number; 0 for nobody on the bus.
    pub id: SessionId,
    /// Its name.
    pub name: String,
    /// Its user.
    pub uid: Option<u32>,
    /// Its process.
    pub pid: Option<i32>,
}

impl Who {
    /// A controller.
    #[must_use]
    pub fn new(id: SessionId, name: Option<&str>, uid: u32, pid: i32) -> Self {
        Self {
            id,
            name: name.unwrap_or(UNSET).into(),
            uid: Some(uid),
            pid: Some(pid),
        }
    }

    /// Somebody who is not on the bus.
    #[must_use]
    pub fn outside() -> Self {
        Self {
            id: 0,
            name: "outside".into(),
            uid: None,
            pid: None,
        }
    }
}

/// What is told of one command.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// `ACTION` or `DENIED`.
    pub event: &'static str,
    /// Whoever did it.
    pub who: &'a Who,
    /// The command's name.
    pub command: &'a str,
    /// Names, as they are [shown](super::Action::args).
    pub args: &'a [String],
    /// The last status of the reply, if there was one.
    pub status: Option<u16>,
    /// It was done all the same.
    pub is_complaint: bool,
}

/// The events of both kinds.
#[derive(Debug, Default)]
pub struct Trail {
    number: u64,
    length: usize,
    recent: VecDeque<(&'static str, Arc<str>)>,
    /// The names of options.
    pub names: Names,
    /// What explains Tor's events.
    pub causes: Causes,
}

impl Trail {
    /// A trail that remembers so many events.
    #[must_use]
    pub fn new(length: usize, names: Names) -> Self {
        Self {
            length,
            names,
            ..Self::default()
        }
    }

    /// Changes how many events are remembered (`BusHistory`).
    pub fn set_length(&mut self, length: usize) {
        self.length = length;
        let too_many = self.recent.len().saturating_sub(length);
        self.recent.drain(..too_many);
    }

    /// Whether anything is remembered.
    #[must_use]
    pub const fn remembers(&self) -> bool {
        self.length > 0
    }

    /// Gives an event its number, and the text behind its name.
    pub fn tell(&mut self, told: Told<'_>) -> (u64, Arc<str>) {
        let empty = String::new;
        self.number += 1;
        let Told {
            event,
            who,
            command,
            args,
            ..
        } = told;
        let text = format!(
            "{} ID={} NAME={} UID={} PID={} COMMAND={command} ARGS={} STATUS={}{}",
            self.number,
            who.id,
            who.name,
            who.uid.map_or_else(empty, |uid| uid.to_string()),
            who.pid.map_or_else(empty, |pid| pid.to_string()),
            args.join(","),
            told.status.map_or_else(empty, |status| status.to_string()),
            if told.is_complaint { " COMPLAIN" } else { "" },
        );
        let text: Arc<str> = text.into();
        if self.length > 0 {
            if self.recent.len() >= self.length {
                self.recent.pop_front();
            }
            self.recent.push_back((event, Arc::clone(&text)));
        }
        (self.number, text)
    }

    /// The last events, oldest first, each as its name and the text behind that.
    pub fn recent(&self) -> impl Iterator<Item = String> {
        self.recent
            .iter()
            .map(|(event, text)| format!("{event} {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_by_one_and_the_last_are_remembered() {
        let mut trail = Trail::new(2, Names::default());
        let (alice, outside) = (Who::new(7, Some("alice"), 1000, 4711), Who::outside());
        let args = [
            "MaxCircuitDirtiness".to_owned(),
            "NumEntryGuards".to_owned(),
        ];
        let action = Told {
            event: "ACTION",
            who: &alice,
            command: "SETCONF",
            args: &args,
            status: Some(250),
            is_complaint: false,
        };
        let first = "1 ID=7 NAME=alice UID=1000 PID=4711 COMMAND=SETCONF \
                     ARGS=MaxCircuitDirtiness,NumEntryGuards STATUS=250";
        assert_eq!(trail.tell(action), (1, first.into()));
        let denied = Told {
            event: "DENIED",
            args: &[],
            status: Some(510),
            is_complaint: true,
            ..action
        };
        trail.tell(denied);
        let change = Told {
            who: &outside,
            status: None,
            ..action
        };
        trail.tell(change);
        let recent: Vec<_> = trail.recent().collect();
        assert_eq!(
            recent,
            [
                "DENIED 2 ID=7 NAME=alice UID=1000 PID=4711 COMMAND=SETCONF ARGS= STATUS=510 \
                 COMPLAIN",
                "ACTION 3 ID=0 NAME=outside UID= PID= COMMAND=SETCONF \
                 ARGS=MaxCircuitDirtiness,NumEntryGuards STATUS=",
            ]
        );
        trail.set_length(0);
        assert!(trail.recent().next().is_none() && !trail.remembers());
        assert_eq!(trail.tell(action).0, 4);
        assert!(trail.recent().next().is_none());
    }
}
