//! The leases: this host's is written, those of the others are read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::args::Arguments;
use crate::bridge::{self, Sessions};
use crate::nats;
use crate::nats::Session;
use crate::parcel::Target;
use crate::presence::{Heard, Instance, Lease, Presence, REFRESH};

/// The time between two looks for leases that have ended.
const LOOK: Duration = Duration::from_millis(250);

/// Another bridge says to be this host.
#[derive(Debug, thiserror::Error)]
#[error("another bridge of this group calls itself {0}, and was there first: give each its --host")]
pub struct Elder(String);

/// Watches who is there, and tells who is here.
pub struct Neighbours {
    arguments: Arguments,
    instance: Instance,
    presence: Presence,
    left_out: usize,
    wanted: watch::Sender<BTreeSet<Target>>,
    /// Who is here; before the bus is there, nobody knows.
    names: watch::Receiver<Option<BTreeSet<String>>>,
}

impl Neighbours {
    /// The controllers of the last life are taken to be there until their hosts have spoken.
    pub fn new(
        arguments: Arguments,
        instance: Instance,
        remembered: BTreeSet<Target>,
        wanted: watch::Sender<BTreeSet<Target>>,
        names: watch::Receiver<Option<BTreeSet<String>>>,
    ) -> Self {
        let most = arguments.max_controllers.into();
        let host = arguments.host.clone();
        let now = Instant::now();
        let presence = Presence::new(host, instance.clone(), most, remembered, now);
        Self {
            arguments,
            instance,
            presence,
            left_out: 0,
            wanted,
            names,
        }
    }

    /// Goes on over one connection to NATS after the other, and without any, until `stop`.
    pub async fn run(
        mut self,
        mut sessions: watch::Receiver<Sessions>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Elder> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.tell();
            let session = sessions.borrow_and_update().clone();
            if let Some((session, _)) = session {
                let why = tokio::select! {
                    failed = self.watch(&session) => failed?,
                    () = bridge::told(&mut stop) => {
                        let gone = self.lease(&BTreeSet::new());
                        let _ = session.put_lease(gone).await;
                        return Ok(());
                    }
                };
                session.fail(why);
            }
            tokio::select! {
                changed = sessions.changed() => if changed.is_err() { return Ok(()) },
                _ = look.tick() => {}
                () = bridge::told(&mut stop) => return Ok(()),
            }
        }
    }

    /// Reads and writes leases until something fails, and says what.
    async fn watch(&mut self, session: &Arc<Session>) -> Result<String, Elder> {
        let mut leases = match session.leases().await {
            Ok(leases) => leases,
            Err(error) => return Ok(error.to_string()),
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let prefix = nats::lease_subject(&self.arguments.group);
        let mut writing: Option<JoinHandle<()>> = None;
        let mut is_due = true;
        loop {
            if is_due && writing.as_ref().is_none_or(JoinHandle::is_finished) {
                is_due = false;
                let names = self.names.borrow_and_update().clone();
                writing = names.map(|names| {
                    let lease = self.lease(&names);
                    let session = Arc::clone(session);
                    tokio::spawn(async move {
                        if let Err(error) = session.put_lease(lease).await {
                            session.fail(format!("the lease cannot be written: {error}"));
                        }
                    })
                });
            }
            tokio::select! {
                lease = leases.next() => {
                    let Some(lease) = lease else { return Ok("no more leases come".into()) };
                    let host = lease.subject.strip_prefix(&prefix).unwrap_or_default();
                    let now = Instant::now();
                    match self.presence.handle_lease(host, &lease.payload, now) {
                        Heard::Lease => {}
                        Heard::Nothing => {
                            log::debug!("the lease of {} is none", host.escape_debug());
                        },
                        Heard::Elder => return Err(Elder(self.arguments.host.to_string())),
                    }
                }
                _ = look.tick() => {}
                _ = refresh.tick() => is_due = true,
                changed = self.names.changed() => {
                    if changed.is_err() { return Ok("the bridge ends".into()) }
                    is_due = true;
                }
                why = session.failure() => return Ok(why),
            }
            self.tell();
        }
    }

    /// Tells who is there, if it has changed.
    fn tell(&mut self) {
        let (targets, left_out) = self.presence.poll_targets(Instant::now());
        if left_out > 0 && left_out != self.left_out {
            log::warn!("{left_out} controllers of others are not shown: --max-controllers is less");
        }
        self.left_out = left_out;
        self.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != targets;
            if is_new {
                *wanted = targets;
            }
            is_new
        });
    }

    fn lease(&self, names: &BTreeSet<String>) -> Vec<u8> {
        let lease = Lease {
            instance: self.instance.clone(),
            names: names.clone(),
        };
        // Numbers and names can always be written.
        serde_json::to_vec(&lease).unwrap_or_default()
    }
}
