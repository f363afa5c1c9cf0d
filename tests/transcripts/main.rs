//! Conversations with a real daemon, octet for octet, one for each rule.
//!
//! The text files beside this one hold them; `script.rs` says how they are written. Each is
//! played three ways: every send whole, octet by octet, and cut at random places. What the daemon
//! says must not depend on it.

mod daemon;
mod play;
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use play::{Cut, play};
use script::Transcript;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Plays every transcript of a file, each with a daemon of its own.
fn play_all(file: &str, cut: Cut) {
    let path = directory().join(file).with_extension("txt");
    let text = fs::read_to_string(&path).expect("a transcript file");
    for transcript in Transcript::parse_all(&text) {
        let played = catch_unwind(AssertUnwindSafe(|| play(&transcript, cut)));
        if let Err(failure) = played {
            eprintln!(
                "the transcript is '{}', {}:{}, played {cut:?}",
                transcript.title,
                path.display(),
                transcript.line
            );
            resume_unwind(failure);
        }
    }
}

/// A seed that differs from run to run, or the one that a failure printed.
fn seed() -> u64 {
    match std::env::var("TRANSCRIPT_SEED") {
        Ok(seed) => seed.parse().expect("TRANSCRIPT_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |now| now.subsec_nanos().into()),
    }
}

macro_rules! transcripts {
    ($($name:ident $file:literal),+ $(,)?) => {
        const FILES: &[&str] = &[$($file),+];

        $(mod $name {
            use super::{Cut, play_all, seed};

            #[test]
            fn whole() {
                play_all($file, Cut::Whole);
            }

            #[test]
            fn octet_by_octet() {
                play_all($file, Cut::Octets);
            }

            #[test]
            fn cut_at_random() {
                play_all($file, Cut::Random { seed: seed() });
            }
        })+
    };
}

transcripts! {
    which_protocol "which-protocol",
    login "login",
    cookie "cookie",
    names "names",
    messages "messages",
    unread "unread",
    recent "recent",
    listing "listing",
    tc "tc",
    tc_events "tc-events",
    tc_bus "tc-bus",
    v0 "v0",
    v0_events "v0-events",
    limits "limits",
}

#[test]
fn every_file_is_played() {
    let there: BTreeSet<_> = fs::read_dir(directory())
        .expect("the directory of this file")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let played: BTreeSet<_> = FILES.iter().map(|file| (*file).to_owned()).collect();
    assert_eq!(there, played);
}
