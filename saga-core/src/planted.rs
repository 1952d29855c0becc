//! Defects that a test plants in the machine, to see whether proofs see them.

use std::cell::Cell;

/// Something that the machine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A late reply changes the outcome of a step.
    LateReplyCounts,
    /// Compensations are made in the order of the actions.
    CompensatesForward,
}

thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Lets the machine do something wrong on this thread, or do everything right again.
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

pub(crate) fn is_planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}
