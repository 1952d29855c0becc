//! What a person does to a saga.

use crate::machine::decide::Turn;
use crate::machine::progress::StepProgress;
use crate::machine::{HistoryKind, Operation, OperatorAction, Resolution, StepState, Verdict};
use crate::{StepName, Timestamp};

/// Why a skip or a resolution does not apply.
const NOT_AT_A_STEP: Verdict = Verdict::Refused("it is not parked at a step; retry it");

impl Turn<'_> {
    pub(super) fn operate(&mut self, operation: Operation) -> Verdict {
        let Operation { by, reason, action } = operation;
        let is_unexplained = by.trim().is_empty() || reason.trim().is_empty();
        let note = |what: &str| format!("{what} by {by}: {reason}");
        match action {
            OperatorAction::Cancel => self.cancel_requested(note("cancel")),
            _ if self.has_ended() => Verdict::Refused("it has ended"),
            OperatorAction::MoveTimer { step, from, to } => {
                self.move_timer(&step, from, to, note("timer moved"))
            }
            _ if self.progress.parked.is_none() => Verdict::Refused("it is not parked"),
            OperatorAction::Skip | OperatorAction::Resolve(_) if is_unexplained => {
                Verdict::Refused("say who decides it and why; what is done cannot be taken back")
            }
            OperatorAction::Retry => self.retry(note("retry")),
            OperatorAction::Skip => self.skip(note("skip")),
            OperatorAction::Resolve(resolution) => self.resolve(resolution, note("resolve")),
        }
    }

    fn move_timer(
        &mut self,
        step: &StepName,
        from: Timestamp,
        to: Timestamp,
        note: String,
    ) -> Verdict {
        let Some(index) = self.definition.step_index(step.as_str()) else {
            return Verdict::Refused("it has no step of this name");
        };
        if !self.step(index).state.has_timer() {
            return Verdict::Refused("the step has no timer running");
        }
        if self.step(index).due != from {
            return Verdict::Refused("its timer has fired or was moved meanwhile; look again");
        }
        self.progress.steps[index].due = to;
        self.note(index, HistoryKind::Operator, note);
        if to <= self.now && self.progress.parked.is_none() {
            // A person decides, however long the participant could not be reached.
            self.step_timer_fired(index, self.step(index), Timestamp::default());
        }
        Verdict::Applied
    }

    fn retry(&mut self, note: String) -> Verdict {
        let Some(index) = self.parked_at() else {
            self.note_saga(HistoryKind::Operator, note);
            self.resume();
            self.ask_again();
            return Verdict::Applied;
        };
        // The inbox keeps a rejection under the command's id, which a retry does not change.
        if self.step(index).refused {
            return Verdict::Refused(
                "the participant has refused it on record and would again; skip or resolve it",
            );
        }
        self.note(index, HistoryKind::Operator, note);
        let StepProgress { state, attempt, .. } = self.step(index);
        if state == StepState::CompensationFailed {
            self.send_compensation(index, attempt.anew());
        } else {
            self.send(index, attempt.anew());
        }
        Verdict::Applied
    }

    /// Asks once more for what was asked for: the answer may have come while nobody could take it.
    fn ask_again(&mut self) {
        for index in 0..self.progress.steps.len() {
            let StepProgress { state, attempt, .. } = self.step(index);
            match state {
                StepState::Outstanding => self.send(index, attempt),
                StepState::Compensating => self.send_compensation(index, attempt),
                _ => {}
            }
        }
    }

    /// A step that was asked for and is skipped is still undone if the saga turns back.
    fn skip(&mut self, note: String) -> Verdict {
        let Some(index) = self.parked_at() else { return NOT_AT_A_STEP };
        self.note(index, HistoryKind::Operator, note);
        if self.step(index).state == StepState::CompensationFailed {
            self.progress.steps[index].state = StepState::Compensated;
        } else {
            self.progress.steps[index].state = StepState::Skipped;
            self.note(index, HistoryKind::Skipped, String::new());
        }
        Verdict::Applied
    }

    fn resolve(&mut self, resolution: Resolution, note: String) -> Verdict {
        let Some(index) = self.parked_at() else { return NOT_AT_A_STEP };
        let is_compensation = self.step(index).state == StepState::CompensationFailed;
        match resolution {
            Resolution::Succeeded(_) if is_compensation => {
                self.note(index, HistoryKind::Operator, note);
                self.compensated(index);
            }
            Resolution::Succeeded(payload) => {
                if self.fold(index, &payload).is_err() {
                    return Verdict::Refused("the step cannot read this reply");
                }
                self.note(index, HistoryKind::Operator, note);
                self.succeeded(index);
            }
            Resolution::Rejected(_) if is_compensation => {
                return Verdict::Refused(
                    "a compensation cannot be rejected; resolve it as succeeded or skip it",
                );
            }
            Resolution::Rejected(_) if !self.can_be_refused(index) => {
                return Verdict::Refused("a step after the pivot cannot be rejected");
            }
            Resolution::Rejected(code) => {
                self.note(index, HistoryKind::Operator, note);
                self.refused(index, code);
            }
        }
        Verdict::Applied
    }
}
