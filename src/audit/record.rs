//! Records: the lines of the audit log, each an object of JSON.

use serde::{Deserialize, Serialize};

use super::trail::Who;
use crate::policy::Identity;

/// One line of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "onionbus-policy(5) has the words of them")]
pub struct Record {
    pub time: String,
    pub event: String,
    pub number: Option<u64>,
    pub id: u64,
    pub name: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    pub label: String,
    pub unit: String,
    pub pid: Option<i32>,
    pub socket: String,
    pub profiles: Vec<String>,
    pub command: String,
    pub args: Vec<String>,
    pub status: Option<u16>,
    pub grant: String,
}

impl Record {
    /// A record of somebody who is on the bus, or outside.
    #[must_use]
    pub fn of(who: &Who, identity: Option<&Identity>, profiles: &[String]) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let mut record = Self {
            id: who.id,
            name: who.name.clone(),
            uid: who.uid,
            pid: who.pid,
            profiles: profiles.to_vec(),
            ..Self::default()
        };
        if let Some(identity) = identity {
            record.gid = Some(identity.gid);
            record.groups.clone_from(&identity.groups);
            record.groups.sort_unstable();
            record.label = text(&identity.label);
            record.unit = text(&identity.unit);
            record.socket = text(&identity.socket);
        }
        record
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        // It has no map whose keys could be anything but text, so it can be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The record of a line; none if the line is none.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_is_one_line() {
        let identity = Identity {
            groups: vec![9, 3],
            label: b"a\"b\n\xff".to_vec(),
            socket: b"/run/x".to_vec(),
            ..Identity::default()
        };
        let mut record = Record::of(&Who::outside(), Some(&identity), &["p".into()]);
        record.grant = "Allow setconf A\nAllow busconf set BusB".into();
        let line = record.line();
        assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
        assert_eq!(Record::parse(&line), Some(record.clone()));
        assert_eq!((record.groups, record.gid), (vec![3, 9], Some(0)));
        assert_eq!(Record::parse(b"{\"event\":1"), None);
        assert_eq!(Record::parse(b"{}"), Some(Record::default()));
    }
}
