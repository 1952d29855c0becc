//! Why a store could not do what it was asked.

use crate::SagaId;
use crate::error::BoxError;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another engine, participant or start came first; nothing was written. Reload and decide again.
    #[error("another writer committed first")]
    Conflict,
    /// The store cannot be reached right now, or gave up for a passing reason. Retry with backoff.
    #[error("store is unavailable during {operation}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
    /// The store refuses the data, and would again. Take the data apart to find what it refuses.
    #[error("store refuses the data during {operation}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
    /// What is stored cannot be read back. Retrying will not help; a person must look.
    #[error("stored state of saga {saga} cannot be decoded")]
    Corrupt {
        /// The saga that it belongs to.
        saga: SagaId,
        /// What the decoder said.
        source: BoxError,
    },
    /// The store is not set up for this program. Change the configuration or run the migrations.
    #[error("store is not usable: {reason}")]
    Configuration {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A person wants something done and does not say who they are and why, which goes on record. Nothing was done.
    #[error("say who asks for {operation} and why: both go on record")]
    Unexplained {
        /// What was asked for.
        operation: &'static str,
    },
}

impl StoreError {
    /// Returns true if the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Conflict | Self::Unavailable { .. } => true,
            Self::Refused { .. }
            | Self::Corrupt { .. }
            | Self::Configuration { .. }
            | Self::Unexplained { .. } => false,
        }
    }
}
