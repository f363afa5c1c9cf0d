//! The daemon's options: torrc syntax, one table, set, reset and save as one transaction.
//!
//! A change is a value: [`Options::set`] and its like give the options as they would be and
//! what differs, or an error and nothing. The caller puts them in force by taking them.

mod address;
mod load;
mod problem;
mod save;
mod socket;
pub mod table;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use crate::auth::HashedPassword;
use crate::wire::reply::OptionValue;
use crate::wire::request::Setting;
use crate::wire::torrc;
use load::{Fault, Group};

use table::{Changeable, Spec, TABLE, find};
use value::Value;

pub use address::{Address, path_in};
pub use problem::{Problem, Problems};
pub use save::SaveError;
pub use socket::{Login, Protocol, SocketAddress, SocketSpec};

/// The values of the options that depend on who runs the daemon, when nobody sets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The path of the one socket. Absolute.
    pub socket: PathBuf,
    /// The state directory. Absolute.
    pub state_directory: PathBuf,
}

/// One option that a change gives another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The option, in its own spelling.
    pub name: &'static str,
    /// Its values now; none when it is back at its default.
    pub values: Vec<Vec<u8>>,
}

/// A checked change that is not yet in force.
#[derive(Clone, Debug)]
pub struct Change {
    /// The options as they will be.
    pub options: Options,
    /// What differs from before, in the order of [`TABLE`].
    pub changed: Vec<Changed>,
}

/// Why a change cannot be; nothing has changed. Displayed as what follows the status code, in
/// Tor's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// `552`: no option has this name.
    #[error("Unrecognized option: {0}")]
    Unrecognized(String),
    /// `513`: the value is none for this option.
    #[error("Unacceptable option value: {0}")]
    Invalid(String),
    /// `553`: the option changes only at a start.
    #[error("Transition not allowed: {0}")]
    Frozen(String),
    /// `552`: the text given to LOADCONF is no configuration.
    #[error("Invalid config file: {0}")]
    ConfigFile(String),
}

impl From<Fault> for OptionError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unknown(name) => {
                let name = crate::wire::shown::shown(&name);
                Self::Unrecognized(format!("Unknown option '{name}'.  Failing."))
            }
            Fault::Invalid(text) => Self::Invalid(text),
        }
    }
}

/// The values in force, as the rest of the daemon uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct Settings {
    /// `BusSocket`: at least one.
    pub sockets: Vec<SocketSpec>,
    /// `BusStateDirectory`, absolute.
    pub state_directory: PathBuf,
    /// `BusUser`.
    pub user: Option<String>,
    /// `BusConfine`.
    pub confine: bool,
    /// `BusCookieAuthentication`.
    pub cookie_authentication: bool,
    /// `BusHashedPassword`.
    pub hashed_passwords: Vec<HashedPassword>,
    /// `BusHistory`, in messages.
    pub history: usize,
    /// `BusMaxMessageLength`, in octets.
    pub max_message_length: usize,
    /// `BusMaxQueue`, in octets.
    pub max_queue: usize,
    /// `BusMaxMemory`, in octets.
    pub max_memory: usize,
    /// `BusMaxMemoryPerUser`, in octets; 0 is half of all.
    pub max_memory_per_user: usize,
    /// `BusMaxControllers`.
    pub max_controllers: usize,
    /// `BusMaxControllersPerUser`.
    pub max_controllers_per_user: usize,
    /// `BusBandwidthInterval`, whole seconds.
    pub bandwidth_interval: Duration,
    /// `BusLog`; Tor's notice is the log crate's info, info its debug, debug its trace.
    pub log: LevelFilter,
    /// `BusPolicy`: files and directories, in their order.
    pub policy: Vec<PathBuf>,
    /// `BusAudit`.
    pub audit: Option<PathBuf>,
    /// `BusAuditRequired`.
    pub audit_required: bool,
    /// `BusProtectedPorts`.
    pub protected_ports: Vec<u16>,
    /// `BusTor`; `None` is a bus of its own.
    pub tor: Option<Address>,
    /// `BusTorPassword`, as it is written; empty is none.
    pub tor_password: Vec<u8>,
    /// `BusTorAllowCookie`.
    pub tor_allow_cookie: bool,
    /// `BusLoginTimeout`, whole seconds.
    pub login_timeout: Duration,
    /// `BusTorTimeout`, whole seconds.
    pub tor_timeout: Duration,
    /// `BusKeepControllers`.
    pub keep_controllers: bool,
    /// `BusKeepOnions`, whole seconds.
    pub keep_onions: Duration,
    /// `BusLease`.
    pub lease: Vec<String>,
    /// `BusMaxOnions`, of each user.
    pub max_onions: usize,
    /// `BusOnionStore`; empty is none.
    pub onion_store: PathBuf,
}

