//! The engine's error, and what is kept of causes that this crate does not know.

use std::any::Any;

use crate::{DefinitionError, SagaId, SagaName, StoreError, TransportError};

/// A cause from outside this crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why the engine, a participant or a relay could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not be used. [`StoreError::is_transient`] tells whether to try again.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The transport could not be used. [`TransportError::is_transient`] tells whether to try again.
    #[error("the transport failed")]
    Transport(#[from] TransportError),
    /// What was put together does not fit together. Change the program.
    #[error("the definition is not usable")]
    Definition(#[from] DefinitionError),
    /// No saga of this name is registered for this type of data. Register it with `EngineBuilder::saga`.
    #[error("no saga `{name}` with this type of data is registered")]
    UnknownDefinition {
        /// The name that was asked for.
        name: SagaName,
    },
    /// There is no saga with this id. It was never accepted, or retention removed it.
    #[error("there is no saga {saga}")]
    UnknownSaga {
        /// The id that was asked for.
        saga: SagaId,
    },
    /// The action is not safe where the saga stands now; nothing was changed.
    #[error("saga {saga} refuses: {reason}")]
    Refused {
        /// The saga that was asked.
        saga: SagaId,
        /// Why, in plain words.
        reason: &'static str,
    },
    /// The engine is shutting down, or has stopped. Ask another one.
    #[error("the engine has stopped")]
    Stopped,
}

impl Error {
    /// Returns true if the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Transport(error) => error.is_transient(),
            Self::Definition(_)
            | Self::UnknownDefinition { .. }
            | Self::UnknownSaga { .. }
            | Self::Refused { .. }
            | Self::Stopped => false,
        }
    }
}

/// Returns what a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
