//! What happens in one run besides the saga itself.

use std::fmt;
use std::time::Duration;

use super::defect::Defect;
use super::trouble::Trouble;
use crate::{Moment, Operation};

/// Everything that goes wrong in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) troubles: Vec<Trouble>,
    /// Somebody wants the saga undone once there were so many commits of it.
    pub(super) cancel_after: Option<usize>,
    pub(super) faults: Vec<Fault>,
    /// A second orchestrator shares the work.
    pub(super) has_spare: bool,
    /// Records are delayed and doubled as this seed says.
    pub(super) noise: Option<u64>,
    /// Something is done wrong on purpose.
    pub(super) defect: Option<Defect>,
}

/// What befalls one life of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) service: Service,
    /// Which life of the service, from 0: the next one begins after a crash.
    pub(super) life: usize,
    pub(super) operation: Operation,
    pub(super) nth: u64,
    pub(super) moment: Moment,
    pub(super) deed: Deed,
}

/// A service that can crash by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Service {
    Orchestrator,
    /// A second one, if there is one.
    Spare,
    Participants,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Crash,
    Fail,
    Pause(Duration),
}

impl Plan {
    /// Returns this plan with one more trouble.
    pub(super) fn with(&self, trouble: Trouble) -> Self {
        let mut plan = self.clone();
        plan.troubles.push(trouble);
        plan
    }

    /// Returns the plans that have one thing less.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        for it in 0..self.troubles.len() {
            let mut plan = self.clone();
            plan.troubles.remove(it);
            plans.push(plan);
        }
        for it in 0..self.faults.len() {
            let mut plan = self.clone();
            plan.faults.remove(it);
            plans.push(plan);
        }
        if self.cancel_after.is_some() {
            plans.push(Self { cancel_after: None, ..self.clone() });
        }
        if self.has_spare {
            plans.push(Self { has_spare: false, ..self.clone() });
        }
        if self.noise.is_some() {
            plans.push(Self { noise: None, ..self.clone() });
        }
        plans
    }

    /// Returns what of this went wrong, without saying when.
    pub(super) fn classes(&self) -> impl Iterator<Item = String> {
        let troubles = self.troubles.iter().map(ToString::to_string);
        let cancel = self.cancel_after.map(|_| "a cancel".to_owned());
        troubles.chain(cancel).chain(self.faults.iter().map(Fault::class))
    }

    /// Returns this plan with more faults.
    pub(super) fn and(&self, faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut plan = self.clone();
        plan.faults.extend(faults);
        plan
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let troubles = self.troubles.iter().map(ToString::to_string);
        let cancel = self.cancel_after.map(|commits| format!("a cancel after commit {commits}"));
        let faults = self.faults.iter().map(ToString::to_string);
        let spare = self.has_spare.then(|| "there are two orchestrators".to_owned());
        let noise = self.noise.map(|seed| format!("noise {seed}"));
        let all: Vec<_> = troubles.chain(cancel).chain(faults).chain(spare).chain(noise).collect();
        if all.is_empty() {
            f.write_str("nothing goes wrong")
        } else {
            f.write_str(&all.join(", "))
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orchestrator => "the orchestrator",
            Self::Spare => "the second orchestrator",
            Self::Participants => "the participants",
        })
    }
}

impl Fault {
    /// Returns what befalls whom and where, without saying when.
    pub(super) fn class(&self) -> String {
        let Self { service, operation, moment, deed, .. } = self;
        let deed = match deed {
            Deed::Crash => "crash",
            Deed::Fail => "fail",
            Deed::Pause(_) => "stand still",
        };
        let moment = match moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        format!("{service} {deed} {moment} {operation}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.class(), self.nth)?;
        if self.life > 0 {
            write!(f, " of life {}", self.life)?;
        }
        if let Deed::Pause(duration) = self.deed {
            write!(f, " for {duration:?}")?;
        }
        Ok(())
    }
}
