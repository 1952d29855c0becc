//! The transition function.

use std::ops::Range;

use uuid::Uuid;

use crate::definition::{Action, Definition, StepDefinition, StepKind};
use crate::machine::progress::{Direction, StepProgress};
use crate::machine::{
    Decision, Event, Failure, HistoryEntry, HistoryKind, Ignored, Operation, OperatorAction,
    OutgoingCommand, Progress, ReplyEvent, Resolution, StepState, Verdict,
};
use crate::message::Outcome;
use crate::{Cause, CodecError, MessageId, Payload, SagaId, StepName, Timestamp};

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
        Event::TimerFired => turn.timer_fired(),
        Event::CancelRequested => turn.cancel_requested(),
        Event::Operator(operation) => turn.operate(operation),
    };
    if verdict == Verdict::Applied {
        turn.advance();
    }
    let Turn { progress, commands, history, .. } = turn;
    Decision { progress, verdict, commands, history }
}

/// One decision in the making.
struct Turn<'a> {
    definition: &'a Definition,
    progress: Progress,
    now: Timestamp,
    commands: Vec<OutgoingCommand>,
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
impl<'a> Turn<'a> {
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
        match self.outstanding_compensation(reply.command) {
            Some(index) => self.compensation_reply(index, reply),
            None => Verdict::Ignored(Ignored::NotOutstanding),
        }
    }

    fn step_reply(&mut self, index: usize, reply: ReplyEvent) -> Verdict {
        let step = self.step(index);
        let is_latest = step.state == StepState::Outstanding && step.attempt == reply.attempt;
        match reply.outcome {
            Outcome::Succeeded => {
                self.unpark_if_at(index);
                self.succeed(index, &reply.payload);
            }
            Outcome::Rejected(code) => {
                self.unpark_if_at(index);
                self.reject(index, code);
            }
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
        let is_latest = step.state == StepState::Compensating && step.attempt == reply.attempt;
        match reply.outcome {
            Outcome::Succeeded => {
                self.unpark_if_at(index);
                self.progress.steps[index].state = StepState::Compensated;
                self.note(index, HistoryKind::Compensated, String::new());
            }
            Outcome::FailedTransiently(_) | Outcome::FailedPermanently(_) if !is_latest => {
                return Verdict::Ignored(Ignored::EarlierAttempt);
            }
            Outcome::FailedTransiently(message) => {
                self.note(index, HistoryKind::AttemptFailed, message.clone());
                self.lapse(index, Lapse::Failed, message);
            }
            Outcome::Rejected(message) | Outcome::FailedPermanently(message) => {
                self.fail_compensation(index, message);
            }
        }
        Verdict::Applied
    }

    fn timer_fired(&mut self) -> Verdict {
        if self.progress.parked.is_some() {
            return Verdict::Ignored(Ignored::NotDue);
        }
        let mut fired = false;
        for index in 0..self.progress.steps.len() {
            // Looked at one by one: a timer that fires may stop those behind it.
            let step = self.step(index);
            if step.state.has_timer() && step.due <= self.now {
                fired = true;
                self.step_timer_fired(index, step);
            }
        }
        if fired { Verdict::Applied } else { Verdict::Ignored(Ignored::NotDue) }
    }

    fn step_timer_fired(&mut self, index: usize, step: StepProgress) {
        match step.state {
            StepState::Waiting => {
                self.progress.steps[index].state = StepState::Succeeded;
                self.note(index, HistoryKind::WaitEnded, String::new());
            }
            StepState::Delayed => self.send(index, step.attempt + 1),
            StepState::CompensationDelayed => self.send_compensation(index, step.attempt + 1),
            _ => {
                self.note(index, HistoryKind::TimedOut, String::new());
                self.lapse(index, Lapse::TimedOut, "no reply in time".to_owned());
            }
        }
    }

    fn cancel_requested(&mut self) -> Verdict {
        if self.has_ended() {
            return Verdict::Ignored(Ignored::Ended);
        }
        if self.progress.direction == Direction::Backward {
            return Verdict::Ignored(Ignored::UnderWay);
        }
        let steps = self.definition.steps().iter().zip(&self.progress.steps);
        let is_reached = |(definition, step): (&StepDefinition, &StepProgress)| {
            matches!(definition.kind, StepKind::Pivot | StepKind::Retriable)
                && !matches!(step.state, StepState::Ahead | StepState::Skipped)
        };
        if steps.into_iter().any(is_reached) {
            return Verdict::Refused("it has reached its pivot and can only go forward");
        }
        self.note_saga(HistoryKind::CancelRequested, String::new());
        self.turn_back(Cause { step: None, code: "cancelled".to_owned() });
        Verdict::Applied
    }
}

