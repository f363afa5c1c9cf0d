//! `onionbus check`: whether a configuration file is right, without opening anything else.

use std::io::{self, Write};

use anyhow::anyhow;
use onionbus::options::{Options, Problems};
use onionbus::policy::Policy;
use onionbus::server::read_policy;

use super::args::Check;
use super::policy::{defaults, owner};

pub fn run(arguments: &Check, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = arguments.path();
    let wrong = |problems: Problems| anyhow!("this has to be corrected:\n{problems}");
    let options = Options::load(Some(path), &[], defaults()).map_err(wrong)?;
    let daemon = owner(path)?;
    let policy = read_policy(options.settings(), daemon).map_err(wrong)?;
    let of_policy = policy.iter().flat_map(Policy::warnings);
    let exposed = options
        .exposed()
        .into_iter()
        .map(|problem| problem.to_string());
    let settings = options.settings();
    let log = settings.audit.as_deref();
    let place = log.and_then(std::path::Path::parent);
    let of_audit = match (place, settings.audit_required) {
        (None, true) => Some("BusAuditRequired: it does nothing without BusAudit".to_owned()),
        (Some(place), _) if !place.is_dir() => Some(format!(
            "BusAudit: there is no directory {}",
            place.display()
        )),
        _ => None,
    };
    let exposed = exposed.chain(of_audit);
    for warning in exposed.chain(of_policy.map(|problem| problem.to_string())) {
        // Nobody can be told that standard error is gone.
        let _ = writeln!(io::stderr(), "onionbus: warning: {warning}");
    }
    writeln!(out, "{}: ok", path.display())?;
    Ok(())
}
