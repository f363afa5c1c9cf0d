//! The store of services: a text with a line for each, which root or the daemon's user alone reads.

use std::time::{Duration, Instant};

use thiserror::Error;
use zeroize::Zeroizing;

use super::item::{Kept, Service, State, What};
use super::service::scalar;
use crate::policy::identity::Owner;
use crate::wire::fields::{self, Fields, Onion};
use crate::wire::text::{self, Framed, Framer};

/// The first line of a store.
const HEAD: &[u8] = b"onionbus onion store 1";

/// The last line of a store, without which something is missing.
const TAIL: &[u8] = b"end";

/// The line of a store that cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {0} is none that onionbus has written there: restore the file, or move it away")]
pub struct StoreError(usize);

/// The text of a store. Services that nobody could take up are not in it.
pub(super) fn text(items: &[Kept]) -> Zeroizing<Vec<u8>> {
    // Of one size from the start, so that no copy of a key is left where it has grown.
    let mut text = Zeroizing::new(Vec::with_capacity(HEAD.len() + 1 + items.len() * 16 * 1024));
    text.extend_from_slice(HEAD);
    text.push(b'\n');
    for kept in items.iter().filter(|kept| !kept.is_leaving) {
        let What::Onion(service) = &kept.what else {
            continue;
        };
        if service.is_secret {
            continue;
        }
        let (uid, label) = (kept.owner.uid, hex::encode(&kept.owner.label));
        let (grace, detached) = (kept.grace.as_secs(), u8::from(service.is_detached));
        let start = format!("{uid} x{label} {grace} {detached} ");
        text.extend_from_slice(start.as_bytes());
        text.extend_from_slice(service.onion.as_bytes());
        text.push(b' ');
        kept.command().write(&mut text);
    }
    text.extend_from_slice(TAIL);
    text.push(b'\n');
    text
}

/// Reads a store. An empty one has nothing.
pub(super) fn parse(text: &[u8], now: Instant) -> Result<Vec<Kept>, StoreError> {
    let mut lines = text
        .split(|&octet| octet == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    match lines.next() {
        None => return Ok(Vec::new()),
        Some((_, HEAD)) => {}
        Some((index, _)) => return Err(StoreError(index + 1)),
    }
    let mut lines: Vec<_> = lines.collect();
    match lines.pop() {
        Some((_, TAIL)) => {}
        Some((index, _)) => return Err(StoreError(index + 1)),
        None => return Err(StoreError(2)),
    }
    lines
        .into_iter()
        .map(|(index, line)| service(line, now).ok_or(StoreError(index + 1)))
        .collect()
}

fn service(line: &[u8], now: Instant) -> Option<Kept> {
    let mut words = line.splitn(6, |&octet| octet == b' ');
    let uid = fields::number(words.next()?)?;
    let label = hex::decode(words.next()?.strip_prefix(b"x")?).ok()?;
    let grace = Duration::from_secs(fields::number(words.next()?)?);
    let is_detached = match words.next()? {
        b"0" => false,
        b"1" => true,
        _ => return None,
    };
    let onion = Onion::parse(words.next()?)?.lower();
    let command = Zeroizing::new([words.next()?, b"\r\n"].concat());
    let Framed::Command(command) = Framer::new().next(&command) else {
        return None;
    };
    let verb = text::verb(command.keyword).ok()?;
    let Ok(Fields::AddOnion(fields)) = fields::parse(verb, &command) else {
        return None;
    };
    let scalar = scalar(&fields.key)?;
    Some(Kept {
        what: What::Onion(Service {
            onion,
            scalar,
            fields,
            holder: None,
            is_detached,
            is_secret: false,
        }),
        owner: Owner { uid, label },
        grace,
        until: (!is_detached).then(|| now + grace),
        state: State::Lost,
        is_leaving: false,
    })
}
