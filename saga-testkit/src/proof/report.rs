//! What a proof has covered.

use std::collections::BTreeMap;
use std::fmt;

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
    seen: Seen,
    /// One run was played alone.
    pub(super) is_of_one: bool,
}

impl Report {
    pub(super) fn add(&mut self, plan: &Plan, run: &Run) {
        self.runs += 1;
        self.with_faults += usize::from(!plan.faults.is_empty());
        *self.endings.entry(run.status.as_str()).or_default() += 1;
        self.seen.add(run.seen);
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
        Ok(())
    }
}
