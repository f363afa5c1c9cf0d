//! `onionbus policy`: what a policy grants, without a daemon.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use onionbus::options::{Defaults, Options};
use onionbus::policy::{
    Allowed, Behind, Form, Grants, Identity, Ledger, PROTECTED_PORTS, Policy, Verdict, judge,
};
use onionbus::server::{policy_paths, read_policy};
use onionbus::sys::{paths, users};
use onionbus::wire::fields::{self, Fields};
use onionbus::wire::text::{self, Framed, Framer};
use onionbus::wire::torrc;

use super::Stop;
use super::args::{PolicyOf, PolicyTry};

pub fn show(arguments: &PolicyOf, out: &mut dyn Write) -> anyhow::Result<()> {
    let (policy, identity) = described(arguments)?;
    for warning in policy.warnings() {
        // Nobody can be told that standard error is gone.
        let _ = writeln!(std::io::stderr(), "onionbus: warning: {warning}");
    }
    for line in Grants::unite(&policy, &identity).list() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

pub fn try_command(arguments: &PolicyTry, out: &mut dyn Write) -> anyhow::Result<()> {
    let (policy, identity) = described(&arguments.of)?;
    let grants = Grants::unite(&policy, &identity);
    let octets = whole(&arguments.command)?;
    let Framed::Command(command) = Framer::default().next(&octets) else {
        return Err(Stop::Usage("this is no command of one line".into()).into());
    };
    let behind = Behind {
        protected: PROTECTED_PORTS,
        ..policy_paths()
    };
    let fields = text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command));
    let verdict = fields.map(|fields| judge(&grants, &Ledger::default(), &behind, &fields));
    let refusal = match verdict {
        Ok(Verdict::Allow(allowed)) => return Ok(tell(&allowed, out)?),
        Ok(Verdict::Refuse(refused)) => refused.refusal,
        Err(refusal) => refusal,
    };
    let mut reply = Vec::new();
    text::encode_refusal(&refusal, &mut reply);
    out.write_all(&reply)?;
    Err(Stop::RefusedAndPrinted.into())
}

/// The command with its line end, and with a body that it may have.
fn whole(command: &OsStr) -> anyhow::Result<Vec<u8>> {
    let line = command.as_bytes();
    if line.contains(&b'\n') {
        return Err(Stop::Usage("a command is one line".into()).into());
    }
    let body: &[u8] = if line.starts_with(b"+") {
        b"\r\n\r\n."
    } else {
        b""
    };
    Ok([line, body, b"\r\n"].concat())
}

/// Prints what becomes of a command that is allowed.
fn tell(allowed: &Allowed, out: &mut dyn Write) -> std::io::Result<()> {
    let mut octets = Vec::new();
    allowed.fields.write(&mut octets);
    let line = octets
        .split(|&octet| octet == b'\r')
        .next()
        .unwrap_or_default();
    writeln!(out, "allowed: {}", line.escape_ascii())?;
    if let Fields::GetInfo(items) | Fields::GetConf(items) = &allowed.fields {
        for (place, text) in &allowed.answers {
            let item = items.get(*place).map(Vec::as_slice).unwrap_or_default();
            writeln!(
                out,
                "answered: {}={}",
                item.escape_ascii(),
                text.escape_ascii()
            )?;
        }
    }
    for (event, form) in &allowed.events {
        let form = match form {
            Form::Plain => continue,
            Form::Own => "only those about what is its own",
            Form::Quiet => "never delivered",
        };
        writeln!(out, "{}: {form}", event.escape_ascii())?;
    }
    let views = allowed.views;
    for (is_own, what) in [
        (views.own_circuits, "circuits"),
        (views.own_streams, "streams"),
        (views.own_onions, "onion services"),
        (views.own_keys, "client keys"),
    ] {
        if is_own {
            writeln!(out, "shown: own {what} only")?;
        }
    }
    if let Some(refused) = &allowed.complaint {
        let lines = refused.refusal.lines();
        let line = lines.first().map(Vec::as_slice).unwrap_or_default();
        writeln!(
            out,
            "complaint: {} {}",
            refused.refusal.status(),
            line.escape_ascii()
        )?;
    }
    Ok(())
}

/// The policy, and whoever the arguments describe.
fn described(arguments: &PolicyOf) -> anyhow::Result<(Policy, Identity)> {
    let uid = match &arguments.user {
        None => users::own(),
        Some(user) => id(user, &users::user, "user")?,
    };
    let own = users::groups(uid);
    let (gid, groups) = if arguments.group.is_empty() {
        own.unwrap_or_default()
    } else {
        let groups = arguments
            .group
            .iter()
            .map(|group| id(group, &users::group, "group"));
        let groups: Vec<_> = groups.collect::<Result<_, _>>()?;
        (groups[0], groups)
    };
    let octets = |word: &Option<OsString>| word.as_ref().map(|word| word.as_bytes().to_vec());
    let identity = Identity {
        uid,
        gid,
        groups,
        label: octets(&arguments.label).unwrap_or_default(),
        unit: octets(&arguments.unit).unwrap_or_default(),
        pid: 0,
        socket: torrc::socket(&octets(&arguments.socket).unwrap_or_default()),
        passed: Vec::new(),
    };
    Ok((read(&arguments.config)?, identity))
}

pub(super) fn id(
    name: &str,
    lookup: &dyn Fn(&str) -> Option<u32>,
    what: &str,
) -> anyhow::Result<u32> {
    let id = name.parse().ok().or_else(|| lookup(name));
    Ok(id.ok_or_else(|| Stop::Usage(format!("there is no {what} {name}")))?)
}

/// The policy that an option file names. Its owner is taken for the daemon's user.
fn read(config: &Path) -> anyhow::Result<Policy> {
    let wrong = |lines: String| Stop::Usage(format!("this has to be corrected:\n{lines}"));
    let options = Options::load(Some(config), &[], defaults())
        .map_err(|problems| wrong(problems.to_string()))?;
    let daemon = owner(config)?;
    match read_policy(options.settings(), daemon) {
        Ok(Some(policy)) => Ok(policy),
        Ok(None) => {
            let what = format!("{}: it has no BusPolicy line", config.display());
            Err(wrong(what).into())
        }
        Err(problems) => Err(wrong(problems.to_string()).into()),
    }
}

/// The owner of an option file.
pub(super) fn owner(config: &Path) -> anyhow::Result<u32> {
    let metadata = std::fs::metadata(config);
    let uid = metadata.map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    uid.with_context(|| format!("{} cannot be read", config.display()))
}

/// What stands for options that nobody sets.
pub(super) fn defaults() -> Defaults {
    Defaults {
        socket: paths::default_socket(),
        state_directory: paths::default_state_directory(),
    }
}
