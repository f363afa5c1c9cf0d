//! The table of grants: what a line after Allow or Deny can speak of, and all such lines together.

use std::collections::{BTreeMap, BTreeSet};

use super::add_onion::OnionGrant;
use super::pattern::Patterns;
use crate::command::is_own_option;
use crate::wire::event::EventKind;
use crate::wire::fields::number;
use crate::wire::request::Signal;
use crate::wire::shown::shown;

/// The kinds of words that a line takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// Names; a `*` may end one where `star` is set.
    Words {
        star: bool,
    },
    Settings,
    Events,
    Onion,
    /// These verbs, one or more, and then `own` or the other word.
    Scope {
        verbs: &'static [&'static str],
        whole: &'static str,
    },
    /// `get` or `set`, and options.
    BusConf,
}

macro_rules! whats {
    ($($variant:ident $name:literal $takes:expr;)+) => {
        /// What a line after Allow or Deny speaks of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum What { $($variant),+ }

        impl What {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            const fn takes(self) -> Takes {
                match self { $(Self::$variant => $takes),+ }
            }
        }
    };
}

const STAR: Takes = Takes::Words { star: true };
const CIRCUITS: &[&str] = &["build", "close", "extend", "purpose"];
const STREAMS: &[&str] = &["attach", "close", "redirect"];
const KEYS: &[&str] = &["add", "remove", "view"];

whats! {
    All "all" Takes::Nothing;
    AddOnion "add_onion" Takes::Onion;
    BusConf "busconf" Takes::BusConf;
    BusSignal "bussignal" Takes::Words { star: false };
    Circuits "circuits" Takes::Scope { verbs: CIRCUITS, whole: "any" };
    ClientAuth "client_auth" Takes::Scope { verbs: KEYS, whole: "any" };
    DelOnion "del_onion" Takes::Scope { verbs: &[], whole: "" };
    DropGuards "dropguards" Takes::Nothing;
    DropTimeouts "droptimeouts" Takes::Nothing;
    Events "events" Takes::Events;
    GetConf "getconf" STAR;
    GetInfo "getinfo" STAR;
    HsFetch "hsfetch" Takes::Nothing;
    HsPost "hspost" Takes::Nothing;
    List "list" Takes::Nothing;
    LoadConf "loadconf" Takes::Nothing;
    MapAddress "mapaddress" Takes::Nothing;
    Name "name" STAR;
    Onions "onions" Takes::Scope { verbs: &[], whole: "all" };
    Ownership "ownership" Takes::Nothing;
    Post "post" STAR;
    PostDescriptor "postdescriptor" Takes::Nothing;
    Read "read" STAR;
    ResetConf "resetconf" Takes::Words { star: false };
    Resolve "resolve" Takes::Nothing;
    SaveConf "saveconf" Takes::Nothing;
    SetConf "setconf" Takes::Settings;
    Signal "signal" STAR;
    Streams "streams" Takes::Scope { verbs: STREAMS, whole: "any" };
}

impl What {
    pub fn parse(name: &[u8]) -> Option<Self> {
        let is = |what: &Self| what.name().as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.iter().copied().find(is)
    }

    /// Whether letter case counts in its words, which are else kept in one case.
    const fn has_case(self) -> bool {
        matches!(self, Self::GetInfo | Self::Name | Self::Post | Self::Read)
    }
}

/// How an event is granted; the widest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Its subscription is accepted, and it is never delivered.
    Quiet,
    /// Delivered where it is about what is the connection's own.
    Own,
    /// Delivered always.
    Plain,
}

impl Form {
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Quiet => ":quiet",
            Self::Own => ":own",
            Self::Plain => "",
        }
    }
}

/// Of whom something is granted; the widest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Own,
    Any,
}

/// The values that an option may be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    Any,
    Of(BTreeSet<Vec<u8>>),
}

impl Values {
    /// Whether a value, or none, is covered. A list that has `N-M` means the numbers too.
    pub fn covers(&self, value: Option<&[u8]>) -> bool {
        let (Self::Of(values), Some(value)) = (self, value) else {
            return *self == Self::Any;
        };
        values.contains(value) || values.iter().any(|range| is_between(range, value))
    }

    fn unite(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Of(values), Self::Of(more)) => values.extend(more),
            (Self::Any, _) | (_, Self::Any) => *self = Self::Any,
        }
    }
}

fn is_between(range: &[u8], value: &[u8]) -> bool {
    let ends = numbers(range);
    ends.is_some_and(|(low, high)| number(value).is_some_and(|n| (low..=high).contains(&n)))
}

/// The ends of `N-M`.
pub fn numbers(range: &[u8]) -> Option<(u64, u64)> {
    let dash = memchr::memchr(b'-', range)?;
    let (low, high) = (number(&range[..dash])?, number(&range[dash + 1..])?);
    (low <= high).then_some((low, high))
}

