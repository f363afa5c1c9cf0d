//! Actions: commands that change something, by their names and without their values.

use super::Watch;
use super::names::Names;
use crate::command::Verb;
use crate::policy::{Grants, Known, Ledger, kind_of_key, needed};
use crate::wire::fields::{Fields, Onion};
use crate::wire::gist::Gist;
use crate::wire::request::{RequestOf, Setting, Signal};
use crate::wire::torrc;

/// The most octets of all arguments together.
const MOST: usize = 1024;

/// The argument that stands for all that are too many.
const REST: &[u8] = b"...";

/// One command, for as long as it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    verb: Option<Verb>,
    args: Vec<Vec<u8>>,
    told: Told,
    /// The lines of a policy that would allow it, in as many lines; for the log only.
    pub grant: String,
    /// It is told by its fields.
    pub is_parsed: bool,
    /// It is written down that somebody is about to do it.
    pub is_attempted: bool,
}

/// The place of what the arguments cannot say yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// They say it.
    Already,
    /// The reply names the service.
    Service,
    /// The reply names the circuit.
    Circuit,
    /// The reply names each address that is mapped.
    Maps,
}

impl Action {
    /// A command by its fields. `own` knows whose is what, where a policy is in force.
    #[must_use]
    pub fn of_fields(fields: &Fields, watch: &Watch<'_>, own: Option<(&Ledger, &Grants)>) -> Self {
        let names = watch.names;
        let spell = |name: &[u8]| names.spell(name).to_vec();
        let known = Known { spell: &spell, own };
        let lines = watch.is_written.then(|| needed(fields, known));
        let (args, told) = args(fields, names);
        Self {
            grant: lines.unwrap_or_default().join("\n"),
            is_parsed: true,
            ..Self::new(Some(fields.verb()), args, told)
        }
    }

    /// A command of the text protocol that Tor may understand and the bus does not.
    #[must_use]
    pub fn of_words(verb: Option<Verb>, arguments: &[u8]) -> Self {
        let is_blank = |octet: &u8| octet.is_ascii_whitespace() || *octet == 0;
        let mut words = arguments.split(is_blank).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let is_word = !first.is_empty() && first.iter().all(u8::is_ascii_uppercase);
        let zero = first.iter().all(|octet| *octet == b'0');
        let (is_named, told) = match verb {
            Some(Verb::AddOnion) => (false, Told::Service),
            Some(Verb::MapAddress) => (false, Told::Maps),
            Some(Verb::ExtendCircuit) if zero => (false, Told::Circuit),
            Some(
                Verb::ExtendCircuit
                | Verb::SetCircuitPurpose
                | Verb::CloseCircuit
                | Verb::AttachStream
                | Verb::RedirectStream
                | Verb::CloseStream,
            ) => (is_number, Told::Already),
            Some(Verb::DelOnion | Verb::OnionClientAuthAdd | Verb::OnionClientAuthRemove) => {
                (Onion::parse(first).is_some(), Told::Already)
            }
            // A newer Tor's.
            Some(Verb::Signal) => (is_word, Told::Already),
            _ => (false, Told::Already),
        };
        let args = is_named.then(|| first.to_vec()).into_iter().collect();
        Self::new(verb, args, told)
    }

    /// The settings of a request that has no fields.
    #[must_use]
    pub fn of_request<B>(request: &RequestOf<B>, names: &Names) -> Self {
        let args = match request {
            RequestOf::SetConf(settings) | RequestOf::ResetConf(settings) => {
                options(settings, names)
            }
            RequestOf::Signal(signal) => vec![signal.name().into()],
            _ => Vec::new(),
        };
        Self::new(Some(request.verb()), args, Told::Already)
    }

    /// A request that is a change of options, without the lines that would allow it.
    #[must_use]
    pub fn of_settings<B>(request: &RequestOf<B>, names: &Names) -> Self {
        Self {
            is_parsed: true,
            ..Self::of_request(request, names)
        }
    }

    fn new(verb: Option<Verb>, args: Vec<Vec<u8>>, told: Told) -> Self {
        Self {
            verb,
            args: bounded(args),
            told,
            grant: String::new(),
            is_parsed: false,
            is_attempted: false,
        }
    }

