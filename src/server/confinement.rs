//! What the daemon keeps, of what it could do at the start, and what it says of that.

use std::path::{Path, PathBuf};

use crate::options::{Address, Options, Settings, SocketAddress};
use crate::sys::confinement::{self, Needs};
use crate::sys::user::{UserError, become_user as become_};

/// Becomes `BusUser`, if there is one. What is opened later is opened by that user, so that it can
/// be opened again at any time.
pub(super) fn become_user(settings: &Settings) -> Result<(), UserError> {
    let Some(name) = &settings.user else {
        return Ok(());
    };
    let of_sockets = socket_directories(settings).map(|path| (path, 0o755));
    let directories: Vec<_> = of_sockets
        .chain([(settings.state_directory.clone(), 0o700)])
        .collect();
    become_(name, &directories)?;
    log::info!("running as user {name}");
    Ok(())
}

/// Gives up what the daemon will never need, and says in words what that is.
pub(super) fn confine(options: &Options) -> String {
    let settings = options.settings();
    if !settings.confine {
        log::info!("not confined: BusConfine is 0");
        return "none".into();
    }
    let mut files = vec![settings.state_directory.clone()];
    if let Some(file) = options.file() {
        // SAVECONF puts a new file in the place of the one that a link leads to.
        let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        files.extend(directory(&target));
    }
    if !settings.onion_store.as_os_str().is_empty() {
        files.extend(directory(&settings.onion_store));
    }
    let log = settings.audit.as_deref();
    // A link there is refused, so this is where the file is.
    files.extend(log.and_then(directory));
    let measures = confinement::confine(&Needs {
        sockets: socket_directories(settings).collect(),
        files,
        port: settings.tor.as_ref().and_then(Address::port),
        names: matches!(settings.tor, Some(Address::Name(..))),
    });
    let (mut done, mut missing) = (Vec::new(), Vec::new());
    for measure in measures {
        match measure.missing {
            None => done.push(measure.name),
            Some(why) => missing.push(format!("{}: {why}", measure.name)),
        }
    }
    if missing.is_empty() {
        log::info!("confined in every way");
    } else {
        log::info!("confined, but without {}", missing.join("; "));
    }
    done.join(" ")
}

/// The directories of the sockets that the daemon opens itself.
fn socket_directories(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    settings
        .sockets
        .iter()
        .filter_map(|spec| match &spec.address {
            SocketAddress::Path(path) => directory(path),
            SocketAddress::Inherited(_) | SocketAddress::Port(_) => None,
        })
}

fn directory(path: &Path) -> Option<PathBuf> {
    path.parent().map(Path::to_owned)
}
