//! Contract: messages that are durable and not yet sent.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::{OutboxId, ParticipantName, StoreError};

/// Messages that were committed together with the state that they follow from.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::store`:
///
/// - `unsent_rows_come_back_in_order`: per lane, in the order of their ids.
/// - `lanes_are_separate`.
/// - `sent_rows_are_gone_and_only_those`: a row that was never named in `sent` stays for ever.
/// - `a_lease_has_one_holder`: until it ends or is released; the holder may renew it.
pub trait Outbox: Send + Sync + 'static {
    /// Reads what is left in some lanes, at most `limit` rows: lane by lane, and in a lane in the order
    /// that its rows were appended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn unsent(
        &self,
        lanes: &[Lane],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Deletes rows whose records the broker has acknowledged. Rows that are gone already are no error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the rows may or may not be gone, and the call can be repeated.
    fn sent(&self, rows: &[OutboxId]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes or renews the right to publish a lane for `duration` from now, by the store's clock.
    ///
    /// Returns false if another holder has it. `Duration::ZERO` releases what `holder` has. The right
    /// only keeps two relays from doing the same work: both publishing would double messages, which
    /// receivers drop, and lose none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// An ordered stream of outbox rows with one writer at a time: an input partition of a service, or
/// what applications enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    owner: ParticipantName,
    number: u32,
}

impl Lane {
    /// The lane of a service's input partition.
    #[must_use]
    pub const fn new(owner: ParticipantName, number: u32) -> Self {
        Self { owner, number }
    }

    /// The lane of what applications enqueue in their own transactions; a [`Relay`](crate::Relay) sends it.
    #[must_use]
    pub const fn application() -> Self {
        Self { owner: ParticipantName::new("application"), number: 0 }
    }

    /// Returns the service whose lane this is.
    #[must_use]
    pub const fn owner(&self) -> &ParticipantName {
        &self.owner
    }

    /// Returns the number of the input partition.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.number)
    }
}

/// Records that were appended to a lane together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Names the row; made before it is stored.
    pub id: OutboxId,
    /// The lane that it is appended to.
    pub lane: Lane,
    /// The records, encoded.
    pub body: Bytes,
}
