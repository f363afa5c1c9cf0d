//! The confinement of the daemon's own process: what it will never need, it gives up for good.
//!
//! Most of it holds for the calling thread and for those that this one starts later, so it comes
//! before every other thread.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, setrlimit};

/// The newest landlock whose restrictions were tried; an older kernel has a part of them.
const LANDLOCK: ABI = ABI::V6;

/// What the daemon goes on to do.
#[derive(Debug)]
pub struct Needs {
    /// Directories in which it makes and removes sockets.
    pub sockets: Vec<PathBuf>,
    /// Directories in which it replaces files.
    pub files: Vec<PathBuf>,
    /// The only TCP port that it connects to.
    pub port: Option<u16>,
    /// It asks name servers.
    pub names: bool,
}

/// One thing that was given up, or not.
#[derive(Debug)]
pub struct Measure {
    /// The word for it.
    pub name: &'static str,
    /// Why it is not in force.
    pub missing: Option<String>,
}

/// Confines the calling thread and those that it starts, each measure as far as the kernel has it.
pub fn confine(needs: &Needs) -> Vec<Measure> {
    let words = |error: nix::Error| error.to_string();
    let mut measures = vec![
        measure("no-new-privileges", set_no_new_privs().map_err(words)),
        measure("not-dumpable", set_dumpable(false).map_err(words)),
        measure(
            "no-core",
            setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(words),
        ),
    ];
    let landlock = restrict(needs);
    for (name, since, linux) in [
        ("landlock-files", ABI::V1, "5.13"),
        ("landlock-tcp", ABI::V4, "6.7"),
        ("landlock-signals", ABI::V6, "6.12"),
    ] {
        let has_it = landlock.clone().and_then(|found| {
            let is_new_enough = found >= since;
            let needed = || format!("Linux {linux} is needed for it");
            is_new_enough.then_some(()).ok_or_else(needed)
        });
        measures.push(measure(name, has_it));
    }
    measures.push(measure("seccomp", filter(needs)));
    measures
}

fn measure(name: &'static str, done: Result<(), String>) -> Measure {
    let missing = done.err();
    Measure { name, missing }
}

/// Restricts what can be written to, executed, connected to over TCP, and signalled.
///
/// Reading is left alone: the daemon reads files that others name, such as Tor's cookie, and the
/// system's own, such as those with the users. So are Unix sockets.
fn restrict(needs: &Needs) -> Result<ABI, String> {
    let status = ruleset(needs).map_err(|error| error.to_string())?;
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. }
            if status.ruleset != RulesetStatus::NotEnforced =>
        {
            Ok(effective_abi)
        }
        LandlockStatus::NotImplemented => Err("this kernel has no landlock".into()),
        _ => Err("landlock is switched off in this kernel".into()),
    }
}

fn ruleset(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let for_sockets = make_bitflags!(AccessFs::{MakeSock | RemoveFile});
    let for_files = make_bitflags!(AccessFs::{MakeReg | RemoveFile | Truncate | WriteFile});
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(LANDLOCK) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(&needs.sockets, for_sockets))?
        .add_rules(path_beneath_rules(&needs.files, for_files))?;
    // A name server whose answer is too long for a datagram is asked again over TCP.
    let of_names = needs.names.then_some(53);
    let ports = needs.port.into_iter().chain(of_names);
    let rule = |port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp));
    ruleset.add_rules(ports.map(rule))?.restrict_self()
}

/// Denies system calls.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn filter(needs: &Needs) -> Result<(), String> {
    super::seccomp::install(needs.port.is_some(), needs.names).map_err(|error| error.to_string())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn filter(_: &Needs) -> Result<(), String> {
    Err("there is no list of system calls for this processor".into())
}
