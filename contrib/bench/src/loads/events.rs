//! Events of Tor to a thousand controllers: of Tor alone, and through onionbus, which fetches each
//! once.

use super::relay::way;
use super::{Case, Scale, alone, broadcast};
use crate::peers::{Server, TorEvents, tor};

/// Pipelined, and one at a time.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let subscribers = scale.of(1000, 10);
    let messages = scale.of(8000, 4);
    let mut cases = Vec::new();
    for single in [false, true] {
        for server in [Server::Tor, Server::Onionbus] {
            let program = scale.onionbus.clone();
            let form = if single { "one at a time" } else { "pipelined" };
            cases.push(Case {
                load: "tor-events",
                variant: format!("64 B to {subscribers}, {form}"),
                server,
                start: alone(move || {
                    let running = way(server, &program, tor()?)?;
                    let speaker = &mut TorEvents;
                    if single {
                        broadcast::one_at_a_time(speaker, &running, subscribers, messages / 8, 64)
                    } else {
                        broadcast::pipeline(
                            speaker,
                            &running,
                            subscribers,
                            messages,
                            64,
                            &broadcast::PIPELINE,
                        )
                    }
                }),
            });
        }
    }
    cases
}
