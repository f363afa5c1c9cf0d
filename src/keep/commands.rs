//! Commands that the keeper carries out: `ADD_ONION` and `DEL_ONION`.

use std::time::Instant;

use super::item::{Item, Kept, Service, State, What};
use super::service::{answer, is_same, made, plain, scalar, without_key};
use super::store::{self, StoreError};
use super::{Asker, COLLIDES, Keeper, Outcome, Output, Stage, Task, Write, failed};
use crate::policy::identity::Owner;
use crate::wire::fields::{AddOnion, Fields, Flag, Key, Onion};
use crate::wire::message::SessionId;

impl Keeper {
    /// `ADD_ONION` of a controller whose services are kept, of which its user may have `most`.
    pub fn handle_add(
        &mut self,
        asker: Asker,
        fields: AddOnion,
        most: usize,
        now: Instant,
        write: &mut Write<'_>,
    ) -> Outcome {
        if let Some(outcome) = self.unreachable() {
            return outcome;
        }
        let scalar = scalar(&fields.key);
        let found = scalar.and_then(|scalar| {
            self.services()
                .find(|(_, service)| service.scalar == scalar)
                .map(|(kept, service)| (kept.owner.clone(), service.clone()))
        });
        match found {
            Some((owner, service)) if owner != asker.owner || service.holder.is_some() => {
                Outcome::Reply(COLLIDES.to_vec())
            }
            Some((_, service)) => self.take_up(asker, fields, service, now, write),
            None => {
                let uid = asker.owner.uid;
                let coming =
                    |task: &&Task| matches!(task, Task::Add(other, ..) if other.owner.uid == uid);
                let coming = self.tasks.iter().filter(coming).count();
                if self.count(uid) + coming >= most.saturating_add(self.waiting(uid)) {
                    return Outcome::Reply(failed("Too many onion services of this user"));
                }
                let command = Fields::AddOnion(plain(&fields));
                self.ask(&command, Task::Add(asker, Box::new(fields), most));
                Outcome::Later
            }
        }
    }

    /// The owner of a service that waits, or is detached, wants it again.
    fn take_up(
        &mut self,
        asker: Asker,
        fields: AddOnion,
        service: Service,
        now: Instant,
        write: &mut Write<'_>,
    ) -> Outcome {
        let item = Item::Onion(service.onion.clone());
        let is_detached = fields.flags.contains(&Flag::Detach);
        let Some(kept) = self.find(&item) else {
            return Outcome::OfTor;
        };
        let is_there = kept.state == State::There;
        if is_there && is_same(&service.fields, &fields) {
            let reply = answer(&service.onion, &fields);
            kept.grace = asker.grace;
            self.hold(&item, asker.session, is_detached, now);
            if service.is_detached != is_detached {
                self.try_to_store(write);
            }
            return Outcome::Reply(reply);
        }
        // While Tor has not answered a try, or does not say what it collides with, it may have it.
        let was = std::mem::replace(&mut kept.state, State::Asked);
        kept.until = None;
        if let What::Onion(service) = &mut kept.what {
            service.holder = Some(asker.session);
        }
        if was != State::Lost {
            self.ask(&Fields::DelOnion(service.onion.clone()), Task::Drop);
        }
        let command = Fields::AddOnion(plain(&fields));
        self.ask(
            &command,
            Task::Replace(asker, Box::new(fields), service.onion),
        );
        Outcome::Later
    }

    /// A controller has a service, or has it detached.
    pub(super) fn hold(
        &mut self,
        item: &Item,
        session: SessionId,
        is_detached: bool,
        now: Instant,
    ) {
        let is_present = self.present.contains_key(&session);
        let Some(kept) = self.find(item) else { return };
        let grace = kept.grace;
        if let What::Onion(service) = &mut kept.what {
            service.is_detached = is_detached;
            service.holder = Some(session).filter(|_| !is_detached && is_present);
            kept.until = (!is_detached && !is_present).then(|| now + grace);
        }
    }