/// The events that have something of their controller's own.
const OWN_EVENTS: &[&str] = &[
    "ACTION",
    "CIRC",
    "CIRC_BW",
    "CIRC_MINOR",
    "CONF_CHANGED",
    "CONTROLLER",
    "HS_DESC",
    "HS_DESC_CONTENT",
    "SIGNAL",
    "STREAM",
];

/// The bus's events that a policy grants.
const BUS_EVENTS: &[&str] = &["ACTION", "CONTROLLER", "DENIED", "LEASE"];

/// Everything that lines after Allow, or after Deny, speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub plain: BTreeSet<What>,
    pub words: BTreeMap<What, Patterns>,
    /// Options of the bus that may be set; those to be read stand in `words`.
    pub bus_set: Patterns,
    /// Options in lower case.
    pub setconf: BTreeMap<Vec<u8>, Values>,
    /// Every option, which only a Deny has.
    pub setconf_all: bool,
    /// Events in upper case, `*` among them.
    pub events: BTreeMap<Vec<u8>, Form>,
    pub onions: Vec<OnionGrant>,
    pub scopes: BTreeMap<(What, &'static str), Scope>,
}

impl Table {
    /// Takes in the words behind Allow or Deny, or says what is wrong with them.
    pub fn add(&mut self, words: &[Vec<u8>], is_deny: bool) -> Result<(), String> {
        let (what, words) = words
            .split_first()
            .ok_or("what? onionbus-policy(5) has the list")?;
        let what = What::parse(what).ok_or_else(|| {
            let what = shown(what);
            format!("'{what}' is nothing that can be granted; onionbus-policy(5) has the list")
        })?;
        let name = what.name();
        let is_empty = words.is_empty();
        if is_empty && is_deny {
            self.add_all(what);
            return Ok(());
        }
        match what.takes() {
            Takes::Nothing if is_empty => {
                self.plain.insert(what);
            }
            Takes::Nothing => return Err(format!("{name} takes no words")),
            _ if is_empty => return Err(format!("{name} needs words: which?")),
            Takes::Words { star } => self.add_words(what, words, star || is_deny)?,
            Takes::Settings => self.add_settings(words, is_deny)?,
            Takes::Events => {
                for word in words {
                    let (event, form) = event(word, is_deny)?;
                    let known = self.events.entry(event).or_insert(form);
                    *known = form.max(*known);
                }
            }
            Takes::Onion => {
                let grant = OnionGrant::parse(words, is_deny)?;
                if !self.onions.contains(&grant) {
                    self.onions.push(grant);
                    self.onions.sort();
                }
            }
            Takes::Scope { verbs, whole } => self.add_scopes(what, words, verbs, whole, is_deny)?,
            Takes::BusConf => {
                let (kind, options) = (&words[0], &words[1..]);
                if options.is_empty() && !is_deny {
                    return Err("busconf needs get or set, and options".into());
                }
                let patterns = match &kind.to_ascii_lowercase()[..] {
                    b"get" => self.words.entry(what).or_default(),
                    b"set" => &mut self.bus_set,
                    _ => return Err("busconf needs get or set, and options".into()),
                };
                patterns.all |= options.is_empty();
                for option in options {
                    if option != b"*" && !is_own_option(option) {
                        return Err(format!("'{}' is no option of the bus", shown(option)));
                    }
                    patterns.insert(&option.to_ascii_lowercase());
                }
            }
        }
        Ok(())
    }

    /// Covers everything of a kind, as only a Deny does.
    fn add_all(&mut self, what: What) {
        match what.takes() {
            Takes::Nothing => {
                self.plain.insert(what);
            }
            Takes::Words { .. } => self.words.entry(what).or_default().all = true,
            Takes::Settings => self.setconf_all = true,
            Takes::Events => {
                self.events.insert(b"*".to_vec(), Form::Plain);
            }
            Takes::Onion => self.onions = vec![OnionGrant::everything()],
            Takes::Scope { verbs, .. } => {
                let verbs = if verbs.is_empty() { &[""][..] } else { verbs };
                for &verb in verbs {
                    self.scopes.insert((what, verb), Scope::Any);
                }
            }
            Takes::BusConf => {
                self.words.entry(what).or_default().all = true;
                self.bus_set.all = true;
            }
        }
    }

    fn add_words(&mut self, what: What, words: &[Vec<u8>], star: bool) -> Result<(), String> {
        let patterns = self.words.entry(what).or_default();
        let name = what.name();
        for word in words {
            let body = word.strip_suffix(b"*").unwrap_or(word);
            let text = shown(word);
            if body.contains(&b'*') || (body.len() < word.len() && !star) {
                return Err(if star {
                    format!("'{text}': a * can only end a word of {name}")
                } else {
                    format!("'{text}': {name} takes whole names, without a *")
                });
            }
            match what {
                What::Signal | What::BusSignal if !body.is_empty() => {
                    let signal = Signal::parse(word)
                        .filter(|signal| signal.is_own() == (what == What::BusSignal));
                    let signal =
                        signal.ok_or_else(|| format!("'{text}' is no signal of {name}"))?;
                    patterns.insert(signal.name().as_bytes());
                }
                What::Post | What::Read if !word.starts_with(b"@") && !word.is_empty() => {
                    return Err(format!("'{text}': {name} takes @all or @NAME"));
                }
                _ if what.has_case() => patterns.insert(word),
                _ => patterns.insert(&word.to_ascii_lowercase()),
            }
        }
        Ok(())
    }

