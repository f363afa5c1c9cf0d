//! The marks: how fast onionbus is meant to be, against the floor, its peers, and itself.

use crate::peers::Server;
use crate::results::Results;

/// What a figure is compared with.
#[derive(Clone, Copy)]
enum Against {
    /// The best of these under the same load.
    Best(&'static [Server]),
    /// Itself in another form of the load.
    Variant(&'static str),
    /// A number of the figure's unit.
    Itself,
}

use Against::{Best, Itself, Variant};

/// One mark.
struct Mark {
    load: &'static str,
    variant: &'static str,
    metric: &'static str,
    against: Against,
    /// The most (or, if more is better, the least) that the figure may be of that.
    limit: f64,
    more_is_better: bool,
}

const fn most(
    load: &'static str,
    variant: &'static str,
    metric: &'static str,
    limit: f64,
    against: Against,
) -> Mark {
    Mark {
        load,
        variant,
        metric,
        against,
        limit,
        more_is_better: false,
    }
}

const fn least(
    load: &'static str,
    variant: &'static str,
    metric: &'static str,
    limit: f64,
    against: Against,
) -> Mark {
    Mark {
        more_is_better: true,
        ..most(load, variant, metric, limit, against)
    }
}

const CPU: &str = "CPU per delivery";
const FLOOR: Against = Best(&[Server::Floor]);
const FLOOR2: Against = Best(&[Server::Floor2]);
const PEERS: Against = Best(&[Server::Redis, Server::Tor]);
const DIRECT: Against = Best(&[Server::Tor]);
const SOCAT: Against = Best(&[Server::Socat]);
const WINDOW: &str = "64 B to 1000, 256 under way";
const VERSION: &str = "GETINFO version, one at a time";
const PIPELINED: &str = "GETINFO version, pipelined";
const BATCHES: &str = "GETINFO version, batches of 128";
const NAMES: &str = "config/names info/names";
const HUGE: &str = "replies of 10 MB";
const TEN: Against = Variant("10 of 10 post");
const THOUSAND: Against = Variant("1000 of 1000 post");
const CHURN: &str = "10000 controllers, 100 come and go each second";
const REST: &str = "10000 controllers, at rest";
const START: &str = "exec to first reply";
const LOGIN: &str = "connect, AUTHENTICATE, GETINFO version";
const LOGGED_IN: &str = "10000 controllers, logged in";
const NAMED: &str = "10000 controllers, named and subscribed";

const ASKED: &str = "5000 controllers, the same, and have asked Tor";

const TRIP_PLAIN: Against = Variant("GETINFO version, one at a time: no policy");
const TRIP_ALL: &str = "GETINFO version, one at a time: Allow all";
const TRIP_FIFTY: &str = "GETINFO version, one at a time: fifty lines";
const POST_PLAIN: Against = Variant("64 B to 1000: no policy");
const POST_ALL: &str = "64 B to 1000: Allow all";
const POST_FIFTY: &str = "64 B to 1000: fifty lines";
const CONF_PLAIN: Against = Variant("CONF_CHANGED to 1000: no policy");
const CONF_ALL: &str = "CONF_CHANGED to 1000: Allow all";
const CONF_FIFTY: &str = "CONF_CHANGED to 1000: fifty lines";

const MARKS: &[Mark] = &[
    most("broadcast", "64 B to 1000", CPU, 1.6, FLOOR),
    most("broadcast", "64 B to 1000", CPU, 0.25, PEERS),
    most("broadcast", "1024 B to 1000", CPU, 1.2, FLOOR),
    most("broadcast", "1024 B to 1000", CPU, 0.2, PEERS),
    most("window", WINDOW, CPU, 1.0, FLOOR),
    most("single", "64 B to 1000", CPU, 1.15, FLOOR),
    most(
        "single",
        "64 B to 1000",
        "the last has it after",
        1.1,
        FLOOR,
    ),
    most(
        "round-trip",
        "64 B to one",
        "post to delivery",
        1.25,
        FLOOR2,
    ),
    most("directed", "10 of 100 post", "CPU per message", 1.2, TEN),
    most("directed", "10 of 1000 post", "CPU per message", 1.2, TEN),
    most("directed", "10 of 10000 post", "CPU per message", 1.2, TEN),
    most(
        "directed",
        "1000 of 10000 post",
        "CPU per message",
        1.2,
        THOUSAND,
    ),
    most(
        "tor-events",
        "64 B to 1000, pipelined",
        CPU,
        1.0 / 3.0,
        DIRECT,
    ),
    most("relay", VERSION, "round trip", 2.1, DIRECT),
    least("relay", PIPELINED, "throughput", 0.95, DIRECT),
    least("relay", BATCHES, "throughput", 0.95, DIRECT),
    least("relay", BATCHES, "throughput", 1.0, SOCAT),
    least("relay", NAMES, "throughput", 0.95, DIRECT),
    least("relay", HUGE, "throughput", 0.95, DIRECT),
    most("relay", HUGE, "growth after the first turn", 1024.0, Itself),
    most("policy", TRIP_ALL, "round trip", 1.05, TRIP_PLAIN),
    most("policy", TRIP_FIFTY, "round trip", 1.3, TRIP_PLAIN),
    most("policy", POST_ALL, CPU, 1.05, POST_PLAIN),
    most("policy", POST_FIFTY, CPU, 1.5, POST_PLAIN),
    most("policy", CONF_ALL, CPU, 1.05, CONF_PLAIN),
    most("policy", CONF_FIFTY, CPU, 1.5, CONF_PLAIN),
    most("login", LOGIN, "first reply after", 3.0, DIRECT),
    most("idle", LOGGED_IN, "memory each", 1024.0, Itself),
    most("idle", NAMED, "memory each", 1024.0, Itself),
    most("idle", ASKED, "memory each", 1024.0, Itself),
    most("idle", LOGGED_IN, "wake-ups at rest", 0.0, Itself),
    most("idle", NAMED, "wake-ups at rest", 0.0, Itself),
    most("idle", ASKED, "wake-ups at rest", 0.0, Itself),
    most("churn", CHURN, "post to delivery (p99)", 2.0, Variant(REST)),
    most("start", START, "first reply after", 10.0, Itself),
    most("start", START, "program", 3072.0, Itself),
];

/// The verdict on one mark.
pub struct Verdict {
    /// The load, its form, and the figure.
    pub what: String,
    /// Whether the mark is the least that is to be reached, not the most.
    pub more_is_better: bool,
    /// The mark.
    pub limit: f64,
    /// The name of the figure that the mark is a multiple of; empty if there is none.
    pub reference: String,
    /// The figure, in the terms of the mark.
    pub measured: f64,
    /// Whether the mark is met.
    pub met: bool,
}

/// Returns the verdicts on those marks for which everything was measured.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    MARKS
        .iter()
        .filter_map(|mark| mark.verdict(results))
        .collect()
}

impl Mark {
    fn verdict(&self, results: &Results) -> Option<Verdict> {
        let of = |variant, server| results.median(self.load, variant, server, self.metric);
        let own = of(self.variant, Server::Onionbus)?;
        let (figure, reference) = match self.against {
            Best(servers) => {
                let held = servers
                    .iter()
                    .filter_map(|server| of(self.variant, *server));
                let best = held.reduce(if self.more_is_better {
                    f64::max
                } else {
                    f64::min
                })?;
                let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
                (best, names.join(" or "))
            }
            Variant(variant) => (of(variant, Server::Onionbus)?, variant.into()),
            Itself => (1.0, String::new()),
        };
        let measured = own / figure;
        Some(Verdict {
            what: format!("{}, {}: {}", self.load, self.variant, self.metric),
            more_is_better: self.more_is_better,
            limit: self.limit,
            reference,
            measured,
            met: if self.more_is_better {
                measured >= self.limit
            } else {
                measured <= self.limit
            },
        })
    }
}
