//! The transition function.

use std::time::Duration;

use crate::definition::{Definition, StepDefinition, StepKind};
use crate::machine::command::compensation_id;
use crate::machine::progress::{Direction, StepProgress};
use crate::machine::{
    Decision, Event, Failure, HistoryEntry, HistoryKind, Ignored, OutgoingCommand, Progress,
    ReplyEvent, StepState, Verdict,
};
use crate::message::{FAILURE_BYTES_MAX, Outcome};
#[cfg(feature = "planted-defects")]
use crate::planted::{Defect, is_planted};
use crate::{Cause, CodecError, MessageId, Payload, Timestamp};

/// Decides what happens next: a pure function of where the saga stands, what was observed, and when.
///
/// The same arguments give the same decision, command ids included, so that an engine that loses a
/// race or crashes before it commits can decide again and send nothing twice.
pub fn decide(
    definition: &Definition,
    progress: Progress,
    event: Event,
    now: Timestamp,
) -> Decision {
    let mut turn = Turn { definition, progress, now, commands: Vec::new(), history: Vec::new() };
    let verdict = match event {
        Event::Started => turn.started(),
        Event::Reply(reply) => turn.reply(reply),
        Event::TimerFired { reachable_since } => turn.timer_fired(reachable_since),
        Event::CancelRequested => turn.cancel_requested(String::new()),
        Event::Operator(operation) => turn.operate(operation),
    };
    if verdict == Verdict::Applied {
        turn.resume_if_settled();
        turn.advance();
    }
    let Turn { progress, commands, history, .. } = turn;
    Decision { progress, verdict, commands, history }
}

/// The participant refused a step that only goes forward.
const REJECTED: &str = "rejected";
/// The participant refused a compensation.
const COMPENSATION_REJECTED: &str = "compensation-rejected";

/// One decision in the making.
pub(super) struct Turn<'a> {
    pub(super) definition: &'a Definition,
    pub(super) progress: Progress,
    pub(super) now: Timestamp,
    pub(super) commands: Vec<OutgoingCommand>,
    history: Vec<HistoryEntry>,
}

/// Why an attempt brought no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lapse {
    /// The participant said that it failed.
    Failed,
    /// Nobody said anything before the deadline.
    TimedOut,
}

