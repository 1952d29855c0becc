//! Why parts do not make a definition.

use crate::{MessageType, ParticipantName, SagaName, StepName};

/// Why parts do not make a definition, or definitions and handlers no engine or participant.
///
/// Each is a mistake in the program and shows when the program starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// Two steps of one saga have one name. Rename one.
    #[error("saga `{saga}` has two steps named `{step}`")]
    DuplicateStep {
        /// The saga.
        saga: SagaName,
        /// The name that is there twice.
        step: StepName,
    },
    /// A saga without a step that does something. Add one.
    #[error("saga `{saga}` has no step")]
    NoSteps {
        /// The saga.
        saga: SagaName,
    },
    /// A group of parallel steps without a step. Add one or leave the group out.
    #[error("saga `{saga}` has an empty group of parallel steps")]
    EmptyGroup {
        /// The saga.
        saga: SagaName,
    },
    /// More steps than a saga may have.
    #[error("saga `{saga}` has {steps} steps; at most {max} are allowed")]
    TooManySteps {
        /// The saga.
        saga: SagaName,
        /// How many it has.
        steps: usize,
        /// How many it may have.
        max: usize,
    },
    /// A setting such as a deadline stands before the first step, or after something it does not apply to.
    #[error(
        "saga `{saga}`: `.{setting}(..)` applies to the step before it, and there is none that has it"
    )]
    MisplacedSetting {
        /// The saga.
        saga: SagaName,
        /// The setting.
        setting: &'static str,
    },
    /// Two definitions with one name and version. Give the changed one a new version.
    #[error("saga `{saga}` is registered twice in version {version}")]
    DuplicateDefinition {
        /// The saga.
        saga: SagaName,
        /// The version.
        version: u32,
    },
    /// Two handlers for one type of command or fact.
    #[error("participant `{participant}` has two handlers for `{message}`")]
    DuplicateHandler {
        /// The participant.
        participant: ParticipantName,
        /// The type of the message.
        message: MessageType,
    },
    /// A handler for a command that belongs to another participant.
    #[error("`{command}` is a command for `{expected}`, not for `{participant}`")]
    ForeignCommand {
        /// The participant that was given the handler.
        participant: ParticipantName,
        /// The type of the command.
        command: MessageType,
        /// The participant that the command belongs to.
        expected: ParticipantName,
    },
    /// A local participant that has no handler for a command that a saga sends it.
    #[error(
        "saga `{saga}` sends `{command}` to the local participant `{participant}`, which has no handler for it"
    )]
    MissingHandler {
        /// The saga.
        saga: SagaName,
        /// The participant.
        participant: ParticipantName,
        /// The type of the command.
        command: MessageType,
    },
    /// A local participant that handles facts, which never reach it: it has no consumer group. Start one with
    /// that handler on a transport, under a name of its own.
    #[error(
        "the local participant `{participant}` handles the fact `{fact}`, which only reaches one that is started on a transport, under a name of its own"
    )]
    LocalFact {
        /// The participant.
        participant: ParticipantName,
        /// The type of the fact.
        fact: MessageType,
    },
    /// A fact that is to start a saga that is not registered.
    #[error("`{fact}` is to start saga `{saga}`, which is not registered")]
    UnknownSaga {
        /// The type of the fact.
        fact: MessageType,
        /// The saga.
        saga: SagaName,
    },
    /// A saga that sends commands to other services, in an engine without a transport.
    #[error(
        "saga `{saga}` sends commands to `{participant}`, but the engine has neither a transport nor that participant"
    )]
    NoTransport {
        /// The saga.
        saga: SagaName,
        /// The participant.
        participant: ParticipantName,
    },
}
