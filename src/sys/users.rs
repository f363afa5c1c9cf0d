//! Users and groups, as the system's database has them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The number of a user's name.
#[must_use]
pub fn user(name: &str) -> Option<u32> {
    User::from_name(name)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw())
}

/// The number of a group's name.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    Group::from_name(name)
        .ok()
        .flatten()
        .map(|group| group.gid.as_raw())
}

/// The name of a user.
#[must_use]
pub fn name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

/// The primary group of a user and the others.
#[must_use]
pub fn groups(uid: u32) -> Option<(u32, Vec<u32>)> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    let name = CString::new(user.name).ok()?;
    let groups = getgrouplist(&name, user.gid).ok()?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Some((user.gid.as_raw(), groups))
}

/// The name of each user in the list of this machine; of two names for one user the first. Those of
/// a directory service are in no list: [`name`] finds one.
#[must_use]
pub fn all() -> BTreeMap<u32, String> {
    let octets = fs::read("/etc/passwd").unwrap_or_default();
    // An octet of one line says nothing of the others.
    let text = String::from_utf8_lossy(&octets);
    let mut users = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(uid))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
        {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// The user that this process runs as.
#[must_use]
pub fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}