// What is observed.
impl Turn<'_> {
    fn started(&mut self) -> Verdict {
        if self.progress.direction != Direction::NotStarted {
            return Verdict::Ignored(Ignored::Started);
        }
        self.progress.direction = Direction::Forward;
        self.note_saga(HistoryKind::Started, String::new());
        Verdict::Applied
    }

    fn reply(&mut self, reply: ReplyEvent) -> Verdict {
        if self.has_ended() {
            return Verdict::Ignored(Ignored::Ended);
        }
        if let Some(index) = self.outstanding(reply.command) {
            return self.step_reply(index, reply);
        }
        #[cfg(feature = "planted-defects")]
        if is_planted(Defect::LateReplyCounts)
            && let Some(index) = (0..self.progress.steps.len())
                .find(|&index| self.progress.steps[index].command == reply.command)
        {
            return self.step_reply(index, reply);
        }
        match self.outstanding_compensation(reply.command) {
            Some(index) => self.compensation_reply(index, reply),
            None => Verdict::Ignored(Ignored::NotOutstanding),
        }
    }

    fn step_reply(&mut self, index: usize, reply: ReplyEvent) -> Verdict {
        let step = self.step(index);
        let is_latest =
            step.state == StepState::Outstanding && step.attempt.number == reply.attempt;
        let was_failed = step.state == StepState::Failed;
        match reply.outcome {
            Outcome::Succeeded => match self.fold(index, &reply.payload) {
                Ok(()) => self.succeeded(index),
                // It is parked for this very answer.
                Err(_) if was_failed => return Verdict::Ignored(Ignored::NotOutstanding),
                Err(error) => self.unreadable(index, &error),
            },
            Outcome::Rejected(_) if was_failed && !self.can_be_refused(index) => {
                return Verdict::Ignored(Ignored::NotOutstanding);
            }
            Outcome::Rejected(code) => self.refused(index, code),
            Outcome::FailedTransiently(_) | Outcome::FailedPermanently(_) if !is_latest => {
                return Verdict::Ignored(Ignored::EarlierAttempt);
            }
            Outcome::FailedTransiently(message) => {
                self.note(index, HistoryKind::AttemptFailed, message.clone());
                self.lapse(index, Lapse::Failed, message);
            }
            Outcome::FailedPermanently(message) => {
                self.note(index, HistoryKind::AttemptFailed, message.clone());
                self.fail(index, message);
            }
        }
        Verdict::Applied
    }

    fn compensation_reply(&mut self, index: usize, reply: ReplyEvent) -> Verdict {
        let step = self.step(index);
        let is_latest =
            step.state == StepState::Compensating && step.attempt.number == reply.attempt;
        let was_failed = step.state == StepState::CompensationFailed;
        match reply.outcome {
            Outcome::Succeeded => self.compensated(index),
            Outcome::FailedTransiently(_) | Outcome::FailedPermanently(_) if !is_latest => {
                return Verdict::Ignored(Ignored::EarlierAttempt);
            }
            Outcome::FailedTransiently(message) => {
                self.note(index, HistoryKind::AttemptFailed, message.clone());
                self.lapse(index, Lapse::Failed, message);
            }
            Outcome::Rejected(_) if was_failed => {
                return Verdict::Ignored(Ignored::NotOutstanding);
            }
            Outcome::Rejected(message) => {
                self.fail_compensation(index, COMPENSATION_REJECTED, message);
            }
            Outcome::FailedPermanently(message) => {
                self.fail_compensation(index, "compensation-failed", message);
            }
        }
        Verdict::Applied
    }

    fn timer_fired(&mut self, reachable_since: Timestamp) -> Verdict {
        if self.progress.parked.is_some() || self.has_ended() {
            return Verdict::Ignored(Ignored::NotDue);
        }
        let mut fired = false;
        for index in 0..self.progress.steps.len() {
            // Looked at one by one: a timer that fires may stop those behind it.
            let step = self.step(index);
            if step.state.has_timer() && step.due <= self.now {
                fired = true;
                self.step_timer_fired(index, step, reachable_since);
            }
        }
        if fired { Verdict::Applied } else { Verdict::Ignored(Ignored::NotDue) }
    }

    pub(super) fn step_timer_fired(
        &mut self,
        index: usize,
        step: StepProgress,
        reachable_since: Timestamp,
    ) {
        match step.state {
            StepState::Waiting => {
                self.progress.steps[index].state = StepState::Succeeded;
                self.note(index, HistoryKind::WaitEnded, String::new());
            }
            StepState::Delayed => self.send(index, step.attempt.next()),
            StepState::CompensationDelayed => {
                self.send_compensation(index, step.attempt.next());
            }
            _ => {
                let due = reachable_since + self.deadline(index, step.state);
                if due > self.now {
                    self.progress.steps[index].due = due;
                    return;
                }
                self.note(index, HistoryKind::TimedOut, String::new());
                self.lapse(index, Lapse::TimedOut, "no reply in time");
            }
        }
    }

    /// Returns how long an answer to the outstanding command of a step is waited for.
    fn deadline(&self, index: usize, state: StepState) -> Duration {
        let definition = &self.definition.steps()[index];
        match state {
            StepState::Compensating => definition.compensation().deadline,
            _ => definition.action().deadline,
        }
    }

    /// Turns back; `note` says who wanted it and why, if that is known.
    pub(super) fn cancel_requested(&mut self, note: String) -> Verdict {
        match self.progress.direction {
            Direction::NotStarted | Direction::Forward => {}
            Direction::Backward => return Verdict::Ignored(Ignored::UnderWay),
            Direction::Compensated => return Verdict::Ignored(Ignored::Ended),
            Direction::Completed => return Verdict::Refused("it has completed"),
        }
        let steps = self.definition.steps().iter().zip(&self.progress.steps);
        let is_reached = |(definition, step): (&StepDefinition, &StepProgress)| {
            matches!(definition.kind, StepKind::Pivot | StepKind::Retriable)
                && (step.was_sent() || step.succeeded)
        };
        if steps.into_iter().any(is_reached) {
            return Verdict::Refused("it has reached its pivot and can only go forward");
        }
        self.note_saga(HistoryKind::CancelRequested, note);
        self.turn_back(Cause { step: None, code: "cancelled".to_owned() });
        Verdict::Applied
    }
}

