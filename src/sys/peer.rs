//! Who is at the other end of a socket.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{GetOsString, GetStruct, PeerCredentials, PeerPidfd};

/// The process at the other end of a socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// More of the process at the other end: texts of the kernel's, each missing where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The label of a security module.
    pub label: Option<Vec<u8>>,
    /// The supplementary groups that the process had when it connected.
    pub groups: Option<Vec<u32>>,
    /// `/proc/PID/status`, of the process that has connected and no other.
    pub status: Option<Vec<u8>>,
    /// `/proc/PID/cgroup`, likewise.
    pub cgroup: Option<Vec<u8>>,
}

/// The most octets of a label.
const MOST_LABEL: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct PeerSecurity;
nix::getsockopt_impl!(
    PeerSecurity,
    libc::SOL_SOCKET,
    libc::SO_PEERSEC,
    OsString,
    GetOsString<[u8; MOST_LABEL]>
);

/// Asks a socket for exactly so many supplementary groups, for each number in turn. Of more the
/// kernel says that there is no room, and a getter of another size would panic.
macro_rules! ask_for_groups {
    ($socket:ident: $($count:literal)*) => {
        $({
            #[derive(Clone, Copy, Debug)]
            struct PeerGroups;
            nix::getsockopt_impl!(
                PeerGroups,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                [u32; $count],
                GetStruct<[u32; $count]>
            );
            match getsockopt($socket, PeerGroups) {
                Err(Errno::ERANGE) => {}
                found => return found.map(Vec::from),
            }
        })*
    };
}

/// The supplementary groups of who has connected, as they were then; an error for more than 32.
fn groups(socket: &impl AsFd) -> nix::Result<Vec<u32>> {
    ask_for_groups!(socket:
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    Err(Errno::ERANGE)
}

/// The process, user and group at the other end, as they were when it connected.
pub fn credentials(socket: &impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(socket, PeerCredentials)?;
    Ok(Peer {
        pid: credentials.pid(),
        uid: credentials.uid(),
        gid: credentials.gid(),
    })
}

/// The name of the program that runs as a process now.
#[must_use]
pub fn program(pid: i32) -> Option<Vec<u8>> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_ascii_end().to_vec())
}

/// The label that a security module gives who has connected, if one does.
#[must_use]
pub fn label(socket: &impl AsFd) -> Option<Vec<u8>> {
    getsockopt(socket, PeerSecurity)
        .ok()
        .map(OsString::into_vec)
}

/// More of who has connected. The files of a process are read between two looks at whether it
/// lives, so that they are not those of another that has its number by now.
#[must_use]
pub fn details(socket: &impl AsFd, peer: Peer) -> Details {
    let mut details = Details {
        label: label(socket),
        groups: groups(socket).ok(),
        ..Details::default()
    };
    let Ok(process) = getsockopt(socket, PeerPidfd) else {
        return details;
    };
    if peer.pid > 0 && lives(&process) {
        let read = |name| std::fs::read(format!("/proc/{}/{name}", peer.pid)).ok();
        let (status, cgroup) = (read("status"), read("cgroup"));
        if lives(&process) {
            (details.status, details.cgroup) = (status, cgroup);
        }
    }
    details
}

/// The sources of identity that this kernel does not have.
pub fn missing() -> io::Result<Vec<&'static str>> {
    let (socket, _other) = UnixStream::pair()?;
    let socket = &socket;
    let is_missing = |error: Option<Errno>| error == Some(Errno::ENOPROTOOPT);
    let label = getsockopt(socket, PeerSecurity).err();
    let groups = groups(socket).err();
    let process = getsockopt(socket, PeerPidfd).err();
    let all = [
        ("labels (SO_PEERSEC)", is_missing(label)),
        ("groups (SO_PEERGROUPS)", is_missing(groups)),
        ("processes (SO_PEERPIDFD)", is_missing(process)),
    ];
    let missing = all.into_iter().filter(|(_, is_missing)| *is_missing);
    Ok(missing.map(|(name, _)| name).collect())
}

/// Whether a process lives: its descriptor is readable once it has ended.
fn lives(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_this_one() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = credentials(&here).unwrap();
        assert_eq!(peer.pid.unsigned_abs(), std::process::id());
        let details = details(&here, peer);
        if missing().unwrap().contains(&"processes (SO_PEERPIDFD)") {
            return assert_eq!(details.status, None);
        }
        let status = String::from_utf8(details.status.unwrap()).unwrap();
        assert!(
            status.contains(&format!("\nPid:\t{}\n", peer.pid)),
            "{status}"
        );
        assert!(details.cgroup.is_some());
    }
}