    /// The octets of memory that it takes.
    #[must_use]
    pub fn held(&self) -> usize {
        let args = self
            .args
            .iter()
            .map(|arg| size_of::<Vec<u8>>() + arg.capacity());
        size_of::<Self>() + self.grant.capacity() + args.sum::<usize>()
    }

    /// Whether the command changes something.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.verb.is_some_and(Verb::changes)
    }

    /// The command's name; a word that nobody knows could be anything.
    #[must_use]
    pub fn command(&self) -> &'static str {
        self.verb.map_or("UNKNOWN", command)
    }

    /// The arguments as far as they are known before it is done.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        shown(self.args.iter().map(Vec::as_slice))
    }

    /// The options that the command may change, or all if these are not known.
    #[must_use]
    pub fn changes(&self) -> Changes<'_> {
        match self.verb {
            Some(Verb::SetConf | Verb::ResetConf) if self.args.iter().any(|arg| arg == REST) => {
                Changes::All(None)
            }
            Some(Verb::SetConf | Verb::ResetConf) => Changes::Options(&self.args),
            // A configuration sets what it does not name, and a file says what nobody else knows.
            Some(Verb::LoadConf) => Changes::All(None),
            Some(Verb::Signal) => match self.args.first().map(Vec::as_slice) {
                Some(name @ (b"RELOAD" | b"BUSRELOAD")) => Changes::All(Some(name)),
                Some(name) => Changes::Signal(name),
                None => Changes::Nothing,
            },
            _ => Changes::Nothing,
        }
    }

    /// The arguments and the status, once the command is answered; none if it was refused.
    #[must_use]
    pub fn end(&self, gist: &Gist) -> Option<(Vec<String>, u16)> {
        let has_agreed = match self.verb {
            Some(Verb::MapAddress) => gist.names().next().is_some(),
            Some(Verb::OnionClientAuthAdd) => gist.ends_well(),
            _ => gist.has_agreed(),
        };
        let status = gist.status().filter(|_| has_agreed)?;
        let args = match self.told {
            Told::Already => self.args(),
            Told::Service => shown(gist.service().into_iter()),
            Told::Maps => shown(gist.names()),
            Told::Circuit => {
                let id = |name: &'_ [u8]| name.strip_prefix(b"EXTENDED ").map(<[u8]>::to_vec);
                let ids: Vec<_> = gist.names().filter_map(id).collect();
                shown(ids.iter().map(Vec::as_slice))
            }
        };
        Some((args, status))
    }
}

/// What a command may change that Tor tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes<'a> {
    /// Nothing.
    Nothing,
    /// These options.
    Options(&'a [Vec<u8>]),
    /// Any option, and with a name that signal is told.
    All(Option<&'a [u8]>),
    /// The signal of this name is told.
    Signal(&'a [u8]),
}

/// A command's keyword, without the `+` of a body.
pub fn command(verb: Verb) -> &'static str {
    match verb.keyword().trim_start_matches('+') {
        "" => "GETINFO",
        keyword => keyword,
    }
}

/// The names up to [`MOST`] octets, so that no command is remembered whole.
fn bounded(mut names: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut room = MOST;
    let place = names.iter().position(|name| {
        let left = room.checked_sub(name.len() + 1);
        room = left.unwrap_or(0);
        left.is_none()
    });
    if let Some(place) = place {
        names.truncate(place);
        names.push(REST.to_vec());
    }
    names
}

/// Names as they are told: words without a blank or a comma, and no more than a thousand octets.
pub fn shown<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut shown, mut room) = (Vec::new(), MOST);
    for name in names {
        let text = name.escape_ascii().to_string();
        let text = text.replace(',', "\\x2c").replace(' ', "\\x20");
        let Some(left) = room.checked_sub(text.len() + 1) else {
            shown.push("...".into());
            break;
        };
        room = left;
        shown.push(text);
    }
    shown
}

fn options(settings: &[Setting], names: &Names) -> Vec<Vec<u8>> {
    // Each is looked for among all options: no command may take the time of others with it.
    let first = settings.iter().take(MOST);
    let mut told = unique(first.map(|one| names.spell(&one.name)));
    if settings.len() > MOST {
        told.push(REST.to_vec());
    }
    told
}

/// The names in their order, each once.
fn unique<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut seen = std::collections::HashSet::new();
    let is_new = |name: &&[u8]| seen.insert(name.to_ascii_lowercase());
    names.filter(is_new).map(<[u8]>::to_vec).collect()
}

