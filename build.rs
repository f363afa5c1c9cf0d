//! Tells the program the commit that it is built from, for `--version`.
//!
//! `ONIONBUS_COMMIT` names it to those who build without a checkout. Without that and git the version
//! stands alone.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=ONIONBUS_VERSION={version}");
}

/// The commit that is checked out here.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=ONIONBUS_COMMIT");
    let given = env::var("ONIONBUS_COMMIT").ok();
    if given.as_ref().is_some_and(|commit| !commit.is_empty()) {
        return given;
    }
    // A source that was unpacked inside another project's checkout has no commit of its own.
    if !Path::new(".git").exists() {
        return None;
    }
    // The log grows with each commit and each checkout, where HEAD keeps naming the same branch.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The one line that git prints.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    let line = line.trim_end();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
