//! Where a saga stands.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use crate::definition::{Data, Definition, StepDefinition, StepKind};
use crate::machine::Status;
use crate::wire;
use crate::{Cause, CodecError, CorrelationId, MessageId, SagaData, SagaId, StepName, Timestamp};

/// Where one saga stands: its data, and the state of each step.
///
/// It is made by [`Progress::start`] and changed by [`decide`](crate::machine::decide) alone.
pub struct Progress {
    pub(super) saga: SagaId,
    pub(super) direction: Direction,
    pub(super) parked: Option<Failure>,
    pub(super) cause: Cause,
    pub(super) origin: Origin,
    pub(super) data: Data,
    pub(super) steps: Vec<StepProgress>,
}

/// Where the saga is heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    NotStarted,
    Forward,
    Backward,
    Completed,
    Compensated,
}

/// An attempt of a command. Their numbers go on when an operator has the command tried anew, so that a late failure is never
/// taken for that of a later attempt; what is counted against the policy begins anew.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempt {
    /// From 1; 0 before the first.
    pub(super) number: u32,
    /// How many do not count any more.
    pub(super) before: u32,
}

/// The state of one step, with what its timer and its commands need.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepProgress {
    pub(super) state: StepState,
    /// The latest attempt of the current command, forward or back.
    pub(super) attempt: Attempt,
    /// When its timer fires; means something in the states that wait.
    pub(super) due: Timestamp,
    /// The id of the forward command; nil until it was sent.
    pub(super) command: MessageId,
    /// Whether the forward command is known to have taken effect.
    pub(super) succeeded: bool,
    /// Whether it failed because its participant refused it, on record; it would again.
    pub(super) refused: bool,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Not reached yet.
    Ahead,
    /// Left out: its condition did not hold, or a person skipped it.
    Skipped,
    /// Its wait has begun.
    Waiting,
    /// Its command was sent and not answered.
    Outstanding,
    /// An attempt failed; the next one waits for its time.
    Delayed,
    /// It succeeded.
    Succeeded,
    /// It was refused for a business reason, so there is nothing to undo.
    Refused,
    /// Whether it took effect is not known; it is undone as if it had.
    Unknown,
    /// It failed for good; the saga is parked.
    Failed,
    /// Its compensation was sent and not answered.
    Compensating,
    /// An attempt to compensate it failed; the next one waits for its time.
    CompensationDelayed,
    /// It was undone.
    Compensated,
    /// Its compensation failed for good; the saga is parked.
    CompensationFailed,
}

impl StepState {
    /// Returns true if the step's timer runs.
    pub(super) const fn has_timer(self) -> bool {
        matches!(
            self,
            Self::Waiting
                | Self::Outstanding
                | Self::Delayed
                | Self::Compensating
                | Self::CompensationDelayed
        )
    }

    const fn to_wire(self) -> wire::step_state::State {
        use wire::step_state::State;
        match self {
            Self::Ahead => State::Unspecified,
            Self::Skipped => State::Skipped,
            Self::Waiting => State::Waiting,
            Self::Outstanding => State::Outstanding,
            Self::Delayed => State::Delayed,
            Self::Succeeded => State::Succeeded,
            Self::Refused => State::Refused,
            Self::Unknown => State::Unknown,
            Self::Failed => State::Failed,
            Self::Compensating => State::Compensating,
            Self::CompensationDelayed => State::CompensationDelayed,
            Self::Compensated => State::Compensated,
            Self::CompensationFailed => State::CompensationFailed,
        }
    }

    const fn from_wire(state: wire::step_state::State) -> Self {
        use wire::step_state::State;
        match state {
            State::Unspecified => Self::Ahead,
            State::Skipped => Self::Skipped,
            State::Waiting => Self::Waiting,
            State::Outstanding => Self::Outstanding,
            State::Delayed => Self::Delayed,
            State::Succeeded => Self::Succeeded,
            State::Refused => Self::Refused,
            State::Unknown => Self::Unknown,
            State::Failed => Self::Failed,
            State::Compensating => Self::Compensating,
            State::CompensationDelayed => Self::CompensationDelayed,
            State::Compensated => Self::Compensated,
            State::CompensationFailed => Self::CompensationFailed,
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "ahead",
            Self::Skipped => "skipped",
            Self::Waiting => "waiting",
            Self::Outstanding => "outstanding",
            Self::Delayed => "delayed",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Compensating => "compensating",
            Self::CompensationDelayed => "compensation delayed",
            Self::Compensated => "compensated",
            Self::CompensationFailed => "compensation failed",
        })
    }
}

/// Why a saga is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step that it is parked at, if it is parked at one.
    pub step: Option<StepName>,
    /// What sort of failure it is, such as `attempts-used-up`.
    pub code: String,
    /// What was observed, for a person.
    pub message: String,
}

/// What a saga was started by; its commands carry it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The business operation that the saga belongs to.
    pub correlation: CorrelationId,
    /// The message that started it.
    pub causation: Option<MessageId>,
    /// W3C trace context of what started it.
    pub traceparent: Option<String>,
}