// What a person does.
impl<'a> Turn<'a> {
    fn operate(&mut self, operation: Operation) -> Verdict {
        if self.has_ended() {
            return Verdict::Refused("it has ended");
        }
        let Operation { by, reason, action } = operation;
        let note = |what: &str| format!("{what} by {by}: {reason}");
        if let OperatorAction::MoveTimer { step, due } = action {
            return self.move_timer(&step, due, note("timer moved"));
        }
        let Some(failure) = self.progress.parked.clone() else {
            return Verdict::Refused("it is not parked");
        };
        let index = failure.step.and_then(|step| self.definition.step_index(step.as_str()));
        if let Some(reason) = self.objection(index, &action) {
            return Verdict::Refused(reason);
        }
        self.progress.parked = None;
        match (action, index) {
            (OperatorAction::Retry, None) => self.note_saga(HistoryKind::Operator, note("retry")),
            (OperatorAction::Retry, Some(index)) => {
                self.note(index, HistoryKind::Operator, note("retry"));
                match self.step(index).state {
                    StepState::CompensationFailed => self.send_compensation(index, 1),
                    _ => self.send(index, 1),
                }
            }
            (OperatorAction::Skip, Some(index)) => {
                self.note(index, HistoryKind::Operator, note("skip"));
                self.skip_held(index);
            }
            (OperatorAction::Resolve(resolution), Some(index)) => {
                self.note(index, HistoryKind::Operator, note("resolve"));
                self.resolve(index, resolution);
            }
            (OperatorAction::Skip | OperatorAction::Resolve(_), None)
            | (OperatorAction::MoveTimer { .. }, _) => unreachable!("refused above"),
        }
        self.park_if_held();
        Verdict::Applied
    }

    /// Returns why an action on a parked saga is not safe, if it is not.
    fn objection(&self, index: Option<usize>, action: &OperatorAction) -> Option<&'static str> {
        let (Some(index), OperatorAction::Resolve(Resolution::Rejected(_))) = (index, action)
        else {
            return match (index, action) {
                (None, OperatorAction::Skip | OperatorAction::Resolve(_)) => {
                    Some("it is not parked at a step; retry it")
                }
                _ => None,
            };
        };
        if self.step(index).state == StepState::CompensationFailed {
            return Some("a compensation cannot be rejected; resolve it as succeeded or skip it");
        }
        match self.definition.steps()[index].kind {
            StepKind::Retriable => Some("a step after the pivot cannot be rejected"),
            _ => None,
        }
    }

    fn skip_held(&mut self, index: usize) {
        let step = &mut self.progress.steps[index];
        if step.state == StepState::CompensationFailed {
            step.state = StepState::Compensated;
        } else {
            step.state = StepState::Skipped;
            self.note(index, HistoryKind::Skipped, String::new());
        }
    }

    fn resolve(&mut self, index: usize, resolution: Resolution) {
        match resolution {
            Resolution::Rejected(code) => self.reject(index, code),
            Resolution::Succeeded(_) if self.step(index).state == StepState::CompensationFailed => {
                self.progress.steps[index].state = StepState::Compensated;
                self.note(index, HistoryKind::Compensated, String::new());
            }
            Resolution::Succeeded(payload) => self.succeed(index, &payload),
        }
    }

    fn move_timer(&mut self, step: &StepName, due: Timestamp, note: String) -> Verdict {
        let Some(index) = self.definition.step_index(step.as_str()) else {
            return Verdict::Refused("it has no step of this name");
        };
        if !self.step(index).state.has_timer() {
            return Verdict::Refused("the step has no timer running");
        }
        self.progress.steps[index].due = due;
        self.note(index, HistoryKind::Operator, note);
        Verdict::Applied
    }
}

// What that means for a step.
impl<'a> Turn<'a> {
    fn succeed(&mut self, index: usize, reply: &Payload) {
        let action = self.definition.steps()[index].action.as_ref();
        let folded = action.map_or(Ok(()), |action| (action.fold)(&mut *self.progress.data, reply));
        match folded {
            Ok(()) => {
                self.progress.steps[index].state = StepState::Succeeded;
                self.progress.steps[index].succeeded = true;
                self.note(index, HistoryKind::Succeeded, String::new());
            }
            Err(error) => {
                self.progress.steps[index].state = StepState::Failed;
                self.park(index, "reply-undecodable", error.to_string());
            }
        }
    }

    fn reject(&mut self, index: usize, code: String) {
        self.note(index, HistoryKind::Rejected, code.clone());
        let definition = &self.definition.steps()[index];
        if definition.kind == StepKind::Retriable {
            self.progress.steps[index].state = StepState::Failed;
            self.park(index, "rejected", code);
        } else {
            self.progress.steps[index].state = StepState::Refused;
            self.turn_back(Cause { step: Some(definition.name.clone()), code });
        }
    }

