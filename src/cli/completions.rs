//! `onionbus completions`: the script that a shell needs to complete our arguments, and the names
//! for which the script asks.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::slice;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use super::args::{Arguments, Command, Conf};
use super::shell::Words;

/// The beginning of the generated function that completes, in bash and zsh.
const FUNCTION: &str = "_onionbus() {\n";

const BASH: &str = r#"# The names that there are now: onionbus asks the daemon.
_onionbus_names() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} words begin
    # Not COMP_WORDS, which are broken at @ and = too.
    read -ra words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    mapfile -t COMPREPLY < <("$1" completions bash -- "${words[@]}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 0 ]] && return 1
    # Only the part behind the last break is replaced.
    begin=${words[-1]%"$2"}
    COMPREPLY=("${COMPREPLY[@]#"$begin"}")
    # Behind these the word goes on.
    [[ ${COMPREPLY[*]} == *[=/] ]] && compopt -o nospace
    return 0
}

_onionbus() {
    _onionbus_names "$@" && return
"#;

const ZSH: &str = r#"# The names that there are now: onionbus asks the daemon.
_onionbus_names() {
    local -a names whole open
    local -a line=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    names=(${(f)"$("$line[1]" completions zsh -- "${(@)line}" 2>/dev/null)"})
    # Behind these the word goes on.
    open=(${(M)names:#*[=/]})
    whole=(${names:#*[=/]})
    compadd -M 'm:{a-zA-Z}={A-Za-z}' -S '' -a open
    compadd -M 'm:{a-zA-Z}={A-Za-z}' -a whole
    (( $#names ))
}

_onionbus() {
    _onionbus_names && return
"#;

const FISH: &str = r#"
# The names that there are now: onionbus asks the daemon.
function __fish_onionbus_names
    set -l line (commandline -opc) (commandline -ct)
    $line[1] completions fish -- $line 2>/dev/null
end

complete -c onionbus -n "__fish_onionbus_using_subcommand post watch info conf command" -f -a "(__fish_onionbus_names)"
"#;

/// A word in the place of the one that is completed; no argument can be it.
const CURSOR: &str = "\0";

pub fn run(shell: Shell, line: &[OsString], out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some((word, before)) = line.split_last() {
        for name in names(before, &word.to_string_lossy()) {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    }
    // The generator panics where it cannot write, so it writes where it always can.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "onionbus", &mut script);
    let script = String::from_utf8(script)?;
    let script = match shell {
        Shell::Bash => script.replacen(FUNCTION, BASH, 1),
        Shell::Zsh => script.replacen(FUNCTION, ZSH, 1),
        Shell::Fish => script + FISH,
        _ => script,
    };
    out.write_all(script.as_bytes())?;
    Ok(())
}

/// The names that `word` can become behind `before`; none where other things than names stand.
fn names(before: &[OsString], word: &str) -> Vec<String> {
    let words = before.iter().map(|word| expanded(word));
    let arguments = Arguments::try_parse_from(words.chain([CURSOR.into()]));
    let Ok(command) = arguments.and_then(Arguments::into_command) else {
        return Vec::new();
    };
    // The names have their places in the commands that these send.
    let (bus, keyword, arguments) = match &command {
        Command::Post(post) => (&post.bus, "POSTMESSAGE", slice::from_ref(&post.destination)),
        Command::Watch(watch) => (&watch.bus, "SETEVENTS", &watch.events[..]),
        Command::Info(info) => (&info.bus, "GETINFO", &info.keys[..]),
        Command::Conf(Conf::Get(get)) => (&get.bus, "GETCONF", &get.keys[..]),
        Command::Conf(Conf::Set(set)) => (&set.bus, "SETCONF", &set.settings[..]),
        Command::Raw(raw) => (&raw.bus, "", &raw.line[..]),
        _ => return Vec::new(),
    };
    let Some((last, before)) = arguments.split_last() else {
        return Vec::new();
    };
    if last != CURSOR || word.starts_with('-') {
        return Vec::new();
    }
    let before: Vec<_> = before.iter().map(|word| word.to_string_lossy()).collect();
    let line = format!("{keyword} {} {word}", before.join(" "));
    let mut names = Words::new(bus).complete(line.trim_start());
    // Whoever listens there chooses them, and a shell carries out more than words.
    names.retain(|name| name.bytes().all(is_plain));
    names
}

/// Whether an octet means nothing to a shell.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&octet)
}

/// A word with the home directory in the place of ~, as the shell passes it on.
fn expanded(word: &OsStr) -> OsString {
    match (Path::new(word).strip_prefix("~"), env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest).into(),
        _ => word.to_owned(),
    }
}
