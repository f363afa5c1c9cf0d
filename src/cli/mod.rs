//! Arguments to a command, and the command's end to an exit code; one file per command.

mod actions;
mod args;
mod check;
mod client;
mod command;
mod completions;
mod conf;
mod controllers;
mod fields;
mod hash_password;
mod info;
mod json;
mod learn;
mod login;
mod metrics;
mod names;
mod onions;
mod policy;
mod post;
mod recent;
mod reply;
mod serve;
mod shell;
mod status;
mod stream;
mod terminal;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Arguments, Command, Conf, Policy};

/// The reason why a command ends other than well. Any other error exits with 1, as a refusal does.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The daemon answered, and the answer is no.
    #[error("{0}")]
    Refused(String),
    /// The daemon answered no, and the answer has been printed where it was asked for.
    #[error("")]
    RefusedAndPrinted,
    /// The arguments, or the lines of standard input in their place, cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or nobody does any longer.
    #[error("{0}")]
    NoDaemon(String),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let command = Arguments::parse().into_command();
    let command = command.unwrap_or_else(|error| error.format(&mut Arguments::command()).exit());
    let mut out = terminal::standard_output();
    let done = run(&command, &mut *out);
    // What was printed comes before what is said about the end of it.
    let flushed = out.flush();
    match done.and(flushed.map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: &Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Post(arguments) => post::run(arguments, out),
        Command::Watch(arguments) => watch::run(arguments, out),
        Command::Controllers(bus) => controllers::run(bus, out),
        Command::Onions(bus) => onions::run(bus, out),
        Command::Recent(arguments) => recent::run(arguments, out),
        Command::Status(arguments) => status::run(arguments, out),
        Command::Metrics(arguments) => metrics::run(arguments, out),
        Command::Actions(arguments) => actions::run(arguments, out),
        Command::Info(arguments) => info::run(arguments, out),
        Command::Conf(Conf::Get(arguments)) => conf::get(arguments, out),
        Command::Conf(Conf::Set(arguments)) => conf::set(arguments),
        Command::Raw(arguments) => command::run(arguments, out),
        Command::Shell(bus) => shell::run(bus, out),
        Command::Check(arguments) => check::run(arguments, out),
        Command::Policy(Policy::Try(arguments)) => policy::try_command(arguments, out),
        Command::Policy(Policy::Show(arguments)) => policy::show(arguments, out),
        Command::Policy(Policy::Learn(arguments)) => learn::run(arguments, out),
        Command::HashPassword { password } => hash_password::run(password.as_deref(), out),
        Command::Completions { shell, line } => completions::run(*shell, line, out),
    }
}

/// A number of things: the plural is the singular with an s.
fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

fn report(error: &anyhow::Error) -> ExitCode {
    // Standard output is the only one whose errors come here bare: `client` words those of the
    // socket. Whoever closed it has seen enough, which is no failure.
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    let stop = error.downcast_ref();
    if !matches!(stop, Some(Stop::RefusedAndPrinted)) {
        // Nobody can be told that standard error is gone.
        let text = terminal::for_standard_error(&format!("onionbus: {error:#}"));
        let _ = writeln!(io::stderr(), "{text}");
    }
    ExitCode::from(match stop {
        Some(Stop::Usage(_)) => 2,
        Some(Stop::NoDaemon(_)) => 3,
        Some(Stop::Refused(_) | Stop::RefusedAndPrinted) | None => 1,
    })
}
