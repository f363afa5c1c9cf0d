//! The loads. Each makes its cases: what one server is given once, and what is measured of it.

mod broadcast;
mod churn;
mod directed;
mod events;
mod idle;
mod login;
mod policy;
mod relay;
mod start;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use anyhow::Result;

use crate::peers::{Running, Server};

/// What the loads are made for.
#[derive(Clone)]
pub struct Scale {
    /// The onionbus to measure.
    pub onionbus: PathBuf,
    /// A small run, only to see that everything works.
    pub quick: bool,
    /// How many subscribers a broadcast has.
    pub subscribers: Vec<usize>,
    /// How long its messages are, in octets.
    pub sizes: Vec<usize>,
    /// The Tors of the rounds that take turns, by the form of the load. All ways of a round lead to
    /// the same: one Tor is a tenth faster than the next.
    pub tors: Rc<RefCell<HashMap<&'static str, Weak<Running>>>>,
}

impl Scale {
    /// `full`, or in a small run a part of it.
    fn of(&self, full: usize, part: usize) -> usize {
        if self.quick {
            (full / part).max(1)
        } else {
            full
        }
    }
}

/// One figure.
pub struct Figure {
    /// What it is of.
    pub metric: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
}

/// Makes a figure.
fn figure(metric: &'static str, unit: &'static str, value: f64) -> Figure {
    Figure {
        metric,
        unit,
        value,
    }
}

/// A round of a case.
pub enum Round {
    /// It is over: it had the machine for itself.
    Done(Vec<Figure>),
    /// It takes turns with those of the other servers.
    Turns(Box<dyn Turns>),
}

/// A round in parts. What a process gets of the machine changes from one second to the next: where
/// throughput is compared, all servers must have the same of it. Latencies want a server alone:
/// they depend on where the kernel puts its threads, and that takes a while to settle.
pub trait Turns {
    /// One of [`TURNS`].
    fn turn(&mut self) -> Result<()>;

    /// What was measured in all of them.
    fn figures(&mut self) -> Result<Vec<Figure>>;
}

/// How many turns a round has.
pub const TURNS: usize = 20;

/// Starts everything anew for a round.
type Start = Box<dyn Fn() -> Result<Round>>;

/// A round that is over once it has `run`.
fn alone(run: impl Fn() -> Result<Vec<Figure>> + 'static) -> Start {
    Box::new(move || Ok(Round::Done(run()?)))
}

/// One server under one load. Those of the same load and variant are compared.
pub struct Case {
    /// The load's name.
    pub load: &'static str,
    /// Which form of it.
    pub variant: String,
    /// The server, or the way to one.
    pub server: Server,
    /// Starts a round of it.
    pub start: Start,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.load, self.variant, self.server)
    }
}

/// What makes the cases of a load.
pub type Load = fn(&Scale) -> Vec<Case>;

/// All loads, by name.
pub const LOADS: &[(&str, Load)] = &[
    ("broadcast", broadcast::pipelined),
    ("window", broadcast::window),
    ("single", broadcast::single),
    ("round-trip", directed::round_trip),
    ("directed", directed::many),
    ("tor-events", events::cases),
    ("relay", relay::cases),
    ("policy", policy::cases),
    ("login", login::cases),
    ("idle", idle::cases),
    ("churn", churn::cases),
    ("start", start::cases),
];

/// The cases of a load, those of one form together. With an `other` onionbus, each case of the one
/// to measure has a case of the other one beside it.
pub fn forms(load: Load, scale: &Scale, other: Option<PathBuf>) -> Vec<Vec<Case>> {
    let mut cases = load(scale);
    if let Some(onionbus) = other {
        let others = load(&Scale {
            onionbus,
            ..scale.clone()
        });
        let others = others
            .into_iter()
            .filter(|case| case.server == Server::Onionbus);
        cases.extend(others.map(|case| Case {
            server: Server::Other,
            ..case
        }));
    }
    let mut forms: Vec<Vec<Case>> = Vec::new();
    for case in cases {
        match forms
            .iter_mut()
            .find(|form| form[0].variant == case.variant)
        {
            Some(form) => form.push(case),
            None => forms.push(vec![case]),
        }
    }
    forms
}

/// The figure in the middle; the values get sorted.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// The figure that this part of all are below; the values get sorted.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and the last"
    )]
    let index = (last as f64 * part).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
