//! `onionbus controllers`: the connected controllers, one in a line.

use std::io::{self, Write};

use onionbus::sys::users;
use onionbus::wire::shown::escaped;

use super::args::Controllers;
use super::client::Client;
use super::fields::Fields;
use super::info::print_value;
use super::json::{self, Object};

/// The columns of `--long`: the heading, and the word of `GETINFO controllers/detail`.
const COLUMNS: [(&str, &str); 11] = [
    ("NAME", "NAME"),
    ("USER", "UID"),
    ("PID", "PID"),
    ("PROGRAM", "PROGRAM"),
    ("SECONDS", "SECONDS"),
    ("UNSENT", "UNSENT"),
    ("TOR", "TOR"),
    ("SOCKET", "SOCKET"),
    ("PROFILES", "PROFILES"),
    ("UNIT", "UNIT"),
    ("EVENTS", "EVENTS"),
];

pub fn run(arguments: &Controllers, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut client = Client::connect(&arguments.bus)?;
    if arguments.long {
        let controllers = ask(&mut client)?;
        if !arguments.form.json {
            return Ok(table(&controllers, out)?);
        }
        for controller in &controllers {
            object(controller).print(out)?;
        }
        return Ok(());
    }
    let reply = client.ask_bus(b"GETINFO list-controllers")?;
    let mut names = Vec::new();
    for entry in reply.entries() {
        print_value(&entry, &mut names)?;
    }
    if !arguments.form.json {
        return Ok(out.write_all(&names)?);
    }
    for name in lines(&names) {
        Object::default()
            .with("name", json::text(name))
            .print(out)?;
    }
    Ok(())
}

fn object(controller: &Fields) -> Object {
    let fields = controller.iter();
    let object = fields.fold(Object::default(), |object, field| {
        let value = match &field.name[..] {
            // One can be called 7.
            "NAME" => json::text(&field.value),
            "EVENTS" | "PROFILES" => json::list(&field.value, b','),
            "TOR" => (field.value == b"1").into(),
            _ => json::number_or_text(field),
        };
        object.with(field.name.to_lowercase(), value)
    });
    object.with("user", user(controller))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|&octet| octet == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// Asks for all that is known of each controller.
pub fn ask(client: &mut Client) -> anyhow::Result<Vec<Fields>> {
    let reply = client.ask_bus(b"GETINFO controllers/detail")?;
    let mut text = Vec::new();
    for entry in reply.entries() {
        print_value(&entry, &mut text)?;
    }
    Ok(lines(&text).map(Fields::of).collect())
}

/// The name of the user whose controller it is, or the number of one without a name. None where the
/// kernel does not say it, as at a TCP port.
pub fn user(controller: &Fields) -> Option<String> {
    let number = controller.text("UID");
    if number == u32::MAX.to_string() {
        return None;
    }
    let name = number.parse().ok().and_then(users::name);
    Some(name.unwrap_or(number))
}

fn table(controllers: &[Fields], out: &mut dyn Write) -> io::Result<()> {
    let heading = COLUMNS.map(|(heading, _)| heading.to_owned());
    let row = |controller: &Fields| {
        COLUMNS.map(|(_, word)| {
            let shown = match word {
                "UID" => user(controller).unwrap_or_default(),
                _ => controller.text(word),
            };
            if shown.is_empty() {
                return "-".into();
            }
            // A program may have a line end in its name.
            escaped(shown.as_bytes(), |_| false)
        })
    };
    let rows = [heading].into_iter().chain(controllers.iter().map(row));
    let rows: Vec<_> = rows.collect();
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}
