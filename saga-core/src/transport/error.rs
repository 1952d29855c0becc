//! Why a transport could not do what it was asked.

use crate::Topic;
use crate::error::BoxError;

/// Why a transport could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The broker cannot be reached or is not ready right now. Retry with backoff.
    #[error("transport is unavailable during {operation}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
    /// The topic does not exist. Create it with [`Transport::ensure_topics`](crate::Transport::ensure_topics).
    #[error("topic `{topic}` does not exist")]
    UnknownTopic {
        /// The topic that was asked for.
        topic: Topic,
    },
    /// The publisher has failed and takes nothing more. Make a new one and publish again what was not acknowledged.
    #[error("publisher has failed during {operation}")]
    PublisherFailed {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
    /// The broker refuses the record, and would again. A person must look.
    #[error("topic `{topic}` refuses the record")]
    Refused {
        /// The topic that the record was for.
        topic: Topic,
        /// What the driver said.
        source: BoxError,
    },
    /// A setting is wrong. Change the configuration.
    #[error("transport configuration is wrong: {reason}")]
    Configuration {
        /// Which setting, and what to do.
        reason: String,
    },
    /// The stored offset of the group is not on the topic any more; going on would skip records.
    /// A person must decide where to go on.
    #[error("the offset stored for partition {partition} of `{topic}` is out of range")]
    OffsetOutOfRange {
        /// The topic.
        topic: Topic,
        /// The number of the partition.
        partition: u32,
    },
}

impl TransportError {
    /// Returns true if the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            // A failed publisher is gone for good, and its successor may do better; topics can be
            // created meanwhile.
            Self::Unavailable { .. } | Self::PublisherFailed { .. } | Self::UnknownTopic { .. } => {
                true
            }
            Self::Refused { .. } | Self::Configuration { .. } | Self::OffsetOutOfRange { .. } => {
                false
            }
        }
    }
}
