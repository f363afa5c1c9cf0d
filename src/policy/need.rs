//! The lines of a policy that a command needs, and the block of those that many commands need.

use std::collections::BTreeSet;

use super::add_onion::OnionGrant;
use super::file::{Names, Policy, Problem, Source};
use super::grants::Grants;
use super::identity::Identity;
use super::judge::changes_bus;
use super::ledger::Ledger;
use super::list::word;
use crate::command::is_own_option;
use crate::wire::event::EventKind;
use crate::wire::fields::Fields;
use crate::wire::message::ControllerId;
use crate::wire::request::{Setting, Signal};

/// The beginnings of keys of GETINFO behind which one relay, address or service is named. These are
/// many and nobody's business, so a line names the kind.
const KINDS: &[&str] = &[
    "desc/id/",
    "desc/name/",
    "extra-info/digest/",
    "hs/client/desc/id/",
    "hs/service/desc/id/",
    "ip-to-country/",
    "md/id/",
    "md/name/",
    "ns/id/",
    "ns/name/",
];

/// The beginning of the lines that are about onion services.
const ADD_ONION: &str = "Allow add_onion ";

/// The word for an address that is not told.
const ADDRESS: &str = "target=ADDRESS:";

/// What is known beside a command's fields.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The name of an option as its owner spells it.
    pub spell: &'a dyn Fn(&[u8]) -> Vec<u8>,
    /// Whose is what, and the grants of whoever asks; without them nothing is anybody's own.
    pub own: Option<(&'a Ledger, &'a Grants)>,
}

/// A key of GETINFO, or the beginning of it and a `*` where the rest is about one of many.
#[must_use]
pub fn kind_of_key(key: &[u8]) -> Vec<u8> {
    let start = KINDS.iter().find(|start| key.starts_with(start.as_bytes()));
    match start {
        Some(start) => [start.as_bytes(), b"*"].concat(),
        None => key.to_vec(),
    }
}

/// The lines that would allow a command: kinds of keys, ports, flags and names, and no value,
/// address or path. None where everybody may do it.
#[must_use]
pub fn needed(fields: &Fields, known: Known<'_>) -> Vec<String> {
    let mut lines = Lines::default();
    let own = |is_own: bool| if is_own { "own" } else { "any" };
    let circuit = |id: u32| own(known.own.is_some_and(|(l, g)| l.is_own_circuit(id, g)));
    let stream = |id: u64| own(known.own.is_some_and(|(l, g)| l.is_own_stream(id, g)));
    let plain = match fields {
        Fields::Session(_) | Fields::UseFeature(_) => return Vec::new(),
        Fields::GetInfo(keys) => {
            for key in keys {
                lines.key(key);
            }
            return lines.done();
        }
        Fields::GetConf(names) => {
            for name in names {
                let what = if is_own_option(name) {
                    "busconf get"
                } else {
                    "getconf"
                };
                lines.add(what, &(known.spell)(name));
            }
            return lines.done();
        }
        Fields::SetConf(settings) => {
            lines.settings(settings, false, known);
            return lines.done();
        }
        Fields::ResetConf(settings) => {
            lines.settings(settings, true, known);
            return lines.done();
        }
        Fields::SetEvents(events) => {
            for event in events {
                lines.event(event);
            }
            return lines.done();
        }
        Fields::AddOnion(onion) => {
            // The words of a grant name an address; what is told names none.
            let (grant, addresses) = OnionGrant::of(onion);
            let others = addresses.iter().map(|port| format!("{ADDRESS}{port}"));
            let words: Vec<_> = [grant.words()].into_iter().chain(others).collect();
            return vec![ADD_ONION.to_owned() + &words.join(" ")];
        }
        Fields::Signal(name) => match Signal::parse(name) {
            Some(signal) if signal.is_own() => format!("bussignal {}", signal.name()),
            Some(signal) => format!("signal {}", signal.name()),
            None => return Vec::new(),
        },
        Fields::ControllerName(name) => match ControllerId::parse(name) {
            Some(name) => format!("name {name}"),
            None => return Vec::new(),
        },
        Fields::PostMessage { destination, .. } => match ControllerId::parse(destination) {
            Some(name) => format!("post @{name}"),
            None => return Vec::new(),
        },
        Fields::LoadConf(text) if changes_bus(text) => {
            let lines = ["Allow busconf set *", "Allow loadconf"];
            return lines.map(ToOwned::to_owned).into();
        }
        Fields::LoadConf(_) => "loadconf".into(),
        Fields::SaveConf { .. } => "saveconf".into(),
        Fields::TakeOwnership | Fields::DropOwnership => "ownership".into(),
        Fields::MapAddress(_) => "mapaddress".into(),
        Fields::PostDescriptor { .. } => "postdescriptor".into(),
        Fields::Resolve { .. } => "resolve".into(),
        Fields::HsFetch { .. } => "hsfetch".into(),
        Fields::HsPost(_) => "hspost".into(),
        Fields::DropGuards => "dropguards".into(),
        Fields::DropTimeouts => "droptimeouts".into(),
        Fields::DelOnion(_) => "del_onion own".into(),
        Fields::ClientAuthAdd(key) => {
            let is_foreign = |(l, g): (&Ledger, &Grants)| l.has_foreign_key(&key.onion, g.owner());
            let is_foreign = known.own.is_some_and(is_foreign);
            format!("client_auth add {}", own(!is_foreign))
        }
        Fields::ClientAuthRemove(onion) => {
            let is_own = |(l, g): (&Ledger, &Grants)| l.owns_key(onion, g.owner());
            format!("client_auth remove {}", own(known.own.is_some_and(is_own)))
        }
        Fields::ClientAuthView(_) => "client_auth view own".into(),
        Fields::ExtendCircuit(extend) if extend.circuit == 0 => "circuits build own".into(),
        Fields::ExtendCircuit(extend) => format!("circuits extend {}", circuit(extend.circuit)),
        Fields::SetCircuitPurpose { circuit: id, .. } => {
            format!("circuits purpose {}", circuit(*id))
        }
        Fields::CloseCircuit { circuit: id, .. } => format!("circuits close {}", circuit(*id)),
        Fields::AttachStream(attach) => {
            let is_own = stream(attach.stream) == "own"
                && (attach.circuit == 0 || circuit(attach.circuit) == "own");
            format!("streams attach {}", own(is_own))
        }
        Fields::RedirectStream(redirect) => format!("streams redirect {}", stream(redirect.stream)),
        Fields::CloseStream { stream: id, .. } => format!("streams close {}", stream(*id)),
    };
    vec![format!("Allow {plain}")]
}

