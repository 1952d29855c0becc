//! Identifiers: who is who, what led to what, and what makes an effect happen once.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::Timestamp;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id that sorts after those made before it in this process (UUID version 7).
            #[must_use]
            pub fn now() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns the 16 bytes of this id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

/// Where FNV-1a begins.
pub(crate) const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with FNV-1a. What comes of it is stored, so it never changes.
pub(crate) fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(hash, add)
}

/// Returns the lowest id of a time: ids that were made before it sort before this one.
pub(crate) fn first_at(time: Timestamp) -> Uuid {
    let millis = u64::try_from(time.as_micros() / 1_000).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

/// Returns when an id was made, to the millisecond; 1970 if it was not made from the time.
pub(crate) fn made_at(id: Uuid) -> Timestamp {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
    Timestamp::default() + Duration::new(seconds, nanos)
}

uuid_id!(
    /// One run of a saga.
    ///
    /// ```
    /// use saga_core::SagaId;
    /// let saga = SagaId::now();
    /// assert_eq!(saga.to_string().parse(), Ok(saga));
    /// ```
    SagaId
);
uuid_id!(
    /// One message. The id of a command is made once per saga, step and direction and kept over
    /// its retries, so it is also what the inbox of a participant recognises a duplicate by.
    MessageId
);
uuid_id!(
    /// One row of an outbox.
    OutboxId
);

/// Longest [`IdempotencyKey`] and [`CorrelationId`], in bytes.
pub const KEY_BYTES_MAX: usize = 255;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the text and wraps it.
            ///
            /// # Errors
            ///
            /// [`InvalidKey`] if the text is empty, longer than [`KEY_BYTES_MAX`] bytes, or holds a
            /// control character.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
                let text = text.into();
                if text.is_empty() || text.len() > KEY_BYTES_MAX || text.chars().any(char::is_control) {
                    return Err(InvalidKey { kind: $kind });
                }
                Ok(Self(text))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<SagaId> for $name {
            fn from(id: SagaId) -> Self {
                Self(id.to_string())
            }
        }

        impl From<MessageId> for $name {
            fn from(id: MessageId) -> Self {
                Self(id.to_string())
            }
        }
    };
}

text_id!(
    /// Makes one effect happen once: two uses of the same key are the same request.
    ///
    /// A saga that is started twice under one key starts once. A handler that calls another
    /// system passes the key of its command on, so that the other system can tell a retry.
    IdempotencyKey,
    "idempotency key"
);
text_id!(
    /// The whole business operation that a message belongs to.
    CorrelationId,
    "correlation id"
);

/// A text that cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: it has 1 to {KEY_BYTES_MAX} bytes and no control characters")]
pub struct InvalidKey {
    kind: &'static str,
}
