//! What a step asks for: made anew whenever it is sent, and the same every time.

use uuid::Uuid;

use crate::definition::{Action, StepDefinition};
use crate::machine::progress::{Attempt, StepProgress};
use crate::machine::{OutgoingCommand, Progress};
use crate::{CodecError, MessageId, SagaId, StepName};

impl Progress {
    /// Makes the command of a step.
    pub(super) fn command(
        &self,
        definition: &StepDefinition,
        attempt: Attempt,
    ) -> Result<OutgoingCommand, CodecError> {
        let action = definition.action();
        Ok(OutgoingCommand {
            id: command_id(self.saga, &definition.name),
            step: definition.name.clone(),
            participant: action.participant.clone(),
            message_type: action.message_type.clone(),
            payload: (action.build)(&*self.data, &self.cause)?,
            attempt: attempt.number,
            attempts_before: attempt.before,
            compensates: None,
            succeeded: false,
        })
    }

    /// Makes the command that undoes a step.
    pub(super) fn compensation(
        &self,
        definition: &StepDefinition,
        step: &StepProgress,
        attempt: Attempt,
    ) -> Result<OutgoingCommand, CodecError> {
        let action = definition.compensation();
        Ok(OutgoingCommand {
            id: compensation_id(self.saga, &definition.name),
            step: definition.name.clone(),
            participant: action.participant.clone(),
            message_type: action.message_type.clone(),
            payload: (action.build)(&*self.data, &self.cause)?,
            attempt: attempt.number,
            attempts_before: attempt.before,
            compensates: step.was_sent().then_some(step.command),
            succeeded: step.succeeded,
        })
    }
}

impl StepDefinition {
    pub(super) fn action(&self) -> &Action {
        self.action.as_ref().expect("a step is only in states that its definition allows")
    }

    pub(super) fn compensation(&self) -> &Action {
        self.compensation.as_ref().expect("a step is only in states that its definition allows")
    }
}

/// Returns the id of a step's command: derived, so that it is made once however often it is decided.
///
/// The derivation is part of the stored format: a running saga meets the same id again after an upgrade.
pub(super) fn command_id(saga: SagaId, step: &StepName) -> MessageId {
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