    fn add_settings(&mut self, words: &[Vec<u8>], is_deny: bool) -> Result<(), String> {
        for word in words {
            let end = memchr::memchr(b'=', word);
            let name = word[..end.unwrap_or(word.len())].to_ascii_lowercase();
            if name == b"*" && is_deny {
                self.setconf_all = true;
                continue;
            }
            if name.contains(&b'*') || name.is_empty() {
                let text = shown(word);
                return Err(format!("'{text}': setconf takes whole names, without a *"));
            }
            let values = match end {
                None => Values::Any,
                Some(end) => {
                    let values = word[end + 1..].split(|&octet| octet == b'|');
                    Values::Of(values.map(<[u8]>::to_vec).collect())
                }
            };
            match self.setconf.get_mut(&name) {
                Some(known) => known.unite(values),
                None => {
                    self.setconf.insert(name, values);
                }
            }
        }
        Ok(())
    }

    fn add_scopes(
        &mut self,
        what: What,
        words: &[Vec<u8>],
        verbs: &'static [&'static str],
        whole: &str,
        is_deny: bool,
    ) -> Result<(), String> {
        let name = what.name();
        let scope_of = |word: &[u8]| match word.to_ascii_lowercase() {
            word if word == b"own" => Some(Scope::Own),
            word if !whole.is_empty() && word == whole.as_bytes() => Some(Scope::Any),
            _ => None,
        };
        let last = words.last().map(Vec::as_slice).unwrap_or_default();
        let (scope, given) = match scope_of(last) {
            Some(scope) => (scope, &words[..words.len() - 1]),
            None if is_deny => (Scope::Any, words),
            None if whole.is_empty() => return Err(format!("{name} takes own")),
            None => return Err(format!("{name} ends with own or {whole}: of whom?")),
        };
        let mut found = Vec::new();
        for word in given {
            let verb = verbs
                .iter()
                .find(|verb| verb.as_bytes().eq_ignore_ascii_case(word));
            found.push(*verb.ok_or_else(|| {
                format!(
                    "'{}' is no word of {name}; {}",
                    shown(word),
                    verbs.join(", ")
                )
            })?);
        }
        if found.is_empty() {
            match verbs {
                [] => found.push(""),
                all if is_deny => found.extend(all),
                _ => return Err(format!("{name} needs at least one of {}", verbs.join(", "))),
            }
        }
        for verb in found {
            let known = self.scopes.entry((what, verb)).or_insert(scope);
            *known = scope.max(*known);
        }
        Ok(())
    }

    pub fn covers_word(&self, what: What, name: &[u8]) -> bool {
        self.words
            .get(&what)
            .is_some_and(|words| words.covers(name))
    }

    pub fn scope(&self, what: What, verb: &'static str) -> Option<Scope> {
        self.scopes.get(&(what, verb)).copied()
    }

    /// Whether something of this owner, or of another, is covered.
    pub fn covers_scope(&self, what: What, verb: &'static str, is_own: bool) -> bool {
        match self.scope(what, verb) {
            None => false,
            Some(Scope::Own) => is_own,
            Some(Scope::Any) => true,
        }
    }
}

/// The event of a word, in upper case, and how it is granted.
fn event(word: &[u8], is_deny: bool) -> Result<(Vec<u8>, Form), String> {
    let colon = memchr::memchr(b':', word);
    let name = word[..colon.unwrap_or(word.len())].to_ascii_uppercase();
    let suffix = colon.map(|colon| word[colon + 1..].to_ascii_lowercase());
    let text = shown(word);
    let is_of_bus = |name: &[u8]| BUS_EVENTS.iter().any(|event| event.as_bytes() == name);
    let is_known = match EventKind::parse(&name) {
        Some(kind) => !kind.is_own() || is_of_bus(&name),
        None => name == b"*" || is_of_bus(&name),
    };
    if !is_known {
        return Err(format!("'{text}' is no event that a policy grants"));
    }
    let form = match suffix.as_deref() {
        None => Form::Plain,
        Some(_) if is_deny => return Err(format!("'{text}': a Deny takes events whole")),
        Some(b"quiet") => Form::Quiet,
        Some(b"own") if OWN_EVENTS.iter().any(|event| event.as_bytes() == name) => Form::Own,
        Some(b"own") => {
            let own = OWN_EVENTS.join(", ");
            return Err(format!("'{text}': only these have an own form: {own}"));
        }
        Some(_) => return Err(format!("'{text}': :own or :quiet can follow an event")),
    };
    if name == b"CONTROLLER" && form == Form::Plain && !is_deny {
        return Err("CONTROLLER of all is granted by Allow list".into());
    }
    Ok((name, form))
}