/// All options: who set which to what, and where they are saved to.
#[derive(Clone, Debug)]
pub struct Options {
    defaults: Defaults,
    file: Option<PathBuf>,
    /// What the command line sets, which is above every file.
    overrides: Group,
    /// What is set, by whomever; what is missing here is at its default.
    values: Group,
    /// Whether some of it came from a file that the file includes.
    included: bool,
    settings: Settings,
}

impl Options {
    /// The options at a start: defaults, below the file with what it includes, below the
    /// command line (`overrides`, each `Option value`, the value taken as it stands). Fails
    /// with everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        overrides: &[Vec<u8>],
        defaults: Defaults,
    ) -> Result<Self, Problems> {
        // A later change of the working directory shall not make it another file.
        let file = file.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let read = read(file.as_deref());
        let (overrides, problems) = load::command_line(overrides);
        let (mut values, included) = match read {
            Ok(read) if problems.is_empty() => read,
            Ok(_) => return Err(Problems(problems)),
            Err(mut all) => {
                all.0.extend(problems);
                return Err(all);
            }
        };
        load::overlay(&mut values, overrides.clone());
        let settings = Settings::of(&values, &defaults);
        if let Some(text) = settings.contradiction() {
            let line = None;
            return Err(Problems(vec![Problem { file, line, text }]));
        }
        Ok(Self {
            defaults,
            file,
            overrides,
            values,
            included,
            settings,
        })
    }

    /// Whether a file, the command line or a controller has set the option of this name.
    pub fn sets(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The values in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// GETCONF of one option: its name in its own spelling with each of its values, or its
    /// default if nobody set it. None: there is no such option.
    pub fn get(&self, name: &[u8]) -> Option<Vec<OptionValue>> {
        let spec = find(name)?;
        let values = effective(spec, &self.values, &self.defaults);
        if values.is_empty() {
            return Some(vec![(spec.name.into(), None)]);
        }
        let named = |value: &Value| (spec.name.into(), Some(value.hidden().to_octets()));
        Some(values.iter().map(named).collect())
    }

    /// SETCONF: all or nothing. The values given for an option that can have several take the
    /// place of all it had; of one that has one value the last counts.
    pub fn set(&self, assignments: &[Setting]) -> Result<Change, OptionError> {
        let (group, faults) = load::group(assignments.iter().map(|assignment| {
            let value = assignment.value.as_deref().unwrap_or_default();
            ((), &assignment.name[..], value)
        }));
        if let Some(((), fault)) = faults.into_iter().next() {
            return Err(fault.into());
        }
        let mut values = self.values.clone();
        load::overlay(&mut values, group);
        self.change(values, self.included, false)
            .map_err(OptionError::Frozen)
    }

    /// RESETCONF. Without a value Tor makes this the default and SETCONF 0; 0 is outside the
    /// range of most options here, so both mean the default.
    pub fn reset(&self, assignments: &[Setting]) -> Result<Change, OptionError> {
        self.set(assignments)
    }

    /// `+LOADCONF`: takes `text` for the file's, below the command line. It cannot include
    /// files.
    pub fn load_text(&self, text: &[u8]) -> Result<Change, OptionError> {
        let why = |what: String| format!("Failed to parse/validate config: {what}");
        let (mut values, problems, faults) = load::text(text);
        if let Some(problem) = problems.first() {
            return Err(OptionError::ConfigFile(why(problem.to_string())));
        }
        if let Some((_, fault)) = faults.into_iter().next() {
            return Err(OptionError::ConfigFile(why(match fault.into() {
                OptionError::Unrecognized(text) | OptionError::Invalid(text) => text,
                other => other.to_string(),
            })));
        }
        load::overlay(&mut values, self.overrides.clone());
        self.change(values, false, false)
            .map_err(|what| OptionError::Frozen(why(what)))
    }

    /// SIGHUP: the file read again, below the command line; what SETCONF set is gone. Fails
    /// with everything that is wrong, and with what changes only at a start.
    pub fn reload(&self) -> Result<Change, Problems> {
        let (mut values, included) = read(self.file.as_deref())?;
        load::overlay(&mut values, self.overrides.clone());
        self.change(values, included, true).map_err(|text| {
            Problems(vec![Problem {
                file: self.file.clone(),
                line: None,
                text: text + "; nothing was changed, restart it for that",
            }])
        })
    }

    /// SAVECONF: writes what is in force into the file, which keeps its comments and order,
    /// its mode, and where possible its owner; with a secret in it, it becomes its owner's alone.
    /// At every instant the path is the old file or the new one, whole. `force` (SAVECONF FORCE): even if the file includes others, whose
    /// options then move into it.
    pub fn save(&self, force: bool) -> Result<(), SaveError> {
        let file = self.file.as_deref().ok_or(SaveError::NoFile)?;
        save::save(file, &self.values, self.included, force)
    }

    /// The secrets that stand in the option file, or in one that it includes, where others than
    /// the owner may read that.
    pub fn exposed(&self) -> Vec<Problem> {
        self.file.as_deref().map(load::exposed).unwrap_or_default()
    }

    /// The option file, as an absolute path.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// `GETINFO config-text`: what SAVECONF would write into an empty file. Each line ends in
    /// LF; empty when everything is at its default.
    pub fn config_text(&self) -> Vec<u8> {
        let shown = self.values.iter().map(|(name, values)| {
            let values = values.iter().map(Value::hidden).collect();
            (*name, values)
        });
        save::text_of(&shown.collect())
    }

    /// `GETINFO config/names`: `BusHistory Integer`, each line ending in LF.
    pub fn names() -> Vec<u8> {
        TABLE
            .iter()
            .flat_map(|spec| format!("{} {}\n", spec.name, spec.kind.tor_name()).into_bytes())
            .collect()
    }

    /// `GETINFO config/defaults`: `BusMaxQueue "16 MB"`, each line ending in LF.
    pub fn defaults_text(&self) -> Vec<u8> {
        let line = |spec: &Spec| {
            let default = if spec.default.is_empty() {
                default(spec, &self.defaults).to_octets()
            } else {
                spec.default.into()
            };
            [spec.name.as_bytes(), b" ", &torrc::quote(&default), b"\n"].concat()
        };
        TABLE.iter().flat_map(line).collect()
    }

    /// The change to `values`; fails, in words, if it is not for a running daemon.
    fn change(&self, values: Group, included: bool, is_reload: bool) -> Result<Change, String> {
        let mut changed = Vec::new();
        for spec in TABLE {
            let old = effective(spec, &self.values, &self.defaults);
            let new = effective(spec, &values, &self.defaults);
            if old == new {
                continue;
            }
            let is_frozen = match spec.change {
                Changeable::AtStart => true,
                Changeable::AtReload => !is_reload,
                Changeable::Running => false,
            };
            if is_frozen {
                let name = spec.name;
                return Err(format!(
                    "While onionbus is running, changing {name} is not allowed"
                ));
            }
            let values = values.get(spec.name).into_iter().flatten();
            changed.push(Changed {
                name: spec.name,
                values: values.map(Value::to_octets).collect(),
            });
        }
        let options = Self {
            settings: Settings::of(&values, &self.defaults),
            values,
            included,
            ..self.clone()
        };
        Ok(Change { options, changed })
    }
}

