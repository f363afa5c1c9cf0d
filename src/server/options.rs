//! Commands about options, and what a change of options changes.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::court::Court;
use super::daemon::Daemon;
use crate::options::{Change, OptionError, Problems};
use crate::wire::event::Event;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Reply};
use crate::wire::request::Setting;

impl Daemon {
    pub(super) fn get_conf(&self, names: &[Cow<'_, [u8]>]) -> Result<Reply, Refusal> {
        let mut values = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            match self.options.get(name) {
                Some(pairs) => values.extend(pairs),
                None => unknown.push(name.clone().into_owned()),
            }
        }
        if unknown.is_empty() {
            Ok(Reply::Conf(values))
        } else {
            Err(Refusal::UnrecognizedOptions(unknown))
        }
    }

    pub(super) fn set_conf(&mut self, settings: &[Setting]) -> Result<Reply, Refusal> {
        let change = self
            .options
            .set(settings)
            .map_err(|error| refusal(&error))?;
        self.apply(change);
        Ok(Reply::Done)
    }

    pub(super) fn reset_conf(&mut self, settings: &[Setting]) -> Result<Reply, Refusal> {
        let change = self
            .options
            .reset(settings)
            .map_err(|error| refusal(&error))?;
        self.apply(change);
        Ok(Reply::Done)
    }

    pub(super) fn load_conf(&mut self, text: &[u8]) -> Result<Reply, Refusal> {
        let change = self
            .options
            .load_text(text)
            .map_err(|error| refusal(&error))?;
        self.apply(change);
        Ok(Reply::Done)
    }

    /// Reads the option file again. Where it is wrong, everything stays as it is.
    pub(super) fn reload(&mut self) -> Result<(), Problems> {
        self.audit.reopen();
        let change = self.options.reload()?;
        let settings = change.options.settings();
        let policy = super::policy::read(settings, crate::sys::process::uid())?;
        self.policy_has_changed |= policy.is_some() || self.court.is_some();
        match (policy, &mut self.court) {
            (Some(policy), Some(court)) => court.replace(policy),
            (Some(policy), court) => {
                *court = Some(Box::new(Court::new(policy, &self.ends, &self.missing)));
            }
            (None, court) => *court = None,
        }
        self.apply(change);
        Ok(())
    }

    /// Puts a change into force and tells those who subscribed to `CONF_CHANGED`.
    fn apply(&mut self, change: Change) {
        self.options = change.options;
        let settings = self.options.settings();
        self.bus.set_history(settings.history);
        self.audit.trail.set_length(settings.history);
        self.outlet
            .max_queue
            .store(settings.max_queue, Ordering::Relaxed);
        self.accounts
            .set_bounds(settings.max_memory, settings.memory_of_user());
        self.logging.write_from(settings.log);
        let changed: Vec<OptionValue> = change
            .changed
            .into_iter()
            .flat_map(|option| {
                let back_to_default = option.values.is_empty().then_some(None);
                let values = option.values.into_iter().map(Some).chain(back_to_default);
                values.map(move |value| (option.name.into(), value))
            })
            .collect();
        self.begin_keeping();
        self.interest_changed();
        if !changed.is_empty() {
            for (name, _) in &changed {
                log::debug!("{name} has changed");
            }
            if self.audit.is_outside {
                self.note_outside_options(changed.iter().map(|(name, _)| name.as_bytes()));
            }
            self.tell(Event::ConfChanged(changed.into()));
        }
    }
}

pub(super) fn refusal(error: &OptionError) -> Refusal {
    let text = error.to_string();
    match error {
        OptionError::Unrecognized(_) => Refusal::UnknownOption(text),
        OptionError::Invalid(_) => Refusal::InvalidValue(text),
        OptionError::Frozen(_) => Refusal::Transition(text),
        OptionError::ConfigFile(_) => Refusal::InvalidFile(text),
    }
}
