//! The completions in `contrib` are what the program prints.

use std::path::Path;
use std::process::Command;

#[test]
fn the_completions_in_contrib_are_the_programs() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/completions");
    for (shell, file) in [
        ("bash", "onionbus.bash"),
        ("zsh", "_onionbus"),
        ("fish", "onionbus.fish"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
        let output = command.args(["completions", shell]).output();
        let printed = output.expect("it starts").stdout;
        let kept = std::fs::read(directory.join(file)).expect("it is there");
        // Not assert_eq: nobody reads two scripts as octets.
        assert!(
            printed == kept,
            "run: onionbus completions {shell} > contrib/completions/{file}"
        );
    }
}
