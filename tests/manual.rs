//! The list of options in onionbus.conf(5) is the table's.

use std::fs;

use onionbus::options::table::{Changeable, Kind, Spec, TABLE};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/man/onionbus.conf.5");
const BEGIN: &str = ".\\\" The list of options, made from src/options/table.rs:\n";
const END: &str = ".\\\" The end of the list of options.\n";

/// One option as an mdoc list item, a sentence a line.
fn item(spec: &Spec) -> String {
    let argument = match spec.kind {
        Kind::Boolean => "Cm 0 | 1",
        Kind::Count { .. } => "Ar number",
        Kind::Octets { .. } => "Ar size",
        Kind::Seconds { .. } => "Ar time",
        Kind::Path | Kind::Paths => "Ar path",
        Kind::Ports => "Ar port ...",
        Kind::Words => "Ar option ...",
        Kind::Tor => "Cm unix: Ns Ar path | Ar host : Ns Ar port | Cm none",
        Kind::Secret => "Ar text",
        Kind::Passwords => "Ar hash",
        Kind::User => "Ar user",
        Kind::Severity => "Cm debug | info | notice | warn | err",
        Kind::Sockets => "Ar socket",
    };
    let takes = match spec.kind {
        Kind::Sockets => "a socket as in\n.Sx SOCKETS .".into(),
        kind => format!("{}.", kind.takes()),
    };
    let default = match spec.default {
        "" if matches!(spec.kind, Kind::Path | Kind::Paths) && spec.name != "BusStateDirectory" => {
            "Default: none.".into()
        }
        "" => "Default: see\n.Sx DEFAULTS .".into(),
        default => format!("Default: {default}."),
    };
    let change = match spec.change {
        Changeable::Running => "Can change while onionbus runs.",
        Changeable::AtReload => "Changes when onionbus starts or reloads.",
        Changeable::AtStart => "Changes only when onionbus starts.",
    };
    let doc = spec.doc.replace(". ", ".\n");
    let name = spec.name;
    format!(".It Ic {name} {argument}\n{doc}\nIt takes {takes}\n{default}\n{change}\n")
}

#[test]
fn the_list_of_options_is_the_tables() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page marks the begin");
    let (list, after) = rest.split_once(END).expect("the page marks the end");
    let items: String = TABLE.iter().map(item).collect();
    if std::env::var_os("ONIONBUS_BLESS").is_some() {
        fs::write(PAGE, [before, BEGIN, &items, END, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        list, items,
        "ONIONBUS_BLESS=1 cargo test --test manual makes the list anew"
    );
}