fn args(fields: &Fields, names: &Names) -> (Vec<Vec<u8>>, Told) {
    let id = |id: &dyn ToString| vec![id.to_string().into_bytes()];
    let args = match fields {
        Fields::SetConf(settings) | Fields::ResetConf(settings) => options(settings, names),
        Fields::LoadConf(text) => {
            let (lines, _) = torrc::scan(text);
            // A mark before a name adds to what there is, or takes it away.
            let name = |key: &'_ [u8]| match key {
                [b'+' | b'/', name @ ..] | name => name.to_vec(),
            };
            let keys: Vec<_> = lines
                .iter()
                .take(MOST)
                .map(|line| name(&line.key))
                .collect();
            let mut told = unique(keys.iter().map(|key| names.spell(key)));
            if lines.len() > MOST {
                told.push(REST.to_vec());
            }
            told
        }
        Fields::Signal(name) => match Signal::parse(name) {
            Some(signal) => vec![signal.name().into()],
            None => vec![name.to_ascii_uppercase()],
        },
        Fields::MapAddress(_) => return (Vec::new(), Told::Maps),
        Fields::AddOnion(_) => return (Vec::new(), Told::Service),
        Fields::DelOnion(onion) | Fields::ClientAuthRemove(onion) => {
            vec![onion.as_bytes().to_vec()]
        }
        Fields::ClientAuthAdd(key) => vec![key.onion.as_bytes().to_vec()],
        Fields::ExtendCircuit(extend) if extend.circuit == 0 => {
            return (Vec::new(), Told::Circuit);
        }
        Fields::ExtendCircuit(extend) => id(&extend.circuit),
        Fields::SetCircuitPurpose { circuit, .. } | Fields::CloseCircuit { circuit, .. } => {
            id(circuit)
        }
        Fields::AttachStream(attach) => {
            let circuit = Some(attach.circuit).filter(|circuit| *circuit != 0);
            let circuit = circuit.map(|circuit| id(&circuit)).unwrap_or_default();
            [id(&attach.stream), circuit].concat()
        }
        Fields::RedirectStream(redirect) => id(&redirect.stream),
        Fields::CloseStream { stream, .. } => id(stream),
        // The rest is of a policy that complains.
        Fields::GetInfo(keys) => keys.iter().map(|key| kind_of_key(key)).collect(),
        Fields::GetConf(given) => given
            .iter()
            .map(|name| names.spell(name).to_vec())
            .collect(),
        Fields::SetEvents(events) => events.iter().map(|e| e.to_ascii_uppercase()).collect(),
        _ => Vec::new(),
    };
    (args, Told::Already)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields;
    use crate::wire::text::{Framed, Framer};

    const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

    fn names() -> Names {
        let mut names = Names::new(vec![b"BusHistory".to_vec()]);
        names.handle_names(vec![b"Nickname".to_vec(), b"MaxCircuitDirtiness".to_vec()]);
        names
    }

    /// A command's arguments once it has this reply, and its status.
    fn told(line: &str, reply: &str) -> String {
        let octets = format!("{line}\r\n");
        let Framed::Command(command) = Framer::default().next(octets.as_bytes()) else {
            panic!("{line}");
        };
        let verb = Verb::parse(command.keyword);
        let action = match verb.map(|verb| fields::parse(verb, &command)) {
            Some(Ok(fields)) => {
                let names = names();
                let watch = Watch {
                    names: &names,
                    is_written: true,
                };
                Action::of_fields(&fields, &watch, None)
            }
            _ => Action::of_words(verb, command.arguments),
        };
        let mut gist = Gist::default();
        gist.handle_octets(reply.as_bytes());
        match action.end(&gist) {
            Some((args, status)) => format!("{} {} {status}", action.command(), args.join(",")),
            None => String::new(),
        }
    }

    #[test]
    fn an_action_is_told_by_its_names() {
        let ok = "250 OK\r\n";
        let made = format!("250-ServiceID={ONION}\r\n250-PrivateKey=ED25519-V3:k\r\n250 OK\r\n");
        for (line, reply, expected) in [
            (
                "setconf maxcirc=5 NICKNAME=x nickname=y",
                ok,
                "SETCONF MaxCircuitDirtiness,Nickname",
            ),
            (
                "SETCONF ResolvConf=/x bushistory=4",
                ok,
                "SETCONF ResolvConf,BusHistory",
            ),
            ("SETCONF", ok, "SETCONF "),
            ("RESETCONF nickname", ok, "RESETCONF Nickname"),
            (
                "+LOADCONF\r\n# Log x\r\nnickname a\\\r\n Log b\r\n+Log c\r\n/Foo\r\n.",
                ok,
                "LOADCONF Nickname,Log,Foo",
            ),
            ("SAVECONF", ok, "SAVECONF "),
            ("signal hup", ok, "SIGNAL RELOAD"),
            ("SIGNAL FUTURE", ok, "SIGNAL FUTURE"),
            (
                "ADD_ONION NEW:BEST Port=80",
                &made,
                &format!("ADD_ONION {ONION}"),
            ),
            (
                "ADD_ONION NEW:BEST Port=080,127.1:80",
                &made,
                &format!("ADD_ONION {ONION}"),
            ),
            (
                &format!("DEL_ONION {ONION}"),
                ok,
                &format!("DEL_ONION {ONION}"),
            ),
            (
                "MAPADDRESS .=b a.x=c",
                "250-q.virtual=b\r\n250 a.x=c\r\n",
                "MAPADDRESS q.virtual,a.x",
            ),
            ("EXTENDCIRCUIT 0", "250 EXTENDED 7\r\n", "EXTENDCIRCUIT 7"),
            (
                "EXTENDCIRCUIT 5 $AA",
                "250 EXTENDED 5\r\n",
                "EXTENDCIRCUIT 5",
            ),
            ("CLOSECIRCUIT 007", ok, "CLOSECIRCUIT 007"),
            ("ATTACHSTREAM 5 0", ok, "ATTACHSTREAM 5"),
            ("ATTACHSTREAM 5 7", ok, "ATTACHSTREAM 5,7"),
            ("REDIRECTSTREAM 5 host.example", ok, "REDIRECTSTREAM 5"),
            ("RESOLVE host.example", ok, "RESOLVE "),
            (&format!("HSFETCH {ONION}"), ok, "HSFETCH "),
            ("TAKEOWNERSHIP", ok, "TAKEOWNERSHIP "),
            ("DROPGUARDS", ok, "DROPGUARDS "),
        ] {
            assert_eq!(told(line, reply), format!("{expected} 250"), "{line}");
        }
        for (line, reply) in [
            (
                "SETCONF Nickname=x",
                "513 Unacceptable option value: a\r\n250 OK\r\n",
            ),
            ("SIGNAL NEWNYM", ""),
            ("MAPADDRESS a=b", "512 x\r\n"),
        ] {
            assert_eq!(told(line, reply), "", "{line}");
        }
        let mixed = told("MAPADDRESS a=b c=d", "250-a=b\r\n512 syntax error\r\n");
        assert_eq!(mixed, "MAPADDRESS a 512");
        assert_eq!(
            told(&format!("ONION_CLIENT_AUTH_REMOVE {ONION}"), "251 x\r\n").len(),
            85
        );
    }

    #[test]
    fn a_command_with_very_many_names_is_not_remembered_whole() {
        let names: Vec<_> = (0..10_000).map(|n| format!("Option{n}=x")).collect();
        let settings = names.iter().map(|name| Setting {
            name: name.as_bytes().to_vec(),
            value: None,
        });
        let request = RequestOf::<&[u8]>::SetConf(settings.collect());
        let action = Action::of_request(&request, &Names::default());
        assert!(action.held() < 10 * MOST, "{}", action.held());
        assert_eq!(action.args().last().map(String::as_str), Some("..."));
        assert_eq!(action.changes(), Changes::All(None));
    }

    #[test]
    fn arguments_are_words_and_not_too_many() {
        let name = |name: &'static str| name.as_bytes();
        assert_eq!(
            shown([name("a,b c\r\n")].into_iter()),
            ["a\\x2cb\\x20c\\r\\n"]
        );
        let many = vec![name("abcdefghi"); 1000];
        let shown = shown(many.into_iter());
        assert!(shown.join(",").len() <= MOST + 3, "{}", shown.len());
        assert_eq!(shown.last().map(String::as_str), Some("..."));
    }
}
