//! The command line: every command, its arguments and its help, one table for the parser, the
//! help pages and the completions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  onionbus serve                          run a daemon on the default socket
  onionbus watch --as alice               print what is posted to alice and to all
  onionbus post --as bob @alice 'hello'   post one message
  tail -f log | onionbus post @all        post each line as it comes
  onionbus info version uptime            ask for values
  onionbus conf set BusHistory=500        change an option
  onionbus shell                          a prompt for commands, with events as they come

Environment:
  ONIONBUS_SOCKET   the socket to use where --socket does not name one

Exit codes:
  0  done
  1  the daemon refused, or could not be started: the reason is on standard error
  2  wrong usage
  3  no daemon answers

onionbus(1) and onionbus(8) say more.";

const POST_HELP: &str = "\
With TEXT its words are joined by one space, and everything after the first word is text.
Without it every line of standard input is a message; the first refusal ends it. Empty
lines are left out, and lines may end with CR LF.

Examples:
  onionbus post @all hello world
  onionbus post --as bob @alice -- --not-an-option
  tail -f log | onionbus post --as log @all";

const HASH_HELP: &str = "\
On a terminal the password is asked for and not shown; else it is the first line of standard
input. Tor takes the hash too, as HashedControlPassword.

Examples:
  onionbus hash-password
  onionbus hash-password < file-with-the-password";

const WATCH_HELP: &str = "\
Examples:
  onionbus watch                             every message to all
  onionbus watch --as alice                  those to alice too
  onionbus watch --count 1                   wait for one message
  onionbus watch CONTROLLER CONF_CHANGED     who comes and goes, what is changed
  onionbus watch --time --reconnect WARN     warnings, through every restart";

const SET_HELP: &str = "\
All values are set, or none. They are sent quoted: no quoting of one's own is needed.

Examples:
  onionbus conf set BusHistory=500
  onionbus conf set BusHistory=1000 BusLog=info";

const COMMAND_HELP: &str = "\
The reply is printed as it came. The body of a command that begins with + is read from standard
input.

Examples:
  onionbus command GETINFO info/names
  onionbus command 'SETCONF BusHistory=500'
  onionbus command +LOADCONF < onionbus.conf";

const SHELL_HELP: &str = "\
Every line is a command of the control protocol; one that begins with + ends with a line that is a
single dot. TAB completes, Ctrl-C leaves a line, Ctrl-D ends. Where standard input is no terminal
its lines are carried out without a prompt.

Examples:
  onionbus shell
  onionbus shell --socket /run/tor/control
  onionbus shell < commands";

const SERVE_HELP: &str = "\
Arguments win over the file, the file over ONIONBUS_SOCKET, and that over the defaults:
the socket is /run/onionbus/control for root and $XDG_RUNTIME_DIR/onionbus/control for others.

Examples:
  onionbus serve
  onionbus serve --config /etc/onionbus/onionbus.conf
  onionbus serve --socket ./control --state ./state --set 'BusLog debug'";

const TRY_HELP: &str = "\
What is allowed is printed as it is sent to Tor, what is refused as the reply to it. Whose circuits,
streams and onion services there are is not known without a daemon: none is anybody's own.

Exit codes:
  0  it is allowed
  1  it is refused
  2  the files are wrong, or the arguments

Examples:
  onionbus policy try --config /etc/onionbus/onionbus.conf --user alice 'SIGNAL NEWNYM'
  onionbus policy try --config onionbus.conf --user alice 'ADD_ONION NEW:BEST Port=80,17600'";

const ACTIONS_HELP: &str = "\
Each is printed as the event ACTION or DENIED that it was. Values are in none of them.

Examples:
  onionbus actions            what was done, and what a policy has refused
  onionbus actions --follow   and what is done from now on";

const METRICS_HELP: &str = "\
Example:
  onionbus metrics --output /var/lib/prometheus/node-exporter/onionbus.prom";

const LEARN_HELP: &str = "\
The block allows every command of the log, those that were refused included: read it before you use
it. Only numbers of onion services' targets become ranges.

Example:
  onionbus policy learn --from /var/log/onionbus/audit --user alice --profile alice";

const COMPLETIONS_HELP: &str = "\
Example:
  onionbus completions bash > ~/.local/share/bash-completion/completions/onionbus";