/// What can be seen of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// The stored name.
    pub name: StepName,
    /// Where it stands.
    pub state: StepState,
    /// Attempts made of its command, or of its compensation once that has begun.
    pub attempt: u32,
    /// When its timer fires, if one runs.
    pub due: Option<Timestamp>,
}

/// Stored state that this definition cannot go on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The bytes are no saga state.
    #[error("not a saga's state")]
    Undecodable(#[source] prost::DecodeError),
    /// The saga's data is not what the definition's codec reads.
    #[error("the saga's data cannot be decoded")]
    Data(#[source] CodecError),
    /// The state has a step that the definition does not have.
    #[error("the definition has no step `{0}`")]
    UnknownStep(String),
    /// A stored value makes no sense.
    #[error("stored value of `{0}` makes no sense")]
    Value(&'static str),
}

impl Progress {
    /// Makes the progress of a saga that is about to start; [`Event::Started`](crate::machine::Event::Started) sets it going.
    ///
    /// # Panics
    ///
    /// If the data is not of the type that the definition was built for.
    #[must_use]
    pub fn start<D: SagaData>(
        definition: &Definition,
        saga: SagaId,
        origin: Origin,
        data: D,
    ) -> Self {
        assert!(
            definition.has_data_of(std::any::TypeId::of::<D>()),
            "the definition of `{}` is not over this type of data",
            definition.name()
        );
        Self::start_erased(definition, saga, origin, Box::new(data))
    }

    pub(crate) fn start_erased(
        definition: &Definition,
        saga: SagaId,
        origin: Origin,
        data: Data,
    ) -> Self {
        let steps = definition.steps().iter().map(StepProgress::new).collect();
        let direction = Direction::NotStarted;
        Self { saga, direction, parked: None, cause: Cause::default(), origin, data, steps }
    }

    /// Returns the saga.
    #[must_use]
    pub const fn saga(&self) -> SagaId {
        self.saga
    }

    /// Returns where the saga stands as a whole.
    #[must_use]
    pub const fn status(&self) -> Status {
        match (&self.parked, self.direction) {
            (Some(_), _) => Status::Parked,
            (None, Direction::NotStarted | Direction::Forward) => Status::Running,
            (None, Direction::Backward) => Status::Compensating,
            (None, Direction::Completed) => Status::Completed,
            (None, Direction::Compensated) => Status::Compensated,
        }
    }

    /// Returns why the saga is parked, if it is.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.parked.as_ref()
    }

    /// Returns why the saga compensates, if it does or did.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        if self.cause.step.is_none() && self.cause.code.is_empty() {
            None
        } else {
            Some(&self.cause)
        }
    }

    /// Returns what the saga was started by.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the saga's data, if it is of this type.
    #[must_use]
    pub fn data<D: SagaData>(&self) -> Option<&D> {
        self.data.downcast_ref()
    }

    /// Returns when the next timer fires: a deadline, a retry or the end of a wait.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.parked.is_some() {
            return None;
        }
        self.steps.iter().filter(|step| step.state.has_timer()).map(|step| step.due).min()
    }

    /// Returns what can be seen of the steps, in the order of the definition.
    pub fn steps(&self, definition: &Definition) -> impl Iterator<Item = StepView> {
        definition.steps().iter().zip(&self.steps).map(|(definition, step)| StepView {
            name: definition.name.clone(),
            state: step.state,
            attempt: step.attempt.number,
            due: step.state.has_timer().then_some(step.due),
        })
    }

    /// Turns the progress into what a commit stores.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the data cannot be encoded.
    pub fn encode(&self, definition: &Definition) -> Result<Bytes, CodecError> {
        let reached = definition.steps().iter().zip(&self.steps);
        let state = wire::SagaState {
            data: definition.encode_data(&self.data)?.0,
            steps: reached
                .filter(|(_, step)| step.state != StepState::Ahead)
                .map(|(definition, step)| step.to_wire(definition))
                .collect(),
            parked: self.parked.as_ref().map(Failure::to_wire),
            cause_step: self.cause.step.as_ref().map(ToString::to_string).unwrap_or_default(),
            traceparent: self.origin.traceparent.clone().unwrap_or_default(),
            cause: self.cause.code.clone(),
            correlation_id: self.origin.correlation.to_string(),
            causation_id: self.origin.causation.map(|id| id.to_string()).unwrap_or_default(),
            compensating: self.direction == Direction::Backward,
        };
        Ok(state.encode_to_vec().into())
    }

    /// Reads back what a commit stored.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the bytes are damaged, or belong to another definition.
    pub fn decode(
        definition: &Definition,
        saga: SagaId,
        status: Status,
        bytes: Bytes,
    ) -> Result<Self, StateError> {
        let state = wire::SagaState::decode(bytes).map_err(StateError::Undecodable)?;
        let mut steps: Vec<_> = definition.steps().iter().map(StepProgress::new).collect();
        for step in &state.steps {
            let index = definition
                .step_index(&step.name)
                .ok_or_else(|| StateError::UnknownStep(step.name.clone()))?;
            steps[index] = StepProgress::from_wire(step)?;
            if !definition.steps()[index].can_be(steps[index].state) {
                return Err(StateError::Value("state"));
            }
        }
        Ok(Self {
            saga,
            direction: match status {
                Status::Completed => Direction::Completed,
                Status::Compensated => Direction::Compensated,
                Status::Running | Status::Compensating | Status::Parked => {
                    if state.compensating {
                        Direction::Backward
                    } else {
                        Direction::Forward
                    }
                }
            },
            parked: state.parked.map(Failure::from_wire),
            cause: Cause { step: StepName::parse(&state.cause_step).ok(), code: state.cause },
            origin: Origin {
                correlation: CorrelationId::new(state.correlation_id)
                    .map_err(|_| StateError::Value("correlation_id"))?,
                causation: state.causation_id.parse().ok(),
                traceparent: Some(state.traceparent).filter(|text| !text.is_empty()),
            },
            data: definition.decode_data(&state.data).map_err(StateError::Data)?,
            steps,
        })
    }
}