/// What the file sets, and whether it includes others.
fn read(file: Option<&Path>) -> Result<(Group, bool), Problems> {
    let Some(file) = file else {
        return Ok((Group::new(), false));
    };
    let (mut values, included, problems) = load::file(file);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    load::overlay(&mut values, Group::new());
    Ok((values, included))
}

/// The values of an option, its default if nobody set it.
fn effective(spec: &Spec, values: &Group, defaults: &Defaults) -> Vec<Value> {
    match values.get(spec.name) {
        Some(values) => values.clone(),
        None if matches!(spec.name, "BusPolicy" | "BusAudit" | "BusOnionStore") => Vec::new(),
        None => vec![default(spec, defaults)],
    }
}

fn default(spec: &Spec, defaults: &Defaults) -> Value {
    match spec.name {
        "BusSocket" => Value::Socket(SocketSpec::at(&defaults.socket)),
        "BusStateDirectory" => Value::Path(defaults.state_directory.clone()),
        "BusPolicy" | "BusAudit" | "BusOnionStore" => Value::Path(PathBuf::new()),
        _ => spec
            .kind
            .parse(spec.default.as_bytes())
            .expect("a test reads every default of the table"),
    }
}

impl Settings {
    fn of(values: &Group, defaults: &Defaults) -> Self {
        let mut settings = Self {
            sockets: Vec::new(),
            state_directory: PathBuf::new(),
            user: None,
            confine: false,
            cookie_authentication: false,
            hashed_passwords: Vec::new(),
            history: 0,
            max_message_length: 0,
            max_queue: 0,
            max_memory: 0,
            max_memory_per_user: 0,
            max_controllers: 0,
            max_controllers_per_user: 0,
            bandwidth_interval: Duration::ZERO,
            log: LevelFilter::Off,
            policy: Vec::new(),
            audit: None,
            audit_required: false,
            protected_ports: Vec::new(),
            tor: None,
            tor_password: Vec::new(),
            tor_allow_cookie: false,
            login_timeout: Duration::ZERO,
            tor_timeout: Duration::ZERO,
            keep_controllers: false,
            keep_onions: Duration::ZERO,
            lease: Vec::new(),
            max_onions: 0,
            onion_store: PathBuf::new(),
        };
        for spec in TABLE {
            for value in effective(spec, values, defaults) {
                settings.put(spec.name, value);
            }
        }
        settings
    }

