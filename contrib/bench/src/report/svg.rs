//! The results as bars: a panel for each figure that more than one server has.

use std::fmt::Write as _;

use crate::results::{Results, Row};

/// All in pixels.
const COLUMNS: usize = 3;
const WIDTH: usize = 400;
const NAMES: usize = 90;
const BARS: usize = 200;
const TITLE: usize = 44;
const LINE: usize = 18;
const GAP: usize = 14;

/// Draws everything. A bar is as long as the median, and the thin line on it goes from the least to
/// the most; each panel has its own scale, from 0.
pub fn plot(results: &Results, machine: &str) -> String {
    let is_same = |one: &&Row, other: &&Row| {
        (one.load, &one.variant, one.metric) == (other.load, &other.variant, other.metric)
    };
    let mut rows: Vec<&Row> = results.rows.iter().collect();
    // Stable: the loads stay in the order in which they were run.
    rows.sort_by_key(|row| {
        let first = results.rows.iter().position(|other| is_same(row, &other));
        (first, row.server)
    });
    let panels: Vec<&[&Row]> = rows
        .chunk_by(is_same)
        .filter(|panel| panel.len() > 1)
        .collect();
    let mut body = String::new();
    let mut top = GAP + LINE;
    for line in panels.chunks(COLUMNS) {
        for (column, panel) in line.iter().enumerate() {
            draw(panel, GAP + column * WIDTH, top, &mut body);
        }
        let most = line.iter().map(|panel| panel.len()).max().unwrap_or(0);
        top += TITLE + most * LINE + GAP;
    }
    let width = COLUMNS * WIDTH + GAP;
    let machine = escape(machine.lines().next().unwrap_or_default());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"18\" fill=\"#555\">{machine}</text>\n{body}</svg>\n"
    )
}

fn draw(panel: &[&Row], left: usize, top: usize, out: &mut String) {
    let most = |row: &&Row| row.values.iter().copied().fold(0.0, f64::max);
    let scale = panel.iter().map(most).fold(f64::MIN_POSITIVE, f64::max) / BARS as f64;
    let row = panel[0];
    let titles = [
        format!("{}: {}", row.load, row.variant),
        format!("{}, {}", row.metric, row.unit),
    ];
    for (number, (title, style)) in titles
        .iter()
        .zip(["font-weight=\"bold\"", "fill=\"#555\""])
        .enumerate()
    {
        text(out, left, top + 12 + number * 16, style, title);
    }
    for (number, row) in panel.iter().enumerate() {
        let y = top + TITLE + number * LINE - 6;
        let x = left + NAMES;
        let least = row.values.iter().copied().fold(f64::INFINITY, f64::min) / scale;
        let (median, most) = (row.median() / scale, most(row) / scale);
        let colour = match row.server {
            crate::peers::Server::Onionbus => "#7d4698",
            crate::peers::Server::Floor | crate::peers::Server::Floor2 => "#9a9a9a",
            _ => "#59b2c9",
        };
        text(out, left, y + 12, "", &row.server.to_string());
        let middle = y + 8;
        let (from, to) = (x as f64 + least, x as f64 + most);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"{median:.1}\" height=\"12\" fill=\"{colour}\"/>\
             <path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"black\"/>",
            y + 2
        );
        let label = super::number(row.median());
        text(out, x + BARS + 8, y + 12, "", &label);
    }
}

fn text(out: &mut String, x: usize, y: usize, style: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" {style}>{}</text>",
        escape(text)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
