//! The version that the program names, by the build script that finds the commit.

use std::path::Path;
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The output of a program that succeeds in a directory, without the end of its last line.
fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    // Neither the one who runs the tests nor a hook that does may choose another repository.
    command
        .env_remove("GIT_DIR")
        .env_remove("ONIONBUS_COMMIT")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.env("CARGO_PKG_VERSION", VERSION).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim_end().to_owned()
}

/// The last line of the build script in a directory.
fn built(script: &Path, directory: &Path) -> String {
    let output = run(directory, script.to_str().expect("a temporary path"), &[]);
    output.lines().last().expect("a line").to_owned()
}

#[test]
fn the_commit_is_named_where_there_is_one() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let rustc = option_env!("RUSTC").unwrap_or("rustc");
    run(
        root.path(),
        rustc,
        &["--edition=2024", "-o", "build", source],
    );
    let script = root.path().join("build");
    let plain = format!("cargo::rustc-env=ONIONBUS_VERSION={VERSION}");

    let checkout = root.path().join("checkout");
    let inside = checkout.join("unpacked");
    std::fs::create_dir_all(&inside).expect("it is ours");
    assert_eq!(built(&script, &checkout), plain, "no repository");

    run(&checkout, "git", &["init", "--quiet"]);
    assert_eq!(built(&script, &checkout), plain, "no commit");

    let author = ["-c", "user.name=a", "-c", "user.email=a@localhost"];
    let commit = ["commit", "--quiet", "--allow-empty", "-m", "one"];
    run(&checkout, "git", &[&author[..], &commit[..]].concat());
    let id = run(&checkout, "git", &["rev-parse", "HEAD"]);
    let named = format!("{plain} ({})", &id[..12]);
    assert_eq!(built(&script, &checkout), named);
    assert_eq!(built(&script, &inside), plain, "somebody else's repository");
    let build = script.to_str().expect("a temporary path");
    let given = run(&inside, "env", &["ONIONBUS_COMMIT=abc", build]);
    assert_eq!(given.lines().last(), Some(&format!("{plain} (abc)")[..]));

    // A checkout beside the repository, where `.git` is a file.
    run(
        &checkout,
        "git",
        &["worktree", "add", "--quiet", "../beside"],
    );
    assert_eq!(built(&script, &root.path().join("beside")), named);

    std::fs::remove_file(checkout.join(".git/HEAD")).expect("it is there");
    assert_eq!(built(&script, &checkout), plain, "a broken repository");
}

#[test]
fn the_program_names_its_version() {
    let program = env!("CARGO_BIN_EXE_onionbus");
    let said = run(Path::new("/"), program, &["--version"]);
    let said = said.strip_prefix("onionbus ").expect("the program's name");
    let commit = said.strip_prefix(VERSION).expect("the version");
    let is_commit = |text: &str| {
        let text = text
            .strip_prefix(" (")
            .and_then(|text| text.strip_suffix(')'));
        text.is_some_and(|id| id.len() == 12 && id.bytes().all(|octet| octet.is_ascii_hexdigit()))
    };
    assert!(commit.is_empty() || is_commit(commit), "{said}");
}
