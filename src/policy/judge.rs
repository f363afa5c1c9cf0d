//! The verdict on a command.

use super::add_onion;
use super::grants::Grants;
use super::guard::Law;
use super::ledger::Ledger;
use super::table::{Form, What};
use super::target::{self, Behind};
use crate::command::{Verb, is_own_option};
use crate::wire::fields::{AddOnion, Fields, Port, Target, words};
use crate::wire::refusal::Refusal;
use crate::wire::request::{Setting, Signal};

/// The most sockets in the file system that one `ADD_ONION` may lead to: each is looked at.
const MAX_PATHS: usize = 64;

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done as its fields say.
    Allow(Allowed),
    /// It is refused.
    Refuse(Refused),
}

/// A command that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The command as it goes on; flags may have been forced or taken away.
    pub fields: Fields,
    /// Items of GETINFO or GETCONF that have an answer already: their places among the items, and
    /// the text. The others are asked for.
    pub answers: Vec<(usize, Vec<u8>)>,
    /// How each event of SETEVENTS is granted, in upper case.
    pub events: Vec<(Vec<u8>, Form)>,
    /// How much of the reply is shown.
    pub views: Views,
    /// The refusal that it would have been, if the policy only complains.
    pub complaint: Option<Refused>,
}

/// The parts of replies of which only what is one's own is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is about another key")]
pub struct Views {
    /// Of `circuit-status` the own circuits.
    pub own_circuits: bool,
    /// Of `stream-status` the own streams.
    pub own_streams: bool,
    /// Of `onions/current` and `onions/detached` the own services.
    pub own_onions: bool,
    /// Of `ONION_CLIENT_AUTH_VIEW` the own keys.
    pub own_keys: bool,
}

/// A command that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reply.
    pub refusal: Refusal,
    /// The names of what was refused, never values; empty if it is the whole command.
    pub names: Vec<Vec<u8>>,
}

impl Allowed {
    fn of(fields: Fields) -> Self {
        Self {
            fields,
            answers: Vec::new(),
            events: Vec::new(),
            views: Views::default(),
            complaint: None,
        }
    }
}

/// Judges a command by its fields.
#[must_use]
pub fn judge(grants: &Grants, ledger: &Ledger, behind: &Behind<'_>, fields: &Fields) -> Verdict {
    let judge = Judge {
        grants,
        ledger,
        behind,
    };
    if grants.is_everything() {
        return Verdict::Allow(Judge::allowed_whole(fields));
    }
    let unauthorized = |refused: Refused| Refused {
        refusal: Refusal::Unauthorized(Box::new(refused.refusal)),
        ..refused
    };
    match judge.judge(fields).map_err(unauthorized) {
        Ok(allowed) => Verdict::Allow(allowed),
        Err(refused) if grants.complain => Verdict::Allow(Allowed {
            complaint: Some(refused),
            ..Judge::allowed_whole(fields)
        }),
        Err(refused) => Verdict::Refuse(refused),
    }
}

/// Whether a text of options may change those of the bus. One line of the bus's is enough: all that
/// the text leaves out is set back, and where no Tor is, also by a text that sets nothing. Any line
/// that looks like one counts, also within a value that goes on, so that this depends on no reader.
pub(super) fn changes_bus(text: &[u8]) -> bool {
    let is_blank = |octet: &u8| octet.is_ascii_whitespace() || octet.is_ascii_control();
    let mut is_empty = true;
    for line in text.split(|&octet| octet == b'\n') {
        let blanks = line.iter().take_while(|octet| is_blank(octet)).count();
        let line = line.get(blanks..).unwrap_or_default();
        if is_own_option(line) {
            return true;
        }
        is_empty &= line.is_empty() || line.starts_with(b"#");
    }
    is_empty
}

impl Law<'_> {
    /// Whether the verdict on a command depends on what Tor has not said: its options and listeners,
    /// and the client keys that it has.
    #[must_use]
    pub fn lacks_facts(&self, fields: &Fields) -> bool {
        let is_unknown = self.behind.options.is_none();
        match fields {
            Fields::GetConf(names) => is_unknown && !names.iter().all(|name| is_own_option(name)),
            Fields::SetConf(settings) | Fields::ResetConf(settings) => {
                is_unknown && !settings.iter().all(|one| is_own_option(&one.name))
            }
            Fields::AddOnion(_) => is_unknown,
            Fields::ClientAuthAdd(_) => !self.is_told,
            _ => false,
        }
    }

    /// The refusal of a command that cannot be judged for want of that.
    #[must_use]
    pub fn cannot_judge(&self) -> Refusal {
        Refusal::Failed(if self.is_told {
            "Tor does not say which options and listeners it has".into()
        } else {
            "Tor is not reachable: it has not said which options it has".into()
        })
    }
}

