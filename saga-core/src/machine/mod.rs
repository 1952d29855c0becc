//! What happens next: pure, no I/O, no clock, no randomness.
//!
//! [`decide`] takes where a saga stands ([`Progress`]) and what was observed ([`Event`]) and answers
//! with a [`Decision`]: where it stands then, which commands to send, and what to note in its
//! history. The engine loads, calls it and commits the answer; so recovery is the same code path as running.
//!
//! # The rules
//!
//! | observed | before the pivot | at the pivot | after it | while compensating |
//! |---|---|---|---|---|
//! | succeeded | go on | go on | go on | undo what is before it |
//! | rejected | compensate | compensate | park | park |
//! | failed, may pass | retry | retry | retry | retry |
//! | failed for good | park | park | park | park |
//! | no reply in time | retry | retry | retry | retry |
//! | attempts used up | compensate, this step too | park | park | park |
//! | cancel | compensate | refuse | refuse | already under way |
//!
//! While compensating, the column is about the compensation; a step that was still outstanding
//! when the saga turned back is awaited, and then undone whatever its answer was, unless it was refused.
//!
//! A reply counts only for the outstanding command, and a failed one only for its latest attempt.
//! A saga that is parked at a step wakes when an earlier attempt of it turns out to have succeeded
//! or to have been refused. What is skipped by a person after it was asked for is undone with the rest.
//!
//! A branch of a parallel group that is still outstanding when another fails is awaited (or times
//! out) before the group is undone, so no compensation overtakes what it undoes.

mod advance;
mod command;
mod decide;
mod decision;
mod event;
mod history;
mod operate;
mod outstanding;
mod progress;
#[cfg(test)]
mod tests;

pub use decide::decide;
pub use decision::{Decision, Ignored, OutgoingCommand, Verdict};
pub use event::{Event, Operation, OperatorAction, ReplyEvent, Resolution};
pub use history::{HistoryEntry, HistoryKind};
pub use progress::{Failure, Origin, Progress, StateError, StepState, StepView};

pub(crate) use history::{decode as decode_history, encode as encode_history};
pub(crate) use progress::parked_without_definition;

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its steps are being carried out.
    Running,
    /// Its steps are being compensated.
    Compensating,
    /// Every step succeeded. The saga has ended.
    Completed,
    /// Every effect was compensated. The saga has ended.
    Compensated,
    /// It cannot go on by itself; a person must look.
    Parked,
}

impl Status {
    /// Returns true if the saga has ended: completed or compensated.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// Returns true if the saga does not go on by itself: it has ended, or is parked.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        self.is_final() || matches!(self, Self::Parked)
    }

    /// Returns the word for it, as it is logged and stored in tables that people read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Parked => "parked",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
