//! What was measured, in the order in which it was.

use crate::loads::{Case, median};
use crate::peers::Server;
use crate::process::Missing;

/// One figure of one server under one load, once for each round.
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
    /// Runs a case and keeps its figures. One that has failed is not tried again.
    pub fn run(&mut self, case: &Case, round: usize) {
        let (load, variant, server) = (case.load, &case.variant, case.server);
        let title = format!("{load}, {variant}, {server}");
        let is_missing = self
            .missing
            .iter()
            .any(|(held, form, who, _)| (*held, form, *who) == (load, variant, server));
        if is_missing || self.failures.iter().any(|text| text.starts_with(&title)) {
            return;
        }
        eprintln!("round {round}: {title}");
        match (case.run)() {
            Ok(figures) => {
                for figure in figures {
                    let is_it = |row: &&mut Row| {
                        (row.load, &row.variant, row.server, row.metric)
                            == (load, variant, server, figure.metric)
                    };
                    if let Some(row) = self.rows.iter_mut().find(is_it) {
                        row.values.push(figure.value);
                        continue;
                    }
                    self.rows.push(Row {
                        load,
                        variant: variant.clone(),
                        server,
                        metric: figure.metric,
                        unit: figure.unit,
                        values: vec![figure.value],
                    });
                }
            }
            Err(error) => match error.downcast_ref::<Missing>() {
                Some(Missing(why)) => {
                    let missing = (load, variant.clone(), server, why.clone());
                    self.missing.push(missing);
                }
                None => self
                    .failures
                    .push(format!("{title}, round {round}: {error:#}")),
            },
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
