//! The client commands at a Tor itself, which wants its cookie.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::tor::{Home, has_tor};

#[test]
fn the_shell_works_at_a_tor() {
    if !has_tor() {
        return;
    }
    let home = Home::with("CookieAuthentication 1");
    let _tor = home.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command.arg("shell").arg("--socket").arg(home.socket());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let lines = "SETEVENTS CONF_CHANGED\nSETCONF NumCPUs=2\nGETCONF NumCPUs\n\
                 GETINFO vresion\nGETCONF OrPrt\nSETCONF OrPrt=1\nSETEVENTS STREM\n\
                 SIGNAL NEWNIM\nGETINFOO\nQUIT\n";
    stdin.write_all(lines.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("it is text"));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    for shown in [
        "650-CONF_CHANGED\n650-NumCPUs=2\n650 OK\n",
        "\n250 NumCPUs=2\n",
        "\n250 closing connection\n",
    ] {
        assert!(out.contains(shown), "{out}");
    }
    let meant = ["version", "ORPort", "ORPort", "STREAM", "NEWNYM", "GETINFO"];
    let hints = meant.map(|name| format!("onionbus: did you mean {name}?\n"));
    assert_eq!(err, hints.concat());
}