    /// `DEL_ONION` of anybody.
    pub fn handle_delete(
        &mut self,
        asker: Option<Asker>,
        owner: Option<&Owner>,
        onion: &Onion,
        write: &mut Write<'_>,
    ) -> Outcome {
        let item = Item::Onion(onion.clone());
        let Some(kept) = self.find(&item) else {
            return Outcome::OfTor;
        };
        let is_own = Some(&kept.owner) == owner;
        if let Some(outcome) = self.unreachable() {
            return outcome;
        }
        let (true, Some(asker), Some(kept)) = (is_own, asker, self.find(&item)) else {
            return Outcome::Reply(b"552 Unknown Onion Service id\r\n".to_vec());
        };
        let is_there = kept.state.may_be_there();
        let before = kept.is_leaving;
        kept.is_leaving = true;
        if let Err(cause) = self.store(write) {
            if let Some(kept) = self.find(&item) {
                kept.is_leaving = before;
            }
            return Outcome::Reply(failed(&cause));
        }
        if !is_there {
            self.forget(&item);
            return Outcome::Reply(b"250 OK\r\n".to_vec());
        }
        let command = Fields::DelOnion(onion.clone());
        self.ask(&command, Task::Delete(asker, onion.clone()));
        Outcome::Later
    }

    pub(super) fn answered(
        &mut self,
        task: Task,
        answer: &[u8],
        now: Instant,
        write: &mut Write<'_>,
    ) {
        let agreed = answer.starts_with(b"25");
        match task {
            Task::Drop | Task::SetBack(_) => {}
            Task::BeforeLease(number) => self.before_lease(number, answer),
            Task::AfterLease => self.after_lease(answer),
            Task::LookAtLeases => self.look_at_leases(answer),
            Task::Add(asker, fields, most) => {
                self.ends = 0;
                let reply = self.added(&asker, &fields, answer, most, now, write);
                self.outputs.push_back(Output::Reply(asker, reply));
            }
            Task::Replace(asker, fields, onion) => {
                let reply = self.replaced(&asker, &fields, &onion, answer, now, write);
                self.outputs.push_back(Output::Reply(asker, reply));
            }
            Task::Delete(asker, onion) => {
                let item = Item::Onion(onion);
                let mut reply = answer.to_vec();
                if let Some(kept) = self.find(&item) {
                    // What Tor does not have is gone too, whoever has deleted it.
                    if agreed || answer.starts_with(b"552") {
                        self.forget(&item);
                        reply = b"250 OK\r\n".to_vec();
                    } else {
                        kept.is_leaving = false;
                        self.try_to_store(write);
                    }
                }
                self.outputs.push_back(Output::Reply(asker, reply));
            }
            Task::Restore(item, is_told, is_awaited) => {
                self.restored(&item, is_told, answer, now);
                if is_awaited && let Stage::Restoring(left, _) = &mut self.stage {
                    *left -= 1;
                    if *left == 0 {
                        self.ends = 0;
                        self.finish_restoring();
                    }
                }
            }
        }
    }

    /// Tor has answered an `ADD_ONION`. Returns the reply.
    fn added(
        &mut self,
        asker: &Asker,
        fields: &AddOnion,
        answer: &[u8],
        most: usize,
        now: Instant,
        write: &mut Write<'_>,
    ) -> Vec<u8> {
        let Some((onion, told)) = made(answer).filter(|_| answer.starts_with(b"250")) else {
            return answer.to_vec();
        };
        let is_new = !matches!(fields.key, Key::Ed25519(_));
        let key = if is_new {
            told
        } else {
            Some(fields.key.clone())
        };
        let Some((scalar, key)) = key.and_then(|key| Some((scalar(&key)?, key))) else {
            // Whatever this is, it cannot be made again.
            return answer.to_vec();
        };
        let item = Item::Onion(onion.clone());
        let is_discarded = fields.flags.contains(&Flag::DiscardPK);
        let service = Service {
            onion: onion.clone(),
            scalar,
            fields: AddOnion {
                key,
                ..plain(fields)
            },
            holder: None,
            is_detached: false,
            is_secret: is_new && is_discarded,
        };
        let uid = asker.owner.uid;
        let mut longest = None;
        if self.count(uid) >= most {
            longest = self.longest_waiting(uid);
            if longest.is_none() {
                self.ask(&Fields::DelOnion(onion), Task::Drop);
                return failed("Too many onion services of this user");
            }
        }
        self.mark_leaving(longest.as_ref(), true);
        let is_detached = fields.flags.contains(&Flag::Detach);
        let is_secret = service.is_secret;
        self.items.push(Kept {
            what: What::Onion(service),
            owner: asker.owner.clone(),
            grace: asker.grace,
            until: None,
            state: State::There,
            is_leaving: false,
        });
        self.hold(&item, asker.session, is_detached, now);
        if let Err(cause) = self.store(write) {
            self.mark_leaving(longest.as_ref(), false);
            self.remove(&item);
            return failed(&cause);
        }
        if let Some(longest) = longest {
            self.remove(&longest);
        }
        self.outputs
            .push_back(Output::Made(onion, asker.owner.clone()));
        if is_secret && !is_detached && !self.present.contains_key(&asker.session) {
            self.remove(&item);
        }
        if is_discarded {
            without_key(answer)
        } else {
            answer.to_vec()
        }
    }

