//! What a proof has covered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use saga_core::StepName;
use saga_core::definition::Definition;

use super::plan::Plan;
use super::play::Run;
use super::scene::Seen;

/// What was played, and what was seen; printed, it is a table for people.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many runs there were.
    pub runs: usize,
    /// How many of them had a crash, a failure or a pause.
    pub with_faults: usize,
    /// How the sagas ended.
    pub endings: BTreeMap<&'static str, usize>,
    /// In how many runs what went wrong, such as `the action of reserve is rejected`, or `the orchestrator crash before write`.
    pub covered: BTreeMap<String, usize>,
    /// The steps that no run has asked for, for the condition of each was false: nothing is proved of them.
    pub never_asked: BTreeSet<StepName>,
    seen: Seen,
    /// One run was played alone.
    is_of_one: bool,
}

impl Report {
    /// Begins a report about runs of a saga, or about one that is played alone.
    pub(super) fn new(definition: &Definition, is_of_one: bool) -> Self {
        let asks = |step: &&StepName| {
            definition.deadline(step).or_else(|| definition.compensation_deadline(step)).is_some()
        };
        let never_asked = definition.step_names().filter(asks).cloned().collect();
        Self { never_asked, is_of_one, ..Self::default() }
    }

    pub(super) fn add(&mut self, plan: &Plan, run: &Run) {
        self.runs += 1;
        self.with_faults += usize::from(!plan.faults.is_empty());
        *self.endings.entry(run.status.as_str()).or_default() += 1;
        self.seen.add(run.seen);
        for class in plan.classes().collect::<BTreeSet<_>>() {
            *self.covered.entry(class).or_default() += 1;
        }
        self.never_asked.retain(|step| run.sent.iter().all(|sent| sent.step != *step));
    }

    /// Returns what must be survived and was never seen: then the runs have proved little about it.
    ///
    /// Nothing if one run is played alone.
    #[must_use]
    pub fn unseen(&self) -> Vec<&'static str> {
        if self.is_of_one {
            return Vec::new();
        }
        let never = self.seen.all().into_iter().filter(|(times, _)| *times == 0);
        never.map(|(_, what)| what).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} runs", self.runs)?;
        writeln!(f, "{:>8} of them with a crash, a failure or a pause", self.with_faults)?;
        for (ending, runs) in &self.endings {
            writeln!(f, "{runs:>8} {ending}")?;
        }
        for (times, what) in self.seen.all() {
            writeln!(f, "{times:>8} {what}")?;
        }
        writeln!(f, "\nIn so many runs:")?;
        for (class, runs) in &self.covered {
            writeln!(f, "{runs:>8} {class}")?;
        }
        for step in &self.never_asked {
            writeln!(f, "\nNo run has asked for `{step}`: nothing is proved of it")?;
        }
        Ok(())
    }
}
