//! Leases: who changes a leased option holds it, until it is as before or its holder has left. Then
//! it is set back.

use super::{Keeper, Output, Stage, Task};
use crate::wire::fields::Fields;
use crate::wire::message::SessionId;
use crate::wire::request::Setting;
use crate::wire::text::parts;
use crate::wire::torrc;

/// The values of an option, one for each of its lines; none where it has none.
type Values = Vec<Vec<u8>>;

/// The leased options, and who holds them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    options: Vec<String>,
    held: Vec<Lease>,
    busy: Option<Busy>,
    /// The number of the last command that was under way.
    last: u64,
    /// What is to be set back, and was not before the keeper's connection ended.
    pub(super) owed: Vec<Fields>,
    /// The values after the change under way are to be asked for again.
    pub(super) after_is_due: bool,
}

#[derive(Debug)]
struct Lease {
    option: String,
    before: Values,
    now: Values,
    session: SessionId,
    holder: String,
}

/// The one command about leased options that is under way.
#[derive(Debug)]
struct Busy {
    /// The number by which the answer about the values before it is known.
    number: u64,
    session: SessionId,
    holder: String,
    touched: Vec<String>,
    /// The values before it, once Tor has told them.
    before: Option<Vec<(String, Values)>>,
    is_sent: bool,
    is_gone: bool,
}

/// A change of Tor's configuration that a controller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfChange {
    /// `SETCONF` or `RESETCONF`.
    Settings(Vec<Setting>),
    /// `+LOADCONF`, which sets back what its text does not name.
    Text(Vec<u8>),
    /// One that only Tor understands.
    Unknown,
}

impl ConfChange {
    /// What becomes of an option, by any spelling that Tor takes.
    fn outcome(&self, option: &str) -> New {
        let is_it = |name: &[u8]| is_spelling(name, option);
        match self {
            Self::Settings(settings) => {
                let of_it = settings.iter().filter(|setting| is_it(&setting.name));
                let values: Vec<_> = of_it.map(|setting| setting.value.clone()).collect();
                if values.is_empty() {
                    New::Untouched
                } else {
                    let values: Option<Values> = values.into_iter().collect();
                    values.map_or(New::Unknown, New::Values)
                }
            }
            Self::Text(text) => torrc::parse(text).map_or(New::Unknown, |lines| {
                let of_it = lines.into_iter().filter(|line| is_it(&line.key));
                New::Values(of_it.map(|line| line.value).collect())
            }),
            Self::Unknown => New::Unknown,
        }
    }
}

/// What a change makes of an option.
#[derive(Debug, PartialEq, Eq)]
enum New {
    Untouched,
    /// It has these values.
    Values(Values),
    /// Only Tor knows: the default, for one.
    Unknown,
}

