//! `onionbus serve`: the daemon, in the foreground.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::absolute;

use anyhow::{Context, anyhow};
use onionbus::options::{Address, Defaults, Options, SocketSpec, path_in};
use onionbus::sys::paths;
use onionbus::{logging, server};

use super::args::Serve;

pub fn run(arguments: &Serve) -> anyhow::Result<()> {
    let defaults = Defaults {
        socket: paths::default_socket(),
        state_directory: paths::default_state_directory(),
    };
    let socket = arguments.socket.as_ref().unwrap_or(&defaults.socket);
    let state = arguments
        .state
        .as_ref()
        .unwrap_or(&defaults.state_directory);
    let private = paths::private_directory();
    let wants_private = [socket, state]
        .iter()
        .any(|path| path.starts_with(&private));

    let overrides = overrides(arguments).context("--socket and --state need a path")?;
    let options = Options::load(arguments.config.as_deref(), &overrides, defaults)
        .map_err(|problems| anyhow!("nothing is started before this is corrected:\n{problems}"))?;
    if wants_private {
        paths::make_private(&private)?;
    }
    let (logging, writer) = logging::start();
    let opened = server::open(options, logging);
    // Not sooner: it is confined as the thread that starts it.
    writer.start()?;
    let served = opened.and_then(server::Server::run);
    log::logger().flush();
    Ok(served?)
}

/// The arguments as lines of a configuration file.
fn overrides(arguments: &Serve) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    if let Some(socket) = &arguments.socket {
        // What the clients take for a port is one here too.
        let value = match socket.to_str().and_then(Address::parse) {
            Some(port @ (Address::Tcp(_) | Address::Name(..))) => port.to_string().into_bytes(),
            Some(Address::Unix(_)) | None => SocketSpec::at(absolute(socket)?).to_value(),
        };
        lines.push([b"BusSocket ", &value[..]].concat());
    }
    if let Some(state) = &arguments.state {
        let path = absolute(state)?.into_os_string().into_vec();
        lines.push([b"BusStateDirectory ", &path[..]].concat());
    }
    if let Some(tor) = &arguments.tor {
        let path = path_in(tor).filter(|path| !path.is_empty());
        let value = match path {
            Some(path) => [b"unix:", absolute(path)?.as_os_str().as_bytes()].concat(),
            None => tor.clone().into_bytes(),
        };
        lines.push([b"BusTor ", &value[..]].concat());
    }
    lines.extend(
        arguments
            .set
            .iter()
            .map(|line| option_line(line.as_bytes())),
    );
    Ok(lines)
}

/// A line of a file from `Option value` or `Option=value`.
fn option_line(argument: &[u8]) -> Vec<u8> {
    let mut line = argument.to_vec();
    let end = line.iter_mut().find(|octet| b"= \t".contains(octet));
    if let Some(equals) = end.filter(|octet| **octet == b'=') {
        *equals = b' ';
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_lines_of_the_file() {
        let with_tor = |tor: &str| Serve {
            config: None,
            socket: Some("/a b/\"c\"".into()),
            state: Some("/state#1".into()),
            tor: Some(tor.into()),
            set: vec![
                "BusHistory 5".into(),
                "BusLog=debug stderr".into(),
                "BusTorPassword a=b".into(),
            ],
        };
        assert_eq!(
            overrides(&with_tor("unix:/tor")).expect("absolute paths need no working directory"),
            [
                &br#"BusSocket "/a b/\"c\"" Mode=0600"#[..],
                b"BusStateDirectory /state#1",
                b"BusTor unix:/tor",
                b"BusHistory 5",
                b"BusLog debug stderr",
                b"BusTorPassword a=b",
            ]
        );
        let with_socket = |socket: &str| Serve {
            socket: Some(socket.into()),
            ..with_tor("none")
        };
        for (socket, value) in [
            ("127.0.0.1:9051", "127.0.0.1:9051"),
            ("9051", "127.0.0.1:9051"),
            ("[::1]:9051", "[::1]:9051"),
            // Refused with the reason.
            ("tor:9051", "tor:9051"),
            ("/9051", "/9051"),
        ] {
            let lines = overrides(&with_socket(socket)).expect("there is a working directory");
            let line = String::from_utf8_lossy(&lines[0]).into_owned();
            assert_eq!(line, format!("BusSocket {value}"), "{socket}");
        }
        let here = std::env::current_dir().expect("there is one");
        let here = here.to_str().expect("a path of ours");
        for (tor, value) in [
            ("unix:tor/control", format!("unix:{here}/tor/control")),
            ("unix:\"a b\"", format!("unix:{here}/a b")),
            ("./control", format!("unix:{here}/control")),
            ("/run/tor/control", "unix:/run/tor/control".into()),
            ("9051", "9051".into()),
            ("localhost:9051", "localhost:9051".into()),
            ("unix:", "unix:".into()),
            ("none", "none".into()),
        ] {
            let lines = overrides(&with_tor(tor)).expect("there is a working directory");
            let line = String::from_utf8_lossy(&lines[2]).into_owned();
            assert_eq!(line, format!("BusTor {value}"), "{tor}");
        }
    }
}
