//! The `onionbus` program: arguments to a command.
#![forbid(unsafe_code)]

fn main() {}