/// Everything that may stand on the command line.
#[derive(Debug, Parser)]
#[command(version = env!("ONIONBUS_VERSION"), about, after_help = EXAMPLES)]
pub struct Arguments {
    /// The daemon's socket or HOST:PORT, as after the command
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Post a message to one controller or to all
    #[command(after_help = POST_HELP)]
    Post(Post),
    /// Print events as they happen
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
    /// List the connected controllers
    Controllers(Controllers),
    /// List the onion services that are kept, and whose they are
    Onions(Bus),
    /// Print the messages that the daemon remembers
    Recent(Plain),
    /// Print how the daemon is, and what it has done since its start
    Status(Plain),
    /// Print the same as metrics for Prometheus
    #[command(after_help = METRICS_HELP)]
    Metrics(Metrics),
    /// Print who has changed what, as far as the daemon remembers it
    #[command(after_help = ACTIONS_HELP)]
    Actions(Actions),
    /// Ask the daemon for values
    Info(Info),
    /// Read or change the daemon's options
    #[command(subcommand)]
    Conf(Conf),
    /// Send one line of the control protocol and print the reply
    #[command(name = "command", after_help = COMMAND_HELP)]
    Raw(Raw),
    /// Talk to the daemon, or to a Tor, at a prompt
    #[command(after_help = SHELL_HELP)]
    Shell(Bus),
    /// Check a configuration file without starting anything
    Check(Check),
    /// Say what a policy grants, without a daemon
    #[command(subcommand)]
    Policy(Policy),
    /// Hash a password as Tor does, for an option file
    #[command(after_help = HASH_HELP)]
    HashPassword {
        // Taken so that it can be refused with the reason.
        #[arg(hide = true, value_hint = ValueHint::Other)]
        password: Option<OsString>,
    },
    /// Print the completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell to complete for
        shell: Shell,
        /// The words of a line so far: print the names that the last one can become
        #[arg(last = true, value_name = "WORD", value_hint = ValueHint::Other)]
        line: Vec<OsString>,
    },
}

impl Arguments {
    /// The command, with a socket that was named before it.
    pub fn into_command(self) -> Result<Command, clap::Error> {
        let Self {
            socket,
            mut command,
        } = self;
        let Some(socket) = socket else {
            return Ok(command);
        };
        let Some(place) = command.socket() else {
            let text = "--socket before the command is for commands that need a daemon\n";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        };
        place.get_or_insert(socket);
        Ok(command)
    }
}

impl Command {
    /// The place for the socket of the daemon; none where none is needed.
    const fn socket(&mut self) -> Option<&mut Option<PathBuf>> {
        match self {
            Self::Serve(serve) => Some(&mut serve.socket),
            Self::Post(Post { bus, .. })
            | Self::Watch(Watch { bus, .. })
            | Self::Controllers(Controllers { bus, .. })
            | Self::Onions(bus)
            | Self::Recent(Plain { bus, .. })
            | Self::Status(Plain { bus, .. })
            | Self::Metrics(Metrics { bus, .. })
            | Self::Shell(bus)
            | Self::Actions(Actions { bus, .. })
            | Self::Info(Info { bus, .. })
            | Self::Conf(Conf::Get(ConfGet { bus, .. }) | Conf::Set(ConfSet { bus, .. }))
            | Self::Raw(Raw { bus, .. }) => Some(&mut bus.socket),
            Self::Check(_)
            | Self::Policy(_)
            | Self::HashPassword { .. }
            | Self::Completions { .. } => None,
        }
    }
}

/// How a client reaches the daemon, and as whom.
#[derive(Debug, Args)]
pub struct Bus {
    /// The daemon's socket, or HOST:PORT [default: where `serve` listens without its own]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Take this name on the bus first
    #[arg(long = "as", visible_alias = "name", value_name = "NAME", value_hint = ValueHint::Other)]
    pub name: Option<OsString>,
}

/// A command with nothing to choose but how it prints.
#[derive(Debug, Args)]
pub struct Plain {
    #[command(flatten)]
    pub bus: Bus,
    #[command(flatten)]
    pub form: Form,
}

/// How a command prints.
#[derive(Debug, Args)]
pub struct Form {
    /// Print an object of JSON a line; octets that are not UTF-8 become \xhh in it
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Controllers {
    #[command(flatten)]
    pub bus: Bus,
    /// Who and what each is, where it came in, and what waits for it
    #[arg(long)]
    pub long: bool,
    #[command(flatten)]
    pub form: Form,
}

#[derive(Debug, Args)]
pub struct Metrics {
    #[command(flatten)]
    pub bus: Bus,
    /// Write them to this file, which is replaced as a whole
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Read options from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Listen at this path or port (option `BusSocket`)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Keep what must survive a restart here (option `BusStateDirectory`)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,

