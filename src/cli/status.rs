//! `onionbus status`: how the daemon is, and what it has done since its start.

use std::io::Write;

use onionbus::wire::shown::escaped;

use super::args::Plain;
use super::client::Client;
use super::counted;
use super::fields::Fields;
use super::json::{self, Object};

pub fn run(arguments: &Plain, out: &mut dyn Write) -> anyhow::Result<()> {
    let status = ask(&mut Client::connect(&arguments.bus)?)?;
    if arguments.form.json {
        return Ok(object(&status).print(out)?);
    }
    for (what, text) in rows(&status) {
        // A path may have a line end in it.
        let text = escaped(text.as_bytes(), |_| false);
        writeln!(out, "{what:12} {text}")?;
    }
    Ok(())
}

/// Asks the daemon.
pub fn ask(client: &mut Client) -> anyhow::Result<Fields> {
    let reply = client.ask_bus(b"GETINFO status")?;
    let data = reply.entries().into_iter().find_map(|entry| entry.data);
    Ok(Fields::of(&data.unwrap_or_default()))
}

fn object(status: &Fields) -> Object {
    let is_socket = |name: &str| name == "SOCKET";
    let sockets = status.iter().filter(|field| is_socket(&field.name));
    let sockets: serde_json::Value = sockets.map(|field| json::text(&field.value)).collect();
    let others = status.iter().filter(|field| !is_socket(&field.name));
    others
        .fold(Object::default(), |object, field| {
            object.with(field.name.to_lowercase(), json::number_or_text(field))
        })
        .with("sockets", sockets)
}

fn rows(status: &Fields) -> Vec<(&'static str, String)> {
    let text = |name| status.text(name);
    let number = |name| status.number(name);
    let (version, pid, started) = (text("VERSION"), text("PID"), text("STARTED"));
    let at = text("TOR_ADDRESS");
    let tor = match &text("TOR")[..] {
        "up" => format!("{} at {at}", text("TOR_VERSION")),
        "down" => format!("not reachable at {at}"),
        _ => "none is configured".to_owned(),
    };
    let head = [
        (
            "daemon",
            format!("onionbus {version}, process {pid}, since {started}"),
        ),
        ("tor", tor),
    ];
    let sockets = status.all("SOCKET").map(|socket| ("socket", socket));
    let tail = [
        (
            "controllers",
            format!(
                "{} in {}, {} since the start",
                number("CONTROLLERS"),
                counted(number("PLACES"), "place"),
                counted(number("CONNECTIONS"), "connection"),
            ),
        ),
        (
            "messages",
            format!(
                "{} posted, {} delivered, {} dropped",
                number("POSTED"),
                number("DELIVERED"),
                number("DROPPED"),
            ),
        ),
        (
            "queues",
            format!(
                "{} to be read, {} of them by one controller; at most {} since the start",
                counted(number("WAITING"), "octet"),
                number("HIGHEST_QUEUE"),
                number("HIGHEST_QUEUE_EVER"),
            ),
        ),
        (
            "cut off",
            counted(number("CUT_OFF"), "controller") + " since the start",
        ),
        (
            "traffic",
            format!(
                "{} read, {} written",
                counted(number("READ"), "octet"),
                number("WRITTEN"),
            ),
        ),
        (
            "memory",
            counted(number("KEPT"), "octet") + " kept for controllers",
        ),
        ("log", counted(number("LOG_LOST"), "line") + " lost"),
    ];
    head.into_iter().chain(sockets).chain(tail).collect()
}