/// Whether Tor may take a name for an option: any beginning of it does, in any letter case.
fn is_spelling(name: &[u8], option: &str) -> bool {
    let start = option.as_bytes().get(..name.len());
    !name.is_empty() && start.is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// The values in an answer to GETCONF.
fn values_in(answer: &[u8], options: &[String]) -> Vec<(String, Values)> {
    let value = |option: &String| {
        let values = parts(answer).into_iter().filter_map(|part| {
            let line = part.get(4..)?.trim_ascii_end();
            let equals = memchr::memchr(b'=', line)?;
            let is_it = line.get(..equals)?.eq_ignore_ascii_case(option.as_bytes());
            is_it.then(|| line.get(equals + 1..).unwrap_or_default().to_vec())
        });
        (option.clone(), values.collect())
    };
    options.iter().map(value).collect()
}

fn ask_for(options: &[String]) -> Fields {
    Fields::GetConf(
        options
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect(),
    )
}

impl Keeper {
    /// Takes the options that are leased.
    pub fn set_leases(&mut self, options: &[String]) {
        self.leases.options = options.to_vec();
        let is_not = |lease: &Lease| !options.contains(&lease.option);
        while let Some(at) = self.leases.held.iter().position(is_not) {
            self.end_lease(at);
        }
    }

    /// Whether any option is leased.
    #[must_use]
    pub const fn has_leases(&self) -> bool {
        !self.leases.options.is_empty()
    }

    /// Whether anybody holds a leased option.
    #[must_use]
    pub const fn holds_leases(&self) -> bool {
        !self.leases.held.is_empty()
    }

    /// The value of `GETINFO leases`.
    #[must_use]
    pub fn leases(&self) -> String {
        let line = |lease: &Lease| format!("{} {} {}", lease.option, lease.session, lease.holder);
        let lines = self.leases.held.iter().map(line);
        lines.collect::<Vec<_>>().join("\n")
    }

    fn touched(&self, change: &ConfChange) -> Vec<String> {
        let is_touched = |option: &&String| change.outcome(option) != New::Untouched;
        let options = self.leases.options.iter().filter(is_touched);
        options.cloned().collect()
    }

    /// Whether a controller's change must wait: for the values as they are, or for another's.
    pub fn must_wait_for_lease(
        &mut self,
        session: SessionId,
        holder: &str,
        is_gone: bool,
        change: &ConfChange,
    ) -> bool {
        let touched = self.touched(change);
        match (&self.stage, &self.leases.busy) {
            _ if touched.is_empty() => false,
            (Stage::Away, _) => false,
            (Stage::Broken(..), _) => true,
            (_, Some(busy)) => busy.session != session || busy.is_sent || busy.before.is_none(),
            (_, None) => {
                self.leases.last += 1;
                let number = self.leases.last;
                self.ask(&ask_for(&touched), Task::BeforeLease(number));
                self.leases.busy = Some(Busy {
                    number,
                    session,
                    holder: holder.to_owned(),
                    touched,
                    before: None,
                    is_sent: false,
                    is_gone,
                });
                true
            }
        }
    }

    /// Whether a controller's change concerns a lease, which needs to know what becomes of it; or
    /// why it is refused.
    pub fn judge_lease(&mut self, session: SessionId, change: &ConfChange) -> Result<bool, String> {
        let Some(busy) = self
            .leases
            .busy
            .as_mut()
            .filter(|busy| busy.session == session)
        else {
            return Ok(false);
        };
        let before = busy.before.as_deref().unwrap_or_default();
        let another = self.leases.held.iter().find(|lease| {
            let now = before.iter().find(|(option, _)| *option == lease.option);
            let is_same = match change.outcome(&lease.option) {
                New::Untouched => true,
                New::Values(new) => now.is_some_and(|(_, now)| *now == new),
                New::Unknown => false,
            };
            lease.session != session && !is_same
        });
        if let Some(Lease {
            option,
            session,
            holder,
            ..
        }) = another
        {
            let refusal = format!("{option} is leased by {holder} (session {session})");
            self.end_busy();
            return Err(refusal);
        }
        busy.is_sent = true;
        Ok(true)
    }

    /// A change that concerns a lease was answered, or its answer will never come. What Tor has made
    /// of it, the values say.
    pub fn handle_lease_answered(&mut self, session: SessionId) {
        let busy = self.leases.busy.as_ref();
        if busy.is_some_and(|busy| busy.session == session) {
            self.ask_after_lease();
        }
    }

    pub(super) fn ask_after_lease(&mut self) {
        if let Some(busy) = &self.leases.busy {
            let fields = ask_for(&busy.touched);
            self.ask(&fields, Task::AfterLease);
        }
    }

    /// The keeper's connection has ended: a change that Tor has not got begins anew.
    pub(super) fn end_unless_sent(&mut self) {
        if self.leases.busy.as_ref().is_some_and(|busy| !busy.is_sent) {
            self.end_busy();
        }
    }

    /// A controller's command was carried out, or is no more. If it was not sent, it was refused
    /// for a reason that is not the lease's.
    pub fn end_unsent(&mut self, session: SessionId) {
        let busy = self.leases.busy.as_ref();
        if busy.is_some_and(|busy| busy.session == session && !busy.is_sent) {
            self.end_busy();
        }
    }

    pub(super) fn end_busy(&mut self) {
        if self.leases.busy.take().is_some() {
            self.outputs.push_back(Output::News);
        }
    }

    /// Tor has told the values before the command of this number, which may be no more.
    pub(super) fn before_lease(&mut self, number: u64, answer: &[u8]) {
        if answer.starts_with(b"552") {
            return self.forget_unknown(answer);
        }
        let busy = self.leases.busy.as_mut();
        if let Some(busy) = busy.filter(|busy| busy.number == number) {
            busy.before = Some(values_in(answer, &busy.touched));
            self.outputs.push_back(Output::News);
        }
    }

    /// Tor does not know some of the leased options, and so has told nothing of the others.
    fn forget_unknown(&mut self, answer: &[u8]) {
        let is_quoted = |name: &String| {
            let quoted = format!("\"{name}\"").to_ascii_lowercase();
            memchr::memmem::find(&answer.to_ascii_lowercase(), quoted.as_bytes()).is_some()
        };
        let options = std::mem::take(&mut self.leases.options);
        let (unknown, known) = options.into_iter().partition(is_quoted);
        self.leases.options = known;
        for name in unknown {
            self.outputs.push_back(Output::UnknownLease(name));
        }
        self.end_busy();
    }

    pub(super) fn after_lease(&mut self, answer: &[u8]) {
        let Some(busy) = self.leases.busy.take() else {
            return;
        };
        let after = values_in(answer, &busy.touched);
        let before = busy.before.unwrap_or_default();
        for ((option, before), (_, after)) in before.into_iter().zip(after) {
            let held = self
                .leases
                .held
                .iter()
                .position(|lease| lease.option == option);
            match held.and_then(|at| Some((at, self.leases.held.get_mut(at)?))) {
                Some((at, lease)) if lease.session == busy.session && lease.before == after => {
                    self.end_lease(at);
                }
                Some((_, lease)) => lease.now = after,
                None if before == after => {}
                None => {
                    let (session, holder) = (busy.session, busy.holder.clone());
                    let line = format!("TAKEN {option} {session} {holder}");
                    self.outputs.push_back(Output::Lease(line));
                    self.leases.held.push(Lease {
                        option,
                        before,
                        now: after,
                        session,
                        holder,
                    });
                }
            }
        }
        self.outputs.push_back(Output::News);
        if busy.is_gone {
            self.end_leases_of(busy.session);
        }
    }

    fn end_lease(&mut self, at: usize) -> Lease {
        let lease = self.leases.held.remove(at);
        let Lease {
            option,
            session,
            holder,
            ..
        } = &lease;
        let line = format!("ENDED {option} {session} {holder}");
        self.outputs.push_back(Output::Lease(line));
        lease
    }

    /// A holder has left: what it had is set back.
    pub(super) fn end_leases_of(&mut self, session: SessionId) {
        if let Some(busy) = self
            .leases
            .busy
            .as_mut()
            .filter(|busy| busy.session == session)
        {
            busy.is_gone = true;
            self.end_unsent(session);
        }
        while let Some(at) = self
            .leases
            .held
            .iter()
            .position(|lease| lease.session == session)
        {
            let Lease { option, before, .. } = self.end_lease(at);
            self.is_set_back(&option, &before);
            let name = option.into_bytes();
            let setting = |value: Option<Vec<u8>>| Setting {
                name: name.clone(),
                value,
            };
            let back = if before.is_empty() {
                Fields::ResetConf(vec![setting(None)])
            } else {
                Fields::SetConf(
                    before
                        .into_iter()
                        .map(|value| setting(Some(value)))
                        .collect(),
                )
            };
            self.ask(&back, Task::SetBack(Box::new(back.clone())));
        }
    }

    /// An option is set back while the command of somebody else may be under way, to whom it is as
    /// before then. What was not sent yet asks again, behind that.
    fn is_set_back(&mut self, option: &str, back: &Values) {
        let Some(busy) = &mut self.leases.busy else {
            return;
        };
        if !busy.is_sent {
            self.end_busy();
            return;
        }
        for (name, before) in busy.before.iter_mut().flatten() {
            if name == option {
                before.clone_from(back);
            }
        }
    }

    /// Tor tells of a change of its configuration: is it one that nobody here has made?
    pub fn handle_conf_changed(&mut self) {
        if self.holds_leases() && matches!(self.stage, Stage::There) {
            let held = self.leases.held.iter().map(|lease| lease.option.clone());
            self.ask(&ask_for(&held.collect::<Vec<_>>()), Task::LookAtLeases);
        }
    }

    pub(super) fn look_at_leases(&mut self, answer: &[u8]) {
        if !answer.starts_with(b"250") {
            return;
        }
        let busy = self.leases.busy.as_ref();
        let busy = busy.filter(|busy| busy.is_sent).map(|busy| busy.session);
        let options: Vec<_> = self
            .leases
            .held
            .iter()
            .map(|one| one.option.clone())
            .collect();
        for (option, values) in values_in(answer, &options) {
            let is_it = |lease: &Lease| {
                lease.option == option && lease.now != values && busy != Some(lease.session)
            };
            if let Some(at) = self.leases.held.iter().position(is_it) {
                self.end_lease(at);
            }
        }
    }

    /// Tor has read its configuration again, or has ended: nobody holds anything.
    pub fn end_all_leases(&mut self) {
        while self.holds_leases() {
            self.end_lease(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, Option<&str>)]) -> ConfChange {
        let setting = |(name, value): &(&str, Option<&str>)| Setting {
            name: name.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        ConfChange::Settings(pairs.iter().map(setting).collect())
    }

    #[test]
    fn every_spelling_that_tor_may_take_is_the_option() {
        for name in ["DisableNetwork", "disablenetwork", "DisableN", "d"] {
            let change = settings(&[(name, Some("1"))]);
            let values = New::Values(vec![b"1".to_vec()]);
            assert_eq!(change.outcome("DisableNetwork"), values, "{name}");
        }
        for name in ["DisableNetworkX", "Disabled", "", "etwork"] {
            let change = settings(&[(name, Some("1"))]);
            assert_eq!(change.outcome("DisableNetwork"), New::Untouched, "{name}");
        }
        let text = ConfChange::Text(b"Log notice stdout\n".to_vec());
        assert_eq!(text.outcome("DisableNetwork"), New::Values(Vec::new()));
        assert_eq!(ConfChange::Unknown.outcome("DisableNetwork"), New::Unknown);
        let to_default = settings(&[("DisableNetwork", None)]);
        assert_eq!(to_default.outcome("DisableNetwork"), New::Unknown);
    }

    #[test]
    fn values_are_those_of_the_option() {
        let answer = b"250-DisableNetwork=1\r\n250-Log=a\r\n250-Log=b\r\n250 ContactInfo\r\n";
        let options = ["DisableNetwork", "Log", "ContactInfo"].map(str::to_owned);
        let expected = [
            vec![b"1".to_vec()],
            vec![b"a".to_vec(), b"b".to_vec()],
            vec![],
        ];
        let values = values_in(answer, &options)
            .into_iter()
            .map(|(_, values)| values);
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }
}