/// Lines with words, one for each thing that they speak of.
#[derive(Default)]
struct Lines(Vec<(&'static str, BTreeSet<String>)>);

impl Lines {
    fn add(&mut self, what: &'static str, name: &[u8]) {
        let found = self.0.iter().position(|(known, _)| *known == what);
        let place = found.unwrap_or_else(|| {
            self.0.push((what, BTreeSet::new()));
            self.0.len() - 1
        });
        if let Some((_, words)) = self.0.get_mut(place)
            && !name.is_empty()
        {
            words.insert(word(name));
        }
    }

    fn key(&mut self, key: &[u8]) {
        match key {
            b"whoami" | b"policy" | b"posted-message" | b"bus/chain" => {}
            b"list-controllers" => self.add("list", b""),
            b"new-messages" | b"recent-messages" => self.add("read", b"@all"),
            b"onions/current" | b"onions/detached" => self.add("onions", b"own"),
            // What ends with a star would be more than one key.
            key if key.ends_with(b"*") => {}
            key => self.add("getinfo", &kind_of_key(key)),
        }
    }

    fn settings(&mut self, settings: &[Setting], is_reset: bool, known: Known<'_>) {
        for setting in settings {
            let what = match &setting.value {
                _ if is_own_option(&setting.name) => "busconf set",
                None if is_reset => "resetconf",
                _ => "setconf",
            };
            self.add(what, &(known.spell)(&setting.name));
        }
    }

    fn event(&mut self, event: &[u8]) {
        match EventKind::parse_with_policy(event) {
            Some(EventKind::PostMessage) => self.add("read", b"@all"),
            Some(EventKind::Controller) => self.add("list", b""),
            // Everybody may have these; and no line can name a newer Tor's.
            Some(EventKind::Policy | EventKind::Tor | EventKind::Restore) | None => {}
            Some(kind) => self.add("events", kind.name().unwrap_or_default().as_bytes()),
        }
    }

    fn done(self) -> Vec<String> {
        let line = |(what, words): (&str, BTreeSet<String>)| {
            let words = words.into_iter().map(|word| " ".to_owned() + &word);
            format!("Allow {what}{}", words.collect::<String>())
        };
        self.0.into_iter().map(line).collect()
    }
}

/// The block of lines that allow all that these lines allow, with a range where only numbers of
/// onion services' targets vary. Fails where a line is none.
pub fn learn<'a>(
    name: &str,
    user: Option<&str>,
    lines: impl Iterator<Item = &'a str>,
) -> Result<String, Vec<Problem>> {
    let (mut others, mut onions, mut unclear) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let mut count = 0;
    for line in lines {
        match line.strip_prefix(ADD_ONION) {
            Some(_) if line.contains(ADDRESS) => {
                unclear.insert(line);
            }
            Some(words) => {
                let octets = |word: &str| word.as_bytes().to_vec();
                let words: Vec<_> = words.split(' ').map(octets).collect();
                let problem = |text| {
                    let file = String::new();
                    vec![Problem {
                        file,
                        line: None,
                        text,
                    }]
                };
                onions.push(OnionGrant::parse(&words, false).map_err(problem)?);
                count += 1;
            }
            None => {
                others.insert(line);
            }
        }
    }
    let onions = OnionGrant::merged(onions, count);
    let onions = onions
        .iter()
        .map(|grant| ADD_ONION.to_owned() + &grant.words());
    let matching = user.map_or_else(|| "any".into(), |user| format!("user={user}"));
    let mut text = format!("Profile {name}\nMatch any\n");
    for line in others.iter().map(ToString::to_string).chain(onions) {
        text += &line;
        text += "\n";
    }
    let source = Source {
        file: "the audit log",
        text: text.as_bytes(),
        group: 0,
    };
    let policy = Policy::parse(&[source], &Names::default())?;
    let mut block = format!("Profile {name}\nMatch {matching}\n");
    for line in Grants::unite(&policy, &Identity::default()).list() {
        block += &line;
        block += "\n";
    }
    for line in unclear {
        block += "# The log names no address: put it in for ADDRESS, and take the # away.\n# ";
        block += line;
        block += "\n";
    }
    Ok(block)
}