    /// Tor has answered the `ADD_ONION` of a service in another form. Returns the reply.
    fn replaced(
        &mut self,
        asker: &Asker,
        fields: &AddOnion,
        onion: &Onion,
        answer: &[u8],
        now: Instant,
        write: &mut Write<'_>,
    ) -> Vec<u8> {
        let item = Item::Onion(onion.clone());
        let is_detached = fields.flags.contains(&Flag::Detach);
        let Some(kept) = self.find(&item) else {
            // It was deleted meanwhile.
            if answer.starts_with(b"250") {
                self.ask(&Fields::DelOnion(onion.clone()), Task::Drop);
            }
            return answer.to_vec();
        };
        let What::Onion(service) = &mut kept.what else {
            return answer.to_vec();
        };
        if answer.starts_with(b"250") {
            kept.state = State::There;
            kept.grace = asker.grace;
            let key = service.fields.key.clone();
            service.fields = AddOnion {
                key,
                ..plain(fields)
            };
            self.hold(&item, asker.session, is_detached, now);
            self.try_to_store(write);
        } else {
            service.holder = None;
            let waits = !service.is_detached;
            let before = Fields::AddOnion(service.fields.clone());
            kept.until = waits.then(|| now + kept.grace);
            // It is not put back for somebody who has asked for its end meanwhile.
            if !kept.is_leaving {
                self.ask(&before, Task::Restore(item, false, false));
            }
        }
        without_key(answer)
    }

    /// The service of a user's that has waited longest.
    fn longest_waiting(&self, uid: u32) -> Option<Item> {
        let waiting = self.items.iter().filter(|kept| kept.waits_for(uid));
        let longest = waiting.min_by_key(|kept| kept.until?.checked_sub(kept.grace));
        longest.map(Kept::item)
    }

    fn mark_leaving(&mut self, item: Option<&Item>, is_leaving: bool) {
        if let Some(kept) = item.and_then(|item| self.find(item)) {
            kept.is_leaving = is_leaving;
        }
    }

    pub(super) fn waiting(&self, uid: u32) -> usize {
        self.items.iter().filter(|kept| kept.waits_for(uid)).count()
    }

    pub(super) fn count(&self, uid: u32) -> usize {
        let of_user = |(kept, _): &(&Kept, &Service)| kept.owner.uid == uid;
        self.services().filter(of_user).count()
    }

    /// Writes the store as it is, where there is one.
    pub fn store(&self, write: &mut Write<'_>) -> Result<(), String> {
        if self.is_stored {
            write(&store::text(&self.items))
        } else {
            Ok(())
        }
    }

    pub(super) fn try_to_store(&mut self, write: &mut Write<'_>) {
        if let Err(cause) = self.store(write) {
            self.outputs.push_back(Output::NotStored(cause));
        }
    }

    /// Takes what a store has, which is kept up to date from now on. Its services wait for their
    /// owners from `now`.
    pub fn handle_store(&mut self, text: &[u8], now: Instant) -> Result<(), StoreError> {
        self.items = store::parse(text, now)?;
        self.is_stored = true;
        Ok(())
    }
}