/// Parks a saga whose definition is not known: only what every definition has in common is touched.
pub(crate) fn parked_without_definition(
    bytes: Bytes,
    failure: &Failure,
) -> Result<Bytes, prost::DecodeError> {
    let mut state = wire::SagaState::decode(bytes)?;
    state.parked = Some(failure.to_wire());
    Ok(state.encode_to_vec().into())
}

impl StepDefinition {
    /// Returns true if a step of this definition can ever stand here.
    const fn can_be(&self, state: StepState) -> bool {
        match state {
            StepState::Ahead | StepState::Skipped | StepState::Succeeded => true,
            StepState::Waiting => self.wait.is_some(),
            StepState::Outstanding
            | StepState::Delayed
            | StepState::Refused
            | StepState::Unknown
            | StepState::Failed => self.action.is_some(),
            StepState::Compensating
            | StepState::CompensationDelayed
            | StepState::Compensated
            | StepState::CompensationFailed => self.compensation.is_some(),
        }
    }
}

impl Attempt {
    pub(super) const FIRST: Self = Self { number: 1, before: 0 };

    pub(super) const fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }

    /// Returns the next one, as if it were the first.
    pub(super) const fn anew(self) -> Self {
        Self { number: self.number.saturating_add(1), before: self.number }
    }

    /// Returns how many attempts count.
    pub(super) const fn counted(self) -> u32 {
        self.number.saturating_sub(self.before)
    }
}

impl StepProgress {
    /// What was done before the saga started counts as succeeded from the beginning.
    fn new(definition: &StepDefinition) -> Self {
        let state = match definition.kind {
            StepKind::Prior => StepState::Succeeded,
            StepKind::Compensable | StepKind::Pivot | StepKind::Retriable | StepKind::Wait => {
                StepState::Ahead
            }
        };
        Self {
            state,
            attempt: Attempt::default(),
            due: Timestamp::default(),
            command: MessageId(Uuid::nil()),
            succeeded: state == StepState::Succeeded,
            refused: false,
        }
    }

    /// Returns true if the forward command was sent at least once.
    pub(super) const fn was_sent(&self) -> bool {
        !self.command.0.is_nil()
    }

    fn to_wire(self, definition: &StepDefinition) -> wire::StepState {
        let mut step = wire::StepState {
            name: definition.name.to_string(),
            attempt: self.attempt.number,
            attempts_before: self.attempt.before,
            succeeded: self.succeeded,
            refused: self.refused,
            due_us: if self.state.has_timer() { self.due.as_micros() } else { 0 },
            ..wire::StepState::default()
        };
        step.set_state(self.state.to_wire());
        if self.was_sent() {
            step.command = Bytes::copy_from_slice(self.command.as_bytes());
        }
        step
    }

    fn from_wire(step: &wire::StepState) -> Result<Self, StateError> {
        let state = wire::step_state::State::try_from(step.state)
            .map_err(|_| StateError::Value("state"))?;
        let command = match step.command.len() {
            0 => Uuid::nil(),
            _ => Uuid::from_slice(&step.command).map_err(|_| StateError::Value("command"))?,
        };
        Ok(Self {
            state: StepState::from_wire(state),
            attempt: Attempt { number: step.attempt, before: step.attempts_before },
            due: Timestamp::from_micros(step.due_us),
            command: MessageId(command),
            succeeded: step.succeeded,
            refused: step.refused,
        })
    }
}

impl Failure {
    fn to_wire(&self) -> wire::Failure {
        wire::Failure {
            step: self.step.as_ref().map(ToString::to_string).unwrap_or_default(),
            code: self.code.clone(),
            message: self.message.clone(),
        }
    }

    fn from_wire(failure: wire::Failure) -> Self {
        Self {
            step: StepName::parse(&failure.step).ok(),
            code: failure.code,
            message: failure.message,
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data may hold what must not reach a log.
        f.debug_struct("Progress")
            .field("saga", &self.saga)
            .field("status", &self.status())
            .field("steps", &self.steps.iter().map(|step| step.state).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