    fn fail(&mut self, index: usize, message: String) {
        if self.progress.direction == Direction::Backward {
            self.progress.steps[index].state = StepState::Unknown;
        } else {
            self.progress.steps[index].state = StepState::Failed;
            self.park(index, "failed", message);
        }
    }

    fn fail_compensation(&mut self, index: usize, message: String) {
        self.progress.steps[index].state = StepState::CompensationFailed;
        self.note(index, HistoryKind::CompensationFailed, message.clone());
        self.park(index, "compensation-failed", message);
    }

    /// An attempt, forward or back, brought no answer: try again or give up.
    fn lapse(&mut self, index: usize, lapse: Lapse, message: String) {
        let StepProgress { state, attempt, .. } = self.step(index);
        let is_compensation = state == StepState::Compensating;
        if !is_compensation && self.progress.direction == Direction::Backward {
            self.progress.steps[index].state = StepState::Unknown;
            return;
        }
        let policy = self.action(index, is_compensation).retry;
        match (policy.allows(attempt), lapse) {
            (true, Lapse::TimedOut) if is_compensation => {
                self.send_compensation(index, attempt + 1);
            }
            (true, Lapse::TimedOut) => self.send(index, attempt + 1),
            (true, Lapse::Failed) => {
                let seed = self.progress.saga.0.as_u64_pair().1;
                let step = &mut self.progress.steps[index];
                step.state = match is_compensation {
                    true => StepState::CompensationDelayed,
                    false => StepState::Delayed,
                };
                step.due = self.now + policy.delay(attempt, seed);
                self.note(index, HistoryKind::RetryScheduled, String::new());
            }
            (false, _) if is_compensation => self.fail_compensation(index, message),
            (false, _) => self.give_up(index, lapse, message),
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
                StepState::Delayed | StepState::Failed => StepState::Unknown,
                StepState::Waiting => StepState::Skipped,
                state => state,
            };
        }
    }

    fn park(&mut self, index: usize, code: &str, message: String) {
        self.note(index, HistoryKind::Parked, format!("{code}: {message}"));
        let step = Some(self.definition.steps()[index].name.clone());
        self.progress.parked.get_or_insert(Failure { step, code: code.to_owned(), message });
    }

    /// A late answer settles what the saga was parked for.
    fn unpark_if_at(&mut self, index: usize) {
        let name = &self.definition.steps()[index].name;
        if self.progress.parked.as_ref().is_some_and(|failure| failure.step.as_ref() == Some(name))
        {
            self.progress.parked = None;
            self.progress.steps[index].state = StepState::Outstanding;
            self.note_saga(HistoryKind::Resumed, String::new());
            // Another branch may hold the saga too; its turn comes with its own answer or a person.
            self.park_if_held_except(Some(index));
        }
    }

    fn park_if_held(&mut self) {
        if self.progress.parked.is_none() {
            self.note_saga(HistoryKind::Resumed, String::new());
        }
        self.park_if_held_except(None);
    }

    fn park_if_held_except(&mut self, except: Option<usize>) {
        let forward = self.progress.direction == Direction::Forward;
        let held = (0..self.progress.steps.len()).find(|&index| {
            Some(index) != except
                && match self.step(index).state {
                    StepState::Failed | StepState::CompensationFailed => true,
                    StepState::Unknown => forward,
                    _ => false,
                }
        });
        if let (None, Some(index)) = (&self.progress.parked, held) {
            self.park(index, "failed", "another step of its group is parked too".to_owned());
        }
    }
}

// Going on.
impl<'a> Turn<'a> {
    fn advance(&mut self) {
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
            self.send(index, 1);
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
        let needs_undoing = |turn: &Self, index: usize| {
            matches!(turn.step(index).state, StepState::Succeeded | StepState::Unknown)
                && turn.definition.steps()[index].compensation.is_some()
        };
        let last = (0..self.progress.steps.len()).rev().find(|&index| needs_undoing(self, index));
        let Some(last) = last else {
            self.progress.direction = Direction::Compensated;
            self.note_saga(HistoryKind::SagaCompensated, String::new());
            return false;
        };
        for index in self.stage_of(last) {
            if needs_undoing(self, index) {
                self.send_compensation(index, 1);
            }
        }
        false
    }

