//! Sockets that the service manager passes on.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::has;

/// A daemon that does not outlive its test, however that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket unit with two `ListenStream` gives both the same name.
#[test]
fn a_line_is_for_every_socket_of_its_name() {
    if !has("systemd-socket-activate") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let sockets = ["a", "b"].map(|name| root.path().join(name));
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--fdname=old:old").stderr(Stdio::piped());
    for socket in &sockets {
        command.arg("-l").arg(socket);
    }
    command.args([env!("CARGO_BIN_EXE_onionbus"), "serve", "--state"]);
    command.arg(root.path().join("state"));
    command.args(["--set", "BusSocket fd:old Protocol=tc"]);
    let mut daemon = Daemon(command.spawn().unwrap());
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut line = String::new();
    // It binds the sockets in order and says so.
    while !line.contains(sockets[1].to_str().unwrap()) {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    for socket in &sockets {
        let mut peer = UnixStream::connect(socket).unwrap();
        // A type that nobody knows: without Protocol=tc this would be the beginning of a text.
        peer.write_all(&[0, 0, 0x12, 0x34]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        let start = answer.get(2..6);
        assert_eq!(start, Some(&[0, 0, 0, 1][..]), "{}", socket.display());
    }
    let pid = i32::try_from(daemon.0.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
}
