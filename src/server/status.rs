//! `GETINFO status`: how the daemon is, and what it has done since its start.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::Server;

impl Server {
    /// A line `NAME=value` for each thing; what is no number or word stands in quotes.
    pub(super) fn status(&self) -> String {
        let daemon = &self.daemon;
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={value}");
        };
        line("VERSION", &env!("CARGO_PKG_VERSION"));
        line("PID", &std::process::id());
        line("STARTED", &daemon.started_at);
        line("SECONDS", &daemon.started.elapsed().as_secs());
        match &daemon.tor {
            None => line("TOR", &"none"),
            Some(tor) => {
                let is_there = tor.upstream.is_there();
                line("TOR", &if is_there { "up" } else { "down" });
                line("TOR_ADDRESS", &quoted(tor.address.to_string().as_bytes()));
                if let Some(version) = tor.upstream.version().filter(|_| is_there) {
                    line("TOR_VERSION", &quoted(version.as_bytes()));
                }
            }
        }
        for listener in &self.listeners {
            line("SOCKET", &quoted(&listener.name.address));
        }
        let places = daemon.options.settings().max_controllers;
        line("CONTROLLERS", &daemon.places.present());
        line("PLACES", &places.min(daemon.places.fit()));
        line("CONNECTIONS", &daemon.last_session);
        line("POSTED", &daemon.bus.posted());
        line(
            "DELIVERED",
            &(daemon.fanout.delivered() + daemon.read_later),
        );
        line("DROPPED", &daemon.bus.dropped());
        line("CUT_OFF", &daemon.cut_off);
        let there = self
            .connections
            .iter()
            .filter(|(_, one)| one.left.is_none());
        let waiting = there.map(|(_, one)| one.outbox.waiting());
        let (all, most) = waiting.fold((0, 0), |(all, most), one| (all + one, most.max(one)));
        line("WAITING", &all);
        line("HIGHEST_QUEUE", &most);
        let outlet = &daemon.outlet;
        line(
            "HIGHEST_QUEUE_EVER",
            &outlet.most_waiting.load(Ordering::Relaxed),
        );
        line("READ", &daemon.octets_read);
        line("WRITTEN", &outlet.written.load(Ordering::Relaxed));
        line("KEPT", &daemon.accounts.held());
        line("LOG_LOST", &daemon.logging.lost());
        text
    }
}

fn quoted(octets: &[u8]) -> String {
    format!("\"{}\"", octets.escape_ascii())
}
