//! A definition without its types: what the machine and the engine read.

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::{
    Cause, CodecError, MessageType, ParticipantName, Payload, RetryPolicy, SagaName, StepName,
};

/// The data of one saga, its type known only to its definition.
pub(crate) type Data = Box<dyn Any + Send + Sync>;

type DataRef<'a> = &'a (dyn Any + Send + Sync);
type DataMut<'a> = &'a mut (dyn Any + Send + Sync);

/// Looks something up in the data.
type Read<T> = Box<dyn Fn(DataRef<'_>) -> T + Send + Sync>;
/// Makes a command from the data, and from the cause if it undoes something.
type Build = Box<dyn Fn(DataRef<'_>, &Cause) -> Result<Payload, CodecError> + Send + Sync>;
/// Takes a reply into the data.
type Fold = Box<dyn Fn(DataMut<'_>, &Payload) -> Result<(), CodecError> + Send + Sync>;

/// Reads data of an older type and turns it into today's.
pub(super) type Upcast = Box<dyn Fn(&[u8]) -> Result<Data, CodecError> + Send + Sync>;

/// A saga definition as the machine reads it: stages of steps, with the data's type erased.
pub struct Definition {
    pub(super) name: SagaName,
    pub(super) version: u32,
    pub(super) fingerprint: u64,
    pub(super) steps: Vec<StepDefinition>,
    pub(super) data: DataType,
}

/// How the data of a definition is stored.
pub(super) struct DataType {
    pub(super) id: TypeId,
    pub(super) encode: fn(DataRef<'_>) -> Result<Payload, CodecError>,
    pub(super) decode: fn(&[u8]) -> Result<Data, CodecError>,
    /// For data of older types, newest first.
    pub(super) upcasts: Vec<Upcast>,
}

/// One step; steps of equal `stage` run in parallel.
pub(crate) struct StepDefinition {
    pub(crate) name: StepName,
    pub(crate) stage: usize,
    pub(crate) kind: StepKind,
    pub(crate) condition: Option<Read<bool>>,
    /// What is asked for; `None` if the step was done before the saga started, or waits.
    pub(crate) action: Option<Action>,
    pub(crate) compensation: Option<Action>,
    /// How long to wait; `None` if the step asks for something.
    pub(crate) wait: Option<Read<Duration>>,
}

/// What a step means for the saga's way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StepKind {
    /// Was done before the saga started; only its compensation is ours.
    Prior,
    /// Can be undone.
    Compensable,
    /// The step after which the saga only goes forward.
    Pivot,
    /// Stands after the pivot: retried until it succeeds, never undone.
    Retriable,
    /// Waits for a time; there is nothing to undo.
    Wait,
}

/// A command of a step, without its type.
pub(crate) struct Action {
    pub(crate) participant: ParticipantName,
    pub(crate) message_type: MessageType,
    pub(crate) reply_type: MessageType,
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Duration,
    pub(crate) build: Build,
    pub(crate) fold: Fold,
}

impl Definition {
    /// Returns the stored name.
    #[must_use]
    pub const fn name(&self) -> &SagaName {
        &self.name
    }

    /// Returns the version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns a number that changes when steps are added, removed, renamed, moved or sent elsewhere.
    ///
    /// It is stored with each saga, so that a definition that was changed without a new version is noticed.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns the names of the steps, in order.
    pub fn step_names(&self) -> impl Iterator<Item = &StepName> {
        self.steps.iter().map(|step| &step.name)
    }

    /// Returns true for a step that was done before the saga started, so that only
    /// its [compensation](crate::SagaBuilder::compensation) is part of it.
    #[must_use]
    pub fn is_compensation_only(&self, step: &StepName) -> bool {
        self.step(step).is_some_and(|step| step.kind == StepKind::Prior)
    }

    /// Returns how long an answer to a step's command is waited for; nothing for what only waits or is only compensated.
    #[must_use]
    pub fn deadline(&self, step: &StepName) -> Option<Duration> {
        self.step(step)?.action.as_ref().map(|action| action.deadline)
    }

    /// Returns how long an answer to a step's compensation is waited for; nothing if it has none.
    #[must_use]
    pub fn compensation_deadline(&self, step: &StepName) -> Option<Duration> {
        self.step(step)?.compensation.as_ref().map(|compensation| compensation.deadline)
    }

    fn step(&self, name: &StepName) -> Option<&StepDefinition> {
        self.steps.iter().find(|step| step.name == *name)
    }

    /// Returns the participants that the saga asks, each once.
    #[must_use]
    pub fn participants(&self) -> BTreeSet<&ParticipantName> {
        self.commands().map(|(participant, _)| participant).collect()
    }

    /// Returns the participants and commands that sagas of this definition send, compensations included.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&ParticipantName, &MessageType)> {
        self.steps
            .iter()
            .flat_map(|step| step.action.iter().chain(&step.compensation))
            .map(|action| (&action.participant, &action.message_type))
    }

    pub(crate) fn steps(&self) -> &[StepDefinition] {
        &self.steps
    }

    pub(crate) fn step_index(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name.as_str() == name)
    }

    pub(crate) fn has_data_of(&self, data: TypeId) -> bool {
        self.data.id == data
    }

    pub(crate) fn encode_data(&self, data: &Data) -> Result<Payload, CodecError> {
        (self.data.encode)(&**data)
    }

    pub(crate) fn decode_data(&self, bytes: &[u8]) -> Result<Data, CodecError> {
        let decoded = (self.data.decode)(bytes);
        decoded.or_else(|error| {
            // What no older type knows either is told in the words of today's.
            self.data.upcasts.iter().find_map(|upcast| upcast(bytes).ok()).ok_or(error)
        })
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("steps", &self.steps.iter().map(|step| &step.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