    fn send(&mut self, index: usize, attempt: u32) {
        let definition = &self.definition.steps()[index];
        let action = self.action(index, false);
        match (action.build)(&*self.progress.data, &self.progress.cause) {
            Ok(payload) => {
                let id = command_id(self.progress.saga, &definition.name);
                self.commands.push(OutgoingCommand {
                    id,
                    step: definition.name.clone(),
                    participant: action.participant.clone(),
                    message_type: action.message_type.clone(),
                    payload,
                    attempt,
                    compensates: None,
                    succeeded: false,
                });
                let due = self.now + action.deadline;
                self.progress.steps[index] = StepProgress {
                    state: StepState::Outstanding,
                    attempt,
                    due,
                    command: id,
                    succeeded: false,
                };
                self.note(index, HistoryKind::CommandSent, String::new());
            }
            Err(error) => self.unencodable(index, StepState::Failed, &error),
        }
    }

    fn send_compensation(&mut self, index: usize, attempt: u32) {
        let definition = &self.definition.steps()[index];
        let action = self.action(index, true);
        match (action.build)(&*self.progress.data, &self.progress.cause) {
            Ok(payload) => {
                let StepProgress { command, succeeded, .. } = self.step(index);
                self.commands.push(OutgoingCommand {
                    id: compensation_id(self.progress.saga, &definition.name),
                    step: definition.name.clone(),
                    participant: action.participant.clone(),
                    message_type: action.message_type.clone(),
                    payload,
                    attempt,
                    compensates: Some(command).filter(|command| !command.0.is_nil()),
                    succeeded,
                });
                let due = self.now + action.deadline;
                self.progress.steps[index] = StepProgress {
                    state: StepState::Compensating,
                    attempt,
                    due,
                    command,
                    succeeded,
                };
                self.note(index, HistoryKind::CompensationSent, String::new());
            }
            Err(error) => self.unencodable(index, StepState::CompensationFailed, &error),
        }
    }

    fn unencodable(&mut self, index: usize, state: StepState, error: &CodecError) {
        self.progress.steps[index].state = state;
        self.park(index, "command-unencodable", error.to_string());
    }
}

// Looking things up.
impl<'a> Turn<'a> {
    fn step(&self, index: usize) -> StepProgress {
        self.progress.steps[index]
    }

    fn action(&self, index: usize, is_compensation: bool) -> &'a Action {
        let definition = &self.definition.steps()[index];
        let action = if is_compensation { &definition.compensation } else { &definition.action };
        action.as_ref().expect("a step that is asked for has the command that is sent")
    }

    fn has_ended(&self) -> bool {
        matches!(self.progress.direction, Direction::Completed | Direction::Compensated)
    }

    /// Finds the step whose command this is, if an answer to it still counts.
    fn outstanding(&self, command: MessageId) -> Option<usize> {
        let forward = self.progress.direction == Direction::Forward;
        self.progress.steps.iter().position(|step| {
            step.command == command
                && match step.state {
                    StepState::Outstanding | StepState::Delayed => true,
                    // Parked because nobody knew; now somebody does.
                    StepState::Unknown => forward,
                    _ => false,
                }
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

    fn stage_of(&self, index: usize) -> Range<usize> {
        let steps = self.definition.steps();
        let stage = steps[index].stage;
        let start = steps[..index].iter().rposition(|step| step.stage != stage);
        let end = steps[index..].iter().position(|step| step.stage != stage);
        start.map_or(0, |before| before + 1)..end.map_or(steps.len(), |after| index + after)
    }

    fn note(&mut self, index: usize, kind: HistoryKind, detail: String) {
        let step = Some(self.definition.steps()[index].name.clone());
        let attempt = self.step(index).attempt;
        self.history.push(HistoryEntry { at: self.now, kind, step, attempt, detail });
    }

    fn note_saga(&mut self, kind: HistoryKind, detail: String) {
        self.history.push(HistoryEntry { at: self.now, kind, step: None, attempt: 0, detail });
    }
}

/// Returns the id of a step's command: derived, so that it is made once however often it is decided.
///
/// The derivation is part of the stored format: a running saga meets the same id again after an upgrade.
fn command_id(saga: SagaId, step: &StepName) -> MessageId {
    time_ordered(saga, Uuid::new_v5(&saga.0, step.as_str().as_bytes()))
}

/// Returns the id of a step's compensation.
pub(super) fn compensation_id(saga: SagaId, step: &StepName) -> MessageId {
    let command = command_id(saga, step);
    time_ordered(saga, Uuid::new_v5(&command.0, b"compensation"))
}

/// Puts the saga's time in front, so that ids of one time are neighbours in an index.
fn time_ordered(saga: SagaId, id: Uuid) -> MessageId {
    let mut bytes = id.into_bytes();
    bytes[..6].copy_from_slice(&saga.as_bytes()[..6]);
    MessageId(uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand).into_uuid())
}
