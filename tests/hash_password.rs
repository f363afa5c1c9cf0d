//! `onionbus hash-password`: what it prints, and where the password comes from.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use onionbus::auth::HashedPassword;

/// Runs the command with `input` on its standard input.
fn hash(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_onionbus"))
        .arg("hash-password")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Whoever refuses an argument reads nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_first_line_of_standard_input_is_hashed_each_time_with_another_salt() {
    for input in [
        &b"a \"b\"\xff"[..],
        b"a \"b\"\xff\nmore",
        b"a \"b\"\xff\r\n",
    ] {
        let [one, two] = [hash(&[], input), hash(&[], input)].map(|output| output.stdout);
        assert_ne!(one, two);
        for printed in [one, two] {
            let hash = HashedPassword::parse(printed.trim_ascii_end()).expect("it is Tor's form");
            assert!(hash.is_of(b"a \"b\"\xff"), "{input:?}");
        }
    }
}

#[test]
fn an_argument_is_refused_and_so_is_no_password() {
    let long = [b'x'; 1025];
    for (arguments, input, part) in [
        (&["secret"][..], &b""[..], "a password is no argument"),
        (&[], b"", "1 to 1024 octets, this one has 0"),
        (&[], b"\n", "this one has 0"),
        (&[], &long, "this one has 1025"),
    ] {
        let output = hash(arguments, input);
        let said = String::from_utf8(output.stderr).expect("it is UTF-8");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.contains(part) && !said.contains("secret"), "{said}");
    }
    assert!(hash(&[], &long[1..]).status.success());
}
