//! Going on: the next stage, the one before it on the way back, or the end.

use std::ops::Range;

use crate::machine::decide::Turn;
use crate::machine::progress::{Attempt, Direction, StepProgress};
use crate::machine::{HistoryKind, StepState};
#[cfg(feature = "planted-defects")]
use crate::planted::{Defect, is_planted};
use crate::{CodecError, Timestamp};

impl Turn<'_> {
    /// Goes on as far as it goes without an answer or a timer.
    pub(super) fn advance(&mut self) {
        while self.progress.parked.is_none() {
            let goes_on = match self.progress.direction {
                Direction::Forward => self.advance_forward(),
                Direction::Backward => self.advance_backward(),
                Direction::NotStarted | Direction::Completed | Direction::Compensated => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Starts the next stage if the one before it is done. Returns true if there may be more to do.
    fn advance_forward(&mut self) -> bool {
        let is_done =
            |step: &StepProgress| matches!(step.state, StepState::Succeeded | StepState::Skipped);
        let Some(index) = self.progress.steps.iter().position(|step| !is_done(step)) else {
            self.progress.direction = Direction::Completed;
            self.note_saga(HistoryKind::Completed, String::new());
            return false;
        };
        if self.step(index).state != StepState::Ahead {
            return false;
        }
        let stage = self.stage_of(index);
        for index in stage.clone() {
            self.begin(index);
        }
        self.progress.steps[stage].iter().all(is_done)
    }

    fn begin(&mut self, index: usize) {
        let definition = &self.definition.steps()[index];
        if self.step(index).state != StepState::Ahead {
            return;
        }
        if definition.condition.as_ref().is_some_and(|holds| !holds(&*self.progress.data)) {
            self.progress.steps[index].state = StepState::Skipped;
            self.note(index, HistoryKind::Skipped, String::new());
        } else if let Some(wait) = &definition.wait {
            let due = self.now + wait(&*self.progress.data);
            let step = &mut self.progress.steps[index];
            (step.state, step.due) = (StepState::Waiting, due);
            self.note(index, HistoryKind::WaitStarted, String::new());
        } else {
            self.send(index, Attempt::FIRST);
        }
    }

    /// Undoes the last stage that is not undone yet, once nothing is outstanding.
    fn advance_backward(&mut self) -> bool {
        let is_busy = |step: &StepProgress| {
            matches!(
                step.state,
                StepState::Outstanding | StepState::Compensating | StepState::CompensationDelayed
            )
        };
        if self.progress.steps.iter().any(is_busy) {
            return false;
        }
        let last = (0..self.progress.steps.len()).rev().find(|&index| self.needs_undoing(index));
        #[cfg(feature = "planted-defects")]
        let last = match is_planted(Defect::CompensatesForward) {
            true => (0..self.progress.steps.len()).find(|&index| self.needs_undoing(index)),
            false => last,
        };
        let Some(last) = last else {
            self.progress.direction = Direction::Compensated;
            self.note_saga(HistoryKind::SagaCompensated, String::new());
            return false;
        };
        for index in self.stage_of(last) {
            if self.needs_undoing(index) {
                self.send_compensation(index, Attempt::FIRST);
            }
        }
        false
    }

    fn needs_undoing(&self, index: usize) -> bool {
        let step = self.step(index);
        let may_have_happened = match step.state {
            StepState::Succeeded => true,
            // Skipped by a person after it was asked for: nobody knows.
            StepState::Unknown | StepState::Skipped => step.was_sent(),
            _ => false,
        };
        may_have_happened && self.definition.steps()[index].compensation.is_some()
    }

    pub(super) fn send(&mut self, index: usize, attempt: Attempt) {
        let definition = &self.definition.steps()[index];
        match self.progress.command(definition, attempt) {
            Ok(command) => {
                self.progress.steps[index].command = command.id;
                self.commands.push(command);
                let due = self.now + definition.action().deadline;
                self.await_answer(index, StepState::Outstanding, attempt, due);
                self.note(index, HistoryKind::CommandSent, String::new());
            }
            Err(error) => self.unencodable(index, StepState::Failed, &error),
        }
    }

    pub(super) fn send_compensation(&mut self, index: usize, attempt: Attempt) {
        let definition = &self.definition.steps()[index];
        match self.progress.compensation(definition, &self.step(index), attempt) {
            Ok(command) => {
                self.commands.push(command);
                let due = self.now + definition.compensation().deadline;
                self.await_answer(index, StepState::Compensating, attempt, due);
                self.note(index, HistoryKind::CompensationSent, String::new());
            }
            Err(error) => {
                if attempt.number == 1 {
                    // It was that of the action.
                    self.progress.steps[index].attempt = Attempt::default();
                }
                self.unencodable(index, StepState::CompensationFailed, &error);
            }
        }
    }

    fn await_answer(&mut self, index: usize, state: StepState, attempt: Attempt, due: Timestamp) {
        let step = &mut self.progress.steps[index];
        (step.state, step.attempt, step.due) = (state, attempt, due);
    }

    fn unencodable(&mut self, index: usize, state: StepState, error: &CodecError) {
        self.progress.steps[index].state = state;
        self.park(index, "command-unencodable", error.to_string());
    }

    fn stage_of(&self, index: usize) -> Range<usize> {
        let steps = self.definition.steps();
        let stage = steps[index].stage;
        let start = steps[..index].iter().rposition(|step| step.stage != stage);
        let end = steps[index..].iter().position(|step| step.stage != stage);
        start.map_or(0, |before| before + 1)..end.map_or(steps.len(), |after| index + after)
    }
}
