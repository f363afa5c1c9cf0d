//! What was measured, in the order in which it was.

use crate::loads::{Case, Figure, Round, TURNS, median};
use crate::peers::Server;
use crate::process::Missing;

/// One figure of one server under one load, once for each round.
#[derive(Clone)]
pub struct Row {
    /// The load's name.
    pub load: &'static str,
    /// Which form of it.
    pub variant: String,
    /// Who.
    pub server: Server,
    /// What was measured.
    pub metric: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// One value for each round.
    pub values: Vec<f64>,
}

impl Row {
    /// The value in the middle.
    pub fn median(&self) -> f64 {
        median(&mut self.values.clone())
    }
}

/// Everything that was measured.
#[derive(Default)]
pub struct Results {
    /// The figures.
    pub rows: Vec<Row>,
    /// Who was left out, and why.
    pub missing: Vec<(&'static str, String, Server, String)>,
    /// What went wrong: deliveries that were lost or wrong above all.
    pub failures: Vec<String>,
}

impl Results {
    /// Runs a round of cases that are compared, and keeps their figures. One that has failed is
    /// not tried again.
    pub fn run(&mut self, cases: &[Case], round: usize) {
        let mut turns = Vec::new();
        for case in cases {
            if self.is_left_out(case) {
                continue;
            }
            eprintln!("round {round}: {case}");
            match (case.start)() {
                Ok(Round::Done(figures)) => self.keep(case, figures),
                Ok(Round::Turns(started)) => turns.push((case, started)),
                Err(error) => self.note(case, round, &error),
            }
        }
        for _ in 0..TURNS {
            turns.retain_mut(|(case, turns)| {
                let went = turns.turn();
                went.map_err(|error| self.note(case, round, &error)).is_ok()
            });
        }
        for (case, mut turns) in turns {
            match turns.figures() {
                Ok(figures) => self.keep(case, figures),
                Err(error) => self.note(case, round, &error),
            }
        }
    }

    fn is_left_out(&self, case: &Case) -> bool {
        let is_missing = self.missing.iter().any(|(load, variant, server, _)| {
            (*load, variant, *server) == (case.load, &case.variant, case.server)
        });
        let title = case.to_string();
        is_missing || self.failures.iter().any(|text| text.starts_with(&title))
    }

    fn note(&mut self, case: &Case, round: usize, error: &anyhow::Error) {
        if let Some(Missing(why)) = error.downcast_ref() {
            let variant = case.variant.clone();
            let missing = (case.load, variant, case.server, why.clone());
            self.missing.push(missing);
        } else {
            self.failures
                .push(format!("{case}, round {round}: {error:#}"));
        }
    }

    fn keep(&mut self, case: &Case, figures: Vec<Figure>) {
        for figure in figures {
            let is_it = |row: &&mut Row| {
                (row.load, &row.variant, row.server, row.metric)
                    == (case.load, &case.variant, case.server, figure.metric)
            };
            if let Some(row) = self.rows.iter_mut().find(is_it) {
                row.values.push(figure.value);
                continue;
            }
            self.rows.push(Row {
                load: case.load,
                variant: case.variant.clone(),
                server: case.server,
                metric: figure.metric,
                unit: figure.unit,
                values: vec![figure.value],
            });
        }
    }

    /// The median of a figure, if it was measured.
    pub fn median(&self, load: &str, variant: &str, server: Server, metric: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| {
            (row.load, &row.variant[..], row.server, row.metric) == (load, variant, server, metric)
        });
        row.map(Row::median)
    }
}