struct Judge<'a> {
    grants: &'a Grants,
    ledger: &'a Ledger,
    behind: &'a Behind<'a>,
}

type Judged = Result<Allowed, Refused>;

/// A refusal of one named item.
fn refuse(refusal: Refusal, name: &[u8]) -> Refused {
    Refused {
        refusal,
        names: vec![name.to_vec()],
    }
}

impl Judge<'_> {
    /// A command that is done as it is, all its events plain.
    fn allowed_whole(fields: &Fields) -> Allowed {
        let mut allowed = Allowed::of(fields.clone());
        if let Fields::SetEvents(events) = fields {
            let plain = |event: &Vec<u8>| (event.to_ascii_uppercase(), Form::Plain);
            allowed.events = events.iter().map(plain).collect();
        }
        allowed
    }

    /// The refusal of a whole command, of which no grant speaks.
    fn filtered(&self) -> Refused {
        Refused {
            refusal: words::filtered(&self.grants.profiles),
            names: Vec::new(),
        }
    }

    fn whole(&self, fields: &Fields, is_allowed: bool) -> Judged {
        if is_allowed {
            Ok(Allowed::of(fields.clone()))
        } else {
            Err(self.filtered())
        }
    }

    fn plain(&self, fields: &Fields, what: What) -> Judged {
        self.whole(fields, self.grants.has_plain(what))
    }

    fn judge(&self, fields: &Fields) -> Judged {
        let grants = self.grants;
        match fields {
            Fields::Session(_) | Fields::UseFeature(_) => self.whole(fields, true),
            Fields::GetInfo(keys) => self.get_info(fields, keys),
            Fields::GetConf(names) => self.get_conf(fields, names),
            Fields::SetConf(settings) => self.settings(fields, settings, Verb::SetConf),
            Fields::ResetConf(settings) => self.settings(fields, settings, Verb::ResetConf),
            Fields::LoadConf(text) => {
                let is_granted = grants.has_plain(What::LoadConf) && !grants.denies_settings();
                let is_of_tor = !changes_bus(text);
                self.whole(
                    fields,
                    is_granted && (is_of_tor || grants.sets_all_of_bus()),
                )
            }
            Fields::SetEvents(events) => self.set_events(fields, events),
            Fields::Signal(name) => self.signal(fields, name),
            Fields::SaveConf { .. } => self.plain(fields, What::SaveConf),
            Fields::TakeOwnership | Fields::DropOwnership => self.plain(fields, What::Ownership),
            Fields::MapAddress(_) => self.plain(fields, What::MapAddress),
            Fields::PostDescriptor { .. } => self.plain(fields, What::PostDescriptor),
            Fields::Resolve { .. } => self.plain(fields, What::Resolve),
            Fields::HsFetch { .. } => self.plain(fields, What::HsFetch),
            Fields::HsPost(_) => self.plain(fields, What::HsPost),
            Fields::DropGuards => self.plain(fields, What::DropGuards),
            Fields::DropTimeouts => self.plain(fields, What::DropTimeouts),
            Fields::ControllerName(name) => self.whole(fields, grants.has_word(What::Name, name)),
            Fields::PostMessage { destination, .. } => {
                let destination = [b"@", &destination[..]].concat();
                self.whole(fields, grants.has_word(What::Post, &destination))
            }
            Fields::AddOnion(onion) => self.add_onion(onion),
            Fields::DelOnion(onion) => {
                // Tor knows services by their lower case only.
                let is_own = self.ledger.owns_onion(onion, grants.owner());
                self.of_scope(fields, What::DelOnion, "", is_own, onion.as_bytes(), |_| {
                    words::unknown_onion()
                })
            }
            Fields::ClientAuthAdd(key) => {
                let is_foreign = self.ledger.has_foreign_key(&key.onion, grants.owner());
                self.whole(
                    fields,
                    grants.has_scope(What::ClientAuth, "add", !is_foreign),
                )
            }
            Fields::ClientAuthRemove(onion) => {
                let is_own = self.ledger.owns_key(onion, grants.owner());
                let id = onion.as_bytes();
                self.of_scope(
                    fields,
                    What::ClientAuth,
                    "remove",
                    is_own,
                    id,
                    words::no_credentials,
                )
            }
            Fields::ClientAuthView(_) => {
                let mut allowed =
                    self.whole(fields, grants.has_scope(What::ClientAuth, "view", true))?;
                allowed.views.own_keys = !grants.has_scope(What::ClientAuth, "view", false);
                Ok(allowed)
            }
            Fields::ExtendCircuit(extend) if extend.circuit == 0 => {
                // What is built is one's own.
                self.whole(fields, grants.has_scope(What::Circuits, "build", true))
            }
            Fields::ExtendCircuit(extend) => self.circuit(fields, "extend", extend.circuit),
            Fields::SetCircuitPurpose { circuit, .. } => self.circuit(fields, "purpose", *circuit),
            Fields::CloseCircuit { circuit, .. } => self.circuit(fields, "close", *circuit),
            Fields::AttachStream(attach) => {
                self.stream(fields, "attach", attach.stream)?;
                let is_own =
                    attach.circuit == 0 || self.ledger.is_own_circuit(attach.circuit, grants);
                let id = attach.circuit.to_string();
                let id = id.as_bytes();
                self.of_scope(
                    fields,
                    What::Streams,
                    "attach",
                    is_own,
                    id,
                    words::unknown_circuit,
                )
            }
            Fields::RedirectStream(redirect) => self.stream(fields, "redirect", redirect.stream),
            Fields::CloseStream { stream, .. } => self.stream(fields, "close", *stream),
        }
    }

    fn signal(&self, fields: &Fields, name: &[u8]) -> Judged {
        let refusal = || Refusal::UnrecognizedSignal(name.to_vec());
        let signal = Signal::parse(name).ok_or_else(|| refuse(refusal(), name))?;
        let what = if signal.is_own() {
            What::BusSignal
        } else {
            What::Signal
        };
        let name = signal.name().as_bytes();
        if self.grants.has_word(what, name) {
            return Ok(Allowed::of(fields.clone()));
        }
        Err(refuse(refusal(), name))
    }

    /// A command about one thing, which may be its own or another's: then that there is such a
    /// thing is not told.
    fn of_scope(
        &self,
        fields: &Fields,
        what: What,
        verb: &'static str,
        is_own: bool,
        id: &[u8],
        unknown: impl Fn(&[u8]) -> Refusal,
    ) -> Judged {
        if self.grants.has_scope(what, verb, is_own) {
            return Ok(Allowed::of(fields.clone()));
        }
        if self.grants.speaks_of(what, verb) {
            return Err(refuse(unknown(id), id));
        }
        Err(self.filtered())
    }

    fn circuit(&self, fields: &Fields, verb: &'static str, circuit: u32) -> Judged {
        let is_own = self.ledger.is_own_circuit(circuit, self.grants);
        let id = circuit.to_string();
        let id = id.as_bytes();
        self.of_scope(
            fields,
            What::Circuits,
            verb,
            is_own,
            id,
            words::unknown_circuit,
        )
    }

    fn stream(&self, fields: &Fields, verb: &'static str, stream: u64) -> Judged {
        let is_own = self.ledger.is_own_stream(stream, self.grants);
        let id = stream.to_string();
        let id = id.as_bytes();
        self.of_scope(
            fields,
            What::Streams,
            verb,
            is_own,
            id,
            words::unknown_stream,
        )
    }

    fn get_info(&self, fields: &Fields, keys: &[Vec<u8>]) -> Judged {
        let grants = self.grants;
        let mut allowed = Allowed::of(fields.clone());
        let mut refused = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            if grants.has_key(key) {
                let views = &mut allowed.views;
                match &key[..] {
                    b"circuit-status" => views.own_circuits = !grants.sees_all(b"CIRC"),
                    b"stream-status" => views.own_streams = !grants.sees_all(b"STREAM"),
                    b"onions/current" | b"onions/detached" => {
                        views.own_onions = !grants.shows_all_onions();
                    }
                    _ => {}
                }
                continue;
            }
            let is_denied = grants.denies_all() || grants.deny.covers_word(What::GetInfo, key);
            match grants.answers.get(key).filter(|_| !is_denied) {
                Some(text) => allowed.answers.push((place, text.clone())),
                None => refused.push(key.clone()),
            }
        }
        if refused.is_empty() {
            return Ok(allowed);
        }
        Err(Refused {
            refusal: Refusal::UnrecognizedKeys(refused.clone()),
            names: refused,
        })
    }

    fn get_conf(&self, fields: &Fields, names: &[Vec<u8>]) -> Judged {
        let grants = self.grants;
        let mut allowed = Allowed::of(fields.clone());
        let mut refused = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let lower = name.to_ascii_lowercase();
            if grants.has_option(What::GetConf, &lower, self.behind) {
                continue;
            }
            let is_denied = grants.denies_all() || grants.deny.covers_word(What::GetConf, &lower);
            let is_key = |key: &&Vec<u8>| key.eq_ignore_ascii_case(name);
            let answer = grants.answers.keys().find(is_key).filter(|_| !is_denied);
            match answer.and_then(|key| grants.answers.get(key)) {
                Some(text) => allowed.answers.push((place, text.clone())),
                None => refused.push(name.clone()),
            }
        }
        if refused.is_empty() {
            return Ok(allowed);
        }
        Err(Refused {
            refusal: Refusal::UnrecognizedOptions(refused.clone()),
            names: refused,
        })
    }

    fn settings(&self, fields: &Fields, settings: &[Setting], verb: Verb) -> Judged {
        for setting in settings {
            let name = &setting.name;
            let lower = name.to_ascii_lowercase();
            // An empty value sets an option back as none does.
            let value = setting.value.as_deref();
            if verb == Verb::ResetConf && value.is_none() {
                if !self.grants.has_option(What::ResetConf, &lower, self.behind) {
                    return Err(refuse(words::unknown_option(name), name));
                }
                continue;
            }
            if !self.grants.has_setting(&lower, self.behind) {
                return Err(refuse(words::unknown_option(name), name));
            }
            if !self.grants.has_value(&lower, value) {
                return Err(refuse(words::filtered_value(name), name));
            }
        }
        Ok(Allowed::of(fields.clone()))
    }

    fn set_events(&self, fields: &Fields, events: &[Vec<u8>]) -> Judged {
        let mut allowed = Allowed::of(fields.clone());
        for event in events {
            let name = event.to_ascii_uppercase();
            // Tor takes these, and they mean nothing any more.
            if matches!(&name[..], b"EXTENDED" | b"AUTHDIR_NEWDESCS") {
                continue;
            }
            match self.grants.event(&name) {
                Some(form) => allowed.events.push((name, form)),
                None => return Err(refuse(Refusal::UnrecognizedEvent(event.clone()), event)),
            }
        }
        Ok(allowed)
    }

    fn add_onion(&self, onion: &AddOnion) -> Judged {
        let grants = self.grants;
        let keyword = |keyword: &str| refuse(words::filtered_keyword(keyword), keyword.as_bytes());
        let same = || Ok(Allowed::of(Fields::AddOnion(onion.clone())));
        if grants.denies_all() {
            return Err(self.filtered());
        }
        let is_path = |port: &&Port| matches!(port.target, Target::Unix(_));
        if onion.ports.iter().filter(is_path).count() > MAX_PATHS {
            return Err(keyword("Port"));
        }
        let touches = |grant: &add_onion::OnionGrant| grant.touches(onion, self.behind);
        if grants.has_all() {
            if grants.deny.onions.iter().any(touches) {
                return Err(self.filtered());
            }
            return same();
        }
        if grants.allow.onions.is_empty() || grants.deny.onions.iter().any(touches) {
            return Err(self.filtered());
        }
        let lines = grants.onion_lines(onion, self.behind).map_err(keyword)?;
        // After that, since it looks at files: only at those that a line means.
        if target::has_forbidden(&onion.ports, self.behind) {
            return Err(keyword("Port"));
        }
        let count = self.ledger.count_onions(grants.owner());
        let Some(line) = lines.iter().find(|line| line.has_room(count)) else {
            return Err(refuse(words::too_many_onions(), b"max"));
        };
        let mut onion = onion.clone();
        onion.flags = line.flags(&onion);
        Ok(Allowed::of(Fields::AddOnion(onion)))
    }
}
