//! The task that hears one connection: what it hands on, and after whom.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Local, Report};
use crate::bus::{Ear, Heard};
use crate::ledger::Posted;
use crate::outgoing::Outgoing;
use crate::parcel::Target;

/// The reply to QUIT, behind which nothing comes.
const GOODBYE: &[u8] = b"250 closing connection";

/// The task that hears one connection.
pub struct Listener {
    /// The connections that it is one of.
    pub local: Arc<Local>,
    /// Whose connection it is.
    pub target: Target,
    /// Its number.
    pub connection: u64,
    /// The last message to all that this connection has heard.
    pub last_to_all: u64,
    /// Up to which `MessageID` all is handed on.
    pub progress: watch::Sender<u64>,
    /// Where replies go.
    pub replies: mpsc::Sender<(u16, Vec<u8>)>,
}

impl Listener {
    /// Hears until the connection ends, and tells the loop then.
    pub async fn run(mut self, mut ear: Ear, early: Vec<Posted>) {
        for posted in early {
            self.hand_on(posted).await;
        }
        let mut is_read = false;
        let error = loop {
            match ear.hear().await {
                Ok(Heard::Message(posted)) => self.hand_on(posted).await,
                Ok(Heard::Reply(status, reply)) => {
                    is_read = reply.starts_with(GOODBYE);
                    // The bridge's own connection asks for nothing that it reads the reply of.
                    let _ = self.replies.send((status, reply)).await;
                }
                Ok(Heard::Change(change)) => self.report(Report::Change(change)).await,
                Ok(Heard::Other) => {}
                Err(error) => break error,
            }
        };
        self.local.heard().remove(&self.connection);
        let report = Report::Ended {
            target: self.target.clone(),
            connection: self.connection,
            is_read,
            error,
        };
        self.report(report).await;
    }

    async fn report(&self, report: Report) {
        // The loop ends only with the program.
        let _ = self.local.reports.send(report).await;
    }

    async fn hand_on(&mut self, posted: Posted) {
        let (id, to_all) = (posted.id, posted.to_all);
        let is_main = self.target == Target::All;
        match (is_main, to_all) {
            (true, true) => self.await_others(id).await,
            // A message of the bridge to itself, or to it from others.
            (true, false) => {}
            (false, true) => self.last_to_all = id,
            (false, false) => self.await_main().await,
        }
        let host = &self.local.arguments.host;
        let heard = self
            .local
            .with_ledger(|ledger| ledger.hear(&self.target, posted, host));
        if let Some(parcel) = heard.flatten() {
            let outgoing = Outgoing::new(parcel, &self.local.room).await;
            // The other end lives as long as the program.
            let _ = self.local.outgoing.send(outgoing).await;
        }
        if is_main {
            let number = self.connection;
            self.local.handed_on.send_if_modified(|(connection, last)| {
                let is_newest = *connection == number;
                if is_newest {
                    *last = id;
                }
                is_newest
            });
        } else {
            self.progress.send_replace(id);
        }
    }

    /// Waits until the other connections have handed on what was posted before a message to all,
    /// which each of them hears too.
    async fn await_others(&self, id: u64) {
        let mut late = {
            let mut heard = self.local.heard();
            let late = heard.values_mut().filter(|heard| *heard.borrow() < id);
            late.map(|heard| heard.clone()).collect::<Vec<_>>()
        };
        for heard in &mut late {
            // One that has ended has handed on everything.
            let _ = heard.wait_for(|heard| *heard >= id).await;
        }
    }

    /// Waits until everything to all that was posted before is handed on, unless the connection
    /// that hears it has ended.
    async fn await_main(&self) {
        let mut handed_on = self.local.handed_on.subscribe();
        let main = handed_on.borrow().0;
        let last = self.last_to_all;
        let is_past = |state: &(u64, u64)| state.0 != main || state.1 >= last;
        // The sender lives in `local`.
        let _ = handed_on.wait_for(is_past).await;
    }
}