// What that means for a step.
impl Turn<'_> {
    /// Takes a reply into the data. A reply that cannot be read leaves the data as it was.
    pub(super) fn fold(&mut self, index: usize, reply: &Payload) -> Result<(), CodecError> {
        let action = self.definition.steps()[index].action();
        (action.fold)(&mut *self.progress.data, reply)
    }

    pub(super) fn succeeded(&mut self, index: usize) {
        self.progress.steps[index].state = StepState::Succeeded;
        self.progress.steps[index].succeeded = true;
        self.note(index, HistoryKind::Succeeded, String::new());
    }

    /// The step took effect and what came of it is not known.
    fn unreadable(&mut self, index: usize, error: &CodecError) {
        self.progress.steps[index].state = StepState::Failed;
        self.progress.steps[index].succeeded = true;
        self.park(index, "reply-undecodable", error.to_string());
    }

    /// Returns true if the saga can turn back when this step is refused.
    pub(super) fn can_be_refused(&self, index: usize) -> bool {
        self.definition.steps()[index].kind != StepKind::Retriable
    }

    pub(super) fn refused(&mut self, index: usize, code: String) {
        self.note(index, HistoryKind::Rejected, code.clone());
        if self.can_be_refused(index) {
            self.progress.steps[index].state = StepState::Refused;
            let step = Some(self.definition.steps()[index].name.clone());
            self.turn_back(Cause { step, code });
        } else {
            self.progress.steps[index].state = StepState::Failed;
            self.park(index, REJECTED, code);
        }
    }

    pub(super) fn compensated(&mut self, index: usize) {
        self.progress.steps[index].state = StepState::Compensated;
        self.note(index, HistoryKind::Compensated, String::new());
    }

    fn fail(&mut self, index: usize, message: String) {
        if self.progress.direction == Direction::Backward {
            self.progress.steps[index].state = StepState::Unknown;
        } else {
            self.progress.steps[index].state = StepState::Failed;
            self.park(index, "failed", message);
        }
    }

    fn fail_compensation(&mut self, index: usize, code: &str, message: String) {
        self.progress.steps[index].state = StepState::CompensationFailed;
        self.note(index, HistoryKind::CompensationFailed, message.clone());
        self.park(index, code, message);
    }

    /// An attempt, forward or back, brought no answer: try again or give up.
    fn lapse(&mut self, index: usize, lapse: Lapse, message: impl Into<String>) {
        let StepProgress { state, attempt, .. } = self.step(index);
        let is_compensation = state == StepState::Compensating;
        if !is_compensation && self.progress.direction == Direction::Backward {
            self.progress.steps[index].state = StepState::Unknown;
            return;
        }
        let definition = &self.definition.steps()[index];
        let (policy, delayed) = if is_compensation {
            (definition.compensation().retry, StepState::CompensationDelayed)
        } else {
            (definition.action().retry, StepState::Delayed)
        };
        match (policy.allows(attempt.counted()), lapse) {
            (true, Lapse::TimedOut) if is_compensation => {
                self.send_compensation(index, attempt.next());
            }
            (true, Lapse::TimedOut) => self.send(index, attempt.next()),
            (true, Lapse::Failed) => {
                let seed = self.progress.saga.0.as_u64_pair().1;
                let step = &mut self.progress.steps[index];
                (step.state, step.due) =
                    (delayed, self.now + policy.delay(attempt.counted(), seed));
                self.note(index, HistoryKind::RetryScheduled, String::new());
            }
            (false, _) if is_compensation => {
                self.fail_compensation(index, "compensation-failed", message.into());
            }
            (false, _) => self.give_up(index, lapse, message.into()),
        }
    }

    /// The attempts of a step are used up and its outcome is unknown.
    fn give_up(&mut self, index: usize, lapse: Lapse, message: String) {
        self.progress.steps[index].state = StepState::Unknown;
        let definition = &self.definition.steps()[index];
        if definition.kind == StepKind::Compensable {
            let code = match lapse {
                Lapse::Failed => "failed",
                Lapse::TimedOut => "timed-out",
            };
            let step = Some(definition.name.clone());
            self.turn_back(Cause { step, code: code.to_owned() });
        } else {
            self.park(index, "attempts-used-up", message);
        }
    }

    /// Starts to compensate. What is outstanding is awaited; what waits is given up.
    fn turn_back(&mut self, cause: Cause) {
        if self.progress.direction == Direction::Backward {
            return;
        }
        self.note_saga(HistoryKind::CompensationStarted, cause.code.clone());
        self.progress.direction = Direction::Backward;
        self.progress.cause = cause;
        // A step that had failed for good is on its way back now like the others.
        self.progress.parked = None;
        for step in &mut self.progress.steps {
            step.state = match step.state {
                StepState::Delayed => StepState::Unknown,
                StepState::Failed if step.was_sent() => StepState::Unknown,
                StepState::Failed | StepState::Waiting => StepState::Skipped,
                state => state,
            };
        }
    }

    pub(super) fn park(&mut self, index: usize, code: &str, mut message: String) {
        // It may quote the message that was received.
        message.truncate(message.floor_char_boundary(FAILURE_BYTES_MAX));
        self.note(index, HistoryKind::Parked, format!("{code}: {message}"));
        self.progress.steps[index].refused = matches!(code, REJECTED | COMPENSATION_REJECTED);
        let step = Some(self.definition.steps()[index].name.clone());
        // One person looks at one thing at a time: what is parked elsewhere stays there.
        if self.progress.parked.as_ref().is_none_or(|failure| failure.step == step) {
            self.progress.parked = Some(Failure { step, code: code.to_owned(), message });
        }
    }

    /// Lets a parked saga go on once the step that it was parked at is settled.
    fn resume_if_settled(&mut self) {
        let is_at_a_step =
            self.progress.parked.as_ref().is_some_and(|failure| failure.step.is_some());
        if is_at_a_step && self.parked_at().is_none() {
            self.resume();
        }
    }

    /// Lets a parked saga go on, unless another step holds it.
    pub(super) fn resume(&mut self) {
        self.progress.parked = None;
        match (0..self.progress.steps.len()).find(|&index| self.is_held(index)) {
            Some(held) => {
                let message = "found when the step before it was settled; see the history";
                let code = match self.step(held) {
                    StepProgress { refused: false, .. } => "failed",
                    StepProgress { state: StepState::CompensationFailed, .. } => {
                        COMPENSATION_REJECTED
                    }
                    _ => REJECTED,
                };
                self.park(held, code, message.to_owned());
            }
            None => self.note_saga(HistoryKind::Resumed, String::new()),
        }
    }
}

