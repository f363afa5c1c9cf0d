//! `onionbus policy learn`: the block that allows what an audit log tells of.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write};

use anyhow::Context as _;
use onionbus::audit::Record;
use onionbus::policy;
use onionbus::sys::users;

use super::Stop;
use super::args::PolicyLearn;
use super::policy::id;

pub fn run(arguments: &PolicyLearn, out: &mut dyn Write) -> anyhow::Result<()> {
    let user = arguments.user.as_deref();
    let uid = user
        .map(|user| id(user, &users::user, "user"))
        .transpose()?;
    let mut grants = Vec::new();
    for path in &arguments.from {
        let wrong = || format!("{} cannot be read", path.display());
        let file = File::open(path).with_context(wrong)?;
        for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.with_context(wrong)?;
            match Record::parse(&line) {
                Some(record) if uid.is_none() || record.uid == uid => grants.push(record.grant),
                _ if line.is_empty() => {}
                Some(_) => {}
                // A disk that was full cuts lines off; the others are good.
                None => {
                    let (path, number) = (path.display(), index + 1);
                    // Nobody can be told that standard error is gone.
                    let _ = writeln!(
                        std::io::stderr(),
                        "onionbus: warning: {path}, line {number}: this is no record, left out"
                    );
                }
            }
        }
    }
    let lines = grants.iter().flat_map(|grant| grant.lines());
    let block = policy::learn(&arguments.profile, user, lines).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Stop::Usage(format!("no block comes of that:\n{}", lines.join("\n")))
    })?;
    out.write_all(block.as_bytes())?;
    Ok(())
}