    /// The most octets that the controllers of one user may make the daemon keep.
    #[must_use]
    pub fn memory_of_user(&self) -> usize {
        match self.max_memory_per_user {
            0 => self.max_memory / 2,
            most => most,
        }
    }

    /// Options that cannot be meant together, in words.
    fn contradiction(&self) -> Option<String> {
        let by_password = |socket: &&SocketSpec| socket.login == Login::Password;
        let socket = self.sockets.iter().find(by_password)?;
        self.hashed_passwords.is_empty().then(|| {
            let socket = crate::wire::shown::shown(&socket.to_value());
            format!(
                "BusSocket {socket} lets nobody in: there is no BusHashedPassword (make one with \
                 'onionbus hash-password')"
            )
        })
    }

    fn put(&mut self, name: &str, value: Value) {
        match (name, value) {
            ("BusSocket", Value::Socket(socket)) => self.sockets.push(socket),
            ("BusStateDirectory", Value::Path(path)) => self.state_directory = path,
            ("BusUser", Value::User(name)) => {
                self.user = Some(name).filter(|name| !name.is_empty());
            }
            ("BusConfine", Value::Boolean(on)) => self.confine = on,
            ("BusCookieAuthentication", Value::Boolean(on)) => self.cookie_authentication = on,
            ("BusHashedPassword", Value::Password(hash)) => self.hashed_passwords.extend(hash),
            ("BusHistory", Value::Number(n)) => self.history = size(n),
            ("BusMaxMessageLength", Value::Number(n)) => self.max_message_length = size(n),
            ("BusMaxQueue", Value::Number(n)) => self.max_queue = size(n),
            ("BusMaxMemory", Value::Number(n)) => self.max_memory = size(n),
            ("BusMaxMemoryPerUser", Value::Number(n)) => self.max_memory_per_user = size(n),
            ("BusMaxControllers", Value::Number(n)) => self.max_controllers = size(n),
            ("BusMaxControllersPerUser", Value::Number(n)) => {
                self.max_controllers_per_user = size(n);
            }
            ("BusBandwidthInterval", Value::Number(n)) => {
                self.bandwidth_interval = Duration::from_secs(n);
            }
            ("BusLog", Value::Severity(level)) => self.log = level,
            ("BusPolicy", Value::Path(path)) => self.policy.push(path),
            ("BusAudit", Value::Path(path)) => self.audit = Some(path),
            ("BusAuditRequired", Value::Boolean(on)) => self.audit_required = on,
            ("BusProtectedPorts", Value::Ports(ports)) => self.protected_ports = ports,
            ("BusTor", Value::Tor(address)) => self.tor = address,
            ("BusTorPassword", Value::Secret(text)) => self.tor_password = text,
            ("BusTorAllowCookie", Value::Boolean(on)) => self.tor_allow_cookie = on,
            ("BusLoginTimeout", Value::Number(n)) => self.login_timeout = Duration::from_secs(n),
            ("BusTorTimeout", Value::Number(n)) => self.tor_timeout = Duration::from_secs(n),
            ("BusKeepOnions", Value::Number(n)) => self.keep_onions = Duration::from_secs(n),
            ("BusLease", Value::Words(names)) => self.lease = names,
            ("BusMaxOnions", Value::Number(n)) => self.max_onions = size(n),
            ("BusOnionStore", Value::Path(path)) => self.onion_store = path,
            ("BusKeepControllers", Value::Boolean(on)) => self.keep_controllers = on,
            // A test loads the whole table, so that none can be forgotten here.
            (name, value) => unreachable!("{name} is in the table as what {value:?} is not"),
        }
    }
}

/// What is more than the machine could ever hold is no bound.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