// Looking things up.
impl Turn<'_> {
    pub(super) fn step(&self, index: usize) -> StepProgress {
        self.progress.steps[index]
    }

    /// Returns true if the saga cannot go on before this step is settled.
    fn is_held(&self, index: usize) -> bool {
        match self.step(index).state {
            StepState::Failed | StepState::CompensationFailed => true,
            StepState::Unknown => self.progress.direction == Direction::Forward,
            _ => false,
        }
    }

    /// Returns the step that the saga is parked at, if it is parked at one.
    pub(super) fn parked_at(&self) -> Option<usize> {
        let step = self.progress.parked.as_ref()?.step.as_ref()?;
        self.definition.step_index(step.as_str()).filter(|&index| self.is_held(index))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.progress.direction, Direction::Completed | Direction::Compensated)
    }

    /// Finds the step whose command this is, if an answer to it still counts.
    fn outstanding(&self, command: MessageId) -> Option<usize> {
        let forward = self.progress.direction == Direction::Forward;
        self.progress.steps.iter().position(|step| {
            let is_open = match step.state {
                StepState::Outstanding | StepState::Delayed => true,
                // Parked because nobody knew; now somebody does.
                StepState::Unknown | StepState::Failed => forward,
                _ => false,
            };
            is_open && step.was_sent() && step.command == command
        })
    }

    /// Finds the step whose compensation this is, if an answer to it still counts.
    fn outstanding_compensation(&self, command: MessageId) -> Option<usize> {
        (0..self.progress.steps.len()).find(|&index| {
            let is_outstanding = matches!(
                self.step(index).state,
                StepState::Compensating
                    | StepState::CompensationDelayed
                    | StepState::CompensationFailed
            );
            let name = &self.definition.steps()[index].name;
            is_outstanding && compensation_id(self.progress.saga, name) == command
        })
    }

    pub(super) fn note(&mut self, index: usize, kind: HistoryKind, detail: String) {
        let step = Some(self.definition.steps()[index].name.clone());
        let attempt = self.step(index).attempt.number;
        self.history.push(HistoryEntry { at: self.now, kind, step, attempt, detail });
    }

    pub(super) fn note_saga(&mut self, kind: HistoryKind, detail: String) {
        self.history.push(HistoryEntry { at: self.now, kind, step: None, attempt: 0, detail });
    }
}