    /// The control port of the Tor behind the bus: unix:PATH or HOST:PORT, or PATH or PORT alone
    #[arg(long, value_name = "ADDRESS")]
    pub tor: Option<String>,
    /// Set an option as this line of a file would: 'Option value', or Option=value; may be repeated
    #[arg(long, value_name = "LINE", value_hint = ValueHint::Other)]
    pub set: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Post {
    #[command(flatten)]
    pub bus: Bus,
    /// Refuse empty lines of standard input and those that end with CR LF
    #[arg(long)]
    pub strict: bool,
    /// Print the number of each message
    #[arg(long)]
    pub id: bool,
    /// Who gets it: @NAME, or @all
    #[arg(value_name = "@DEST", value_hint = ValueHint::Other)]
    pub destination: OsString,
    /// The message; without it each line of standard input is one
    #[arg(trailing_var_arg = true, value_hint = ValueHint::Other)]
    pub text: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub bus: Bus,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print before each event when it came, in UTC
    #[arg(long)]
    pub time: bool,
    /// When the connection ends, connect again, as soon as a daemon answers
    #[arg(long)]
    pub reconnect: bool,
    #[command(flatten)]
    pub form: Form,
    /// The events to ask for
    #[arg(value_name = "EVENT", default_value = "POSTMESSAGE", value_hint = ValueHint::Other)]
    pub events: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Actions {
    #[command(flatten)]
    pub bus: Bus,
    /// Go on with what is done from now on
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct Info {
    #[command(flatten)]
    pub bus: Bus,
    #[command(flatten)]
    pub form: Form,
    /// What to ask for; `info/names` lists all keys
    #[arg(required = true, value_name = "KEY", value_hint = ValueHint::Other)]
    pub keys: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum Conf {
    /// Print options as Key=Value
    Get(ConfGet),
    /// Change options in the running daemon
    #[command(after_help = SET_HELP)]
    Set(ConfSet),
}

#[derive(Debug, Args)]
pub struct ConfGet {
    #[command(flatten)]
    pub bus: Bus,
    #[command(flatten)]
    pub form: Form,
    /// The options to print
    #[arg(required = true, value_name = "KEY", value_hint = ValueHint::Other)]
    pub keys: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct ConfSet {
    #[command(flatten)]
    pub bus: Bus,
    /// The options and their new values
    #[arg(required = true, value_name = "KEY=VALUE", value_hint = ValueHint::Other)]
    pub settings: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Raw {
    #[command(flatten)]
    pub bus: Bus,
    /// The line, without its line end; its words are joined by one space
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::Other)]
    pub line: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The file to check
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// The file to check, as `serve` is given it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "file")]
    pub config: Option<PathBuf>,
}

impl Check {
    /// The file to check, of which the parser lets exactly one through.
    pub fn path(&self) -> &Path {
        let path = self.file.as_deref().or(self.config.as_deref());
        path.unwrap_or(Path::new(""))
    }
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Judge one command as the daemon would
    #[command(after_help = TRY_HELP)]
    Try(PolicyTry),
    /// Print everything that is granted
    Show(PolicyOf),
    /// Print the block that allows what an audit log tells of
    #[command(after_help = LEARN_HELP)]
    Learn(PolicyLearn),
}

#[derive(Debug, Args)]
pub struct PolicyLearn {
    /// The audit log; may be repeated
    #[arg(long, required = true, value_name = "AUDIT", value_hint = ValueHint::FilePath)]
    pub from: Vec<PathBuf>,
    /// Only what this user did, by name or number; the block is for that user then
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// The block's name
    #[arg(long, value_name = "NAME", default_value = "learnt", value_hint = ValueHint::Other)]
    pub profile: String,
}

/// Whose grants are meant.
#[derive(Debug, Args)]
pub struct PolicyOf {
    /// The option file that names the policy files
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// A user, by name or number [default: whoever runs this]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// A group, by name or number, instead of the user's own; may be repeated
    #[arg(long, value_name = "GROUP", value_hint = ValueHint::Other)]
    pub group: Vec<String>,
    /// The socket that it comes through, as the option file has it
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub socket: Option<OsString>,
    /// The unit of the service manager that it is
    #[arg(long, value_name = "UNIT", value_hint = ValueHint::Other)]
    pub unit: Option<OsString>,
    /// The label that a security module gives it
    #[arg(long, value_name = "LABEL", value_hint = ValueHint::Other)]
    pub label: Option<OsString>,
}

#[derive(Debug, Args)]
pub struct PolicyTry {
    #[command(flatten)]
    pub of: PolicyOf,
    /// The command, without its line end, and without its body if it begins with +
    #[arg(value_hint = ValueHint::Other)]
    pub command: OsString,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Arguments::command().debug_assert();
    }
}
