//! The results as text, as tab-separated values, and as a plot.

pub mod svg;

use std::fmt::Write as _;

use crate::marks::Verdict;
use crate::peers::Server;
use crate::results::{Results, Row};

/// Three significant digits or all before the point.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a double has at most 308 digits"
    )]
    let digits = value.abs().log10().floor() as i32;
    let places = usize::try_from(2 - digits).unwrap_or(0);
    format!("{value:.places$}")
}

/// All tables.
pub fn tables(results: &Results) -> String {
    let rows = results.rows.iter().map(|row| (row.load, &row.variant));
    let missing = results
        .missing
        .iter()
        .map(|(load, variant, ..)| (*load, variant));
    let mut seen = Vec::new();
    for form in rows.chain(missing) {
        if !seen.contains(&form) {
            seen.push(form);
        }
    }
    let seen = seen.into_iter();
    seen.map(|(load, variant)| table(results, load, variant))
        .collect()
}

/// The table of one form of a load: a line for each server, a column for each figure, each with the
/// median and, in brackets, the least and the most.
pub fn table(results: &Results, load: &str, variant: &str) -> String {
    let is_here = |row: &&Row| row.load == load && row.variant == variant;
    let rows: Vec<&Row> = results.rows.iter().filter(is_here).collect();
    let mut metrics: Vec<(&str, &str)> = Vec::new();
    let mut servers = Vec::new();
    for row in &rows {
        if !metrics.contains(&(row.metric, row.unit)) {
            metrics.push((row.metric, row.unit));
        }
        if !servers.contains(&row.server) {
            servers.push(row.server);
        }
    }
    let mut text = format!("\n{load}: {variant}\n  {:12}", "");
    for (metric, unit) in &metrics {
        let _ = write!(text, "  {:>32}", format!("{metric}, {unit}"));
    }
    text.push('\n');
    for server in servers {
        let _ = write!(text, "  {:12}", server.to_string());
        for (metric, _) in &metrics {
            let row = rows
                .iter()
                .find(|row| row.server == server && row.metric == *metric);
            let _ = write!(
                text,
                "  {:>32}",
                row.map_or_else(String::new, |row| cell(row))
            );
        }
        text.push('\n');
    }
    for (held, form, server, why) in &results.missing {
        if *held == load && form == variant {
            let _ = writeln!(text, "  {:12}  {why}", server.to_string());
        }
    }
    text
}

fn cell(row: &Row) -> String {
    let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = row.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (median, least, most) = (number(row.median()), number(least), number(most));
    if row.values.len() == 1 {
        return median;
    }
    format!("{median} ({least}-{most})")
}

/// The marks, each with its verdict.
pub fn verdicts(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let met = if verdict.met { "met" } else { "missed" };
        let bound = if verdict.more_is_better {
            "at least"
        } else {
            "at most"
        };
        let mut mark = format!("{bound} {}", number(verdict.limit));
        if !verdict.reference.is_empty() {
            let _ = write!(mark, " x {}", verdict.reference);
        }
        let measured = number(verdict.measured);
        let _ = writeln!(text, "{met:6}  {measured:>7}  {mark:30}  {}", verdict.what);
    }
    text
}

/// Each figure of onionbus as a multiple of the other one's, if there is another: the median of all
/// rounds and, in brackets, the least and the most.
pub fn ratios(results: &Results) -> String {
    let mut text = String::new();
    for row in &results.rows {
        let is_other = |other: &&Row| {
            (row.server, other.server) == (Server::Onionbus, Server::Other)
                && (row.load, &row.variant, row.metric)
                    == (other.load, &other.variant, other.metric)
        };
        let Some(other) = results.rows.iter().find(is_other) else {
            continue;
        };
        let rounds = row.values.iter().zip(&other.values);
        // Nothing is a multiple of 0.
        let rounds = rounds.filter(|(_, other)| **other != 0.0);
        let ratio = Row {
            values: rounds.map(|(own, other)| own / other).collect(),
            ..row.clone()
        };
        if ratio.values.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "{:28} x other  {}, {}: {}",
            cell(&ratio),
            row.load,
            row.variant,
            row.metric
        );
    }
    text
}

/// One line for each figure: load, variant, server, metric, unit, median, and every round's value.
pub fn tsv(results: &Results) -> String {
    let mut text = String::from("load\tvariant\tserver\tmetric\tunit\tmedian\trounds\n");
    for row in &results.rows {
        let values: Vec<_> = row.values.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.load,
            row.variant,
            row.server,
            row.metric,
            row.unit,
            row.median(),
            values.join(" ")
        );
    }
    text
}
