//! One unit of a saga, and what undoes it.

use crate::{Command, StepName};

/// One step of a saga over the data `D`.
///
/// A step performs no I/O. It describes a command as a value; the engine stores
/// that command in the outbox in the transaction that records the step as started.
/// Its functions may run again for the same event after a crash or a lost race, so they depend on nothing but their arguments.
pub trait Step<D>: Send + Sync + 'static {
    /// The stored name of this step. Renaming a step breaks running sagas.
    const NAME: StepName;
    /// What this step asks for.
    type Command: Command;

    /// Builds the command that asks the participant to do the work.
    fn command(&self, data: &D) -> Self::Command;

    /// Folds the participant's reply into the saga's data. Does nothing by default.
    fn on_reply(&self, _data: &mut D, _reply: <Self::Command as Command>::Reply) {}
}

/// A step that can be undone, so it may stand before the pivot.
///
/// A compensation undoes a step by its business meaning (a refund, a released reservation), not by
/// restoring what was there before: others may have seen and used it meanwhile (Garcia-Molina and Salem,
/// *Sagas*, 1987). It must not be refused for a business reason: a compensation that is rejected parks the saga.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be undone, so it cannot stand before the pivot",
    label = "has no compensation",
    note = "implement `Compensate<{D}>` for it, or add the step with `.pivot(..)` or `.then(..)`"
)]
pub trait Compensate<D>: Step<D> {
    /// What undoes this step.
    type Compensation: Command;

    /// Builds the command that undoes [`Step::command`].
    fn compensation(&self, data: &D, cause: &Cause) -> Self::Compensation;
}

/// Why a saga compensates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    pub(crate) step: Option<StepName>,
    pub(crate) code: String,
}

impl Cause {
    /// Returns the step that failed; `None` if the saga was cancelled.
    #[must_use]
    pub const fn step(&self) -> Option<&StepName> {
        self.step.as_ref()
    }

    /// Returns the code of the rejection, or `timed-out`, `failed` or `cancelled`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}
