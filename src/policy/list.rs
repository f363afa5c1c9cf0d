//! Grants as they are listed: one a line, in one order, as a file would have them.

use std::collections::BTreeSet;

use super::grants::Grants;
use super::ledger::OwnSocks;
use super::table::{Scope, Table, Values, What};
use crate::wire::torrc::quote;

impl Grants {
    /// The value of `GETINFO policy`: the lines of a block that would grant the same.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut lines = BTreeSet::new();
        table(&self.allow, "Allow", &mut lines);
        table(&self.deny, "Deny", &mut lines);
        for (key, value) in &self.answers {
            lines.insert(format!("Answer {}={}", text(key), text(&quote(value))));
        }
        lines.extend(self.keep.map(|seconds| format!("Keep onions {seconds}")));
        for own in &self.own_socks {
            lines.insert(match own {
                OwnSocks::Unix(path) => format!("Own-Socks unix:{}", word(path)),
                OwnSocks::User(prefix) => format!("Own-Socks user={}", word(prefix)),
            });
        }
        if self.complain {
            lines.insert("Complain".into());
        }
        lines.into_iter().collect()
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A word as it is written, in quotes if it must be.
pub(super) fn word(octets: &[u8]) -> String {
    let is_bare = |octet: &u8| octet.is_ascii_graphic() && !b"\"#\\".contains(octet);
    if octets.iter().all(is_bare) && !octets.is_empty() {
        text(octets)
    } else {
        text(&quote(octets))
    }
}

fn table(table: &Table, start: &str, lines: &mut BTreeSet<String>) {
    let mut add = |what: What, words: &str| {
        let between = if words.is_empty() { "" } else { " " };
        lines.insert(format!("{start} {}{between}{words}", what.name()));
    };
    for what in &table.plain {
        add(*what, "");
    }
    for (what, words) in &table.words {
        for octets in words.words() {
            let get = if *what == What::BusConf { "get " } else { "" };
            add(*what, &format!("{get}{}", word(&octets)));
        }
    }
    for octets in table.bus_set.words() {
        add(What::BusConf, &format!("set {}", word(&octets)));
    }
    if table.setconf_all {
        add(What::SetConf, "*");
    }
    for (option, values) in &table.setconf {
        let option = word(option);
        match values {
            Values::Any => add(What::SetConf, &option),
            Values::Of(values) => {
                let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
                add(
                    What::SetConf,
                    &format!("{option}={}", setting(&values.join(&b'|'))),
                );
            }
        }
    }
    for (event, form) in &table.events {
        add(What::Events, &format!("{}{}", text(event), form.suffix()));
    }
    for grant in &table.onions {
        add(What::AddOnion, &grant.words());
    }
    for ((what, verb), scope) in &table.scopes {
        let whole = if *what == What::Onions { "all" } else { "any" };
        let scope = match scope {
            Scope::Own => "own",
            Scope::Any if *what == What::DelOnion => "",
            Scope::Any => whole,
        };
        let between = if verb.is_empty() || scope.is_empty() {
            ""
        } else {
            " "
        };
        add(*what, &format!("{verb}{between}{scope}"));
    }
}

fn setting(value: &[u8]) -> String {
    if value.is_empty() {
        String::new()
    } else {
        word(value)
    }
}
