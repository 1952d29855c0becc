//! A store that tells the scene what participants put on record.

use std::collections::HashSet;
use std::time::Duration;

use saga_core::message::Envelope;
use saga_core::participant::{Handled, Remembered};
use saga_core::store::{Lane, OutboxRow, Transactional};
use saga_core::{Inbox, MessageId, Outbox, OutboxId, StoreError};

use super::scene::Scene;

/// A participants' store that is watched.
#[derive(Debug, Clone)]
pub(super) struct Witness<S> {
    inner: S,
    scene: Scene,
}

impl<S> Witness<S> {
    pub(super) fn new(inner: S, scene: &Scene) -> Self {
        Self { inner, scene: scene.clone() }
    }
}

impl<S: Transactional> Transactional for Witness<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<S::Transaction, StoreError> {
        self.inner.begin().await
    }

    fn connection(transaction: &mut S::Transaction) -> &mut S::Connection {
        S::connection(transaction)
    }
}

impl<S: Outbox> Outbox for Witness<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.unsent(lanes, bytes).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.sent(rows).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.lease(lane, holder, duration).await
    }
}

impl<S: Inbox> Inbox for Witness<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.inner.recorded(transaction, commands).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        let mut settled: HashSet<_> = handled.records.iter().map(|record| record.command).collect();
        let replies: Vec<_> = handled.outbox.iter().flat_map(replies).collect();
        self.inner.record(transaction, handled).await?;
        for reply in replies {
            // One that came twice in a batch is on record once, and answered twice.
            if reply.causation.is_some_and(|command| settled.remove(&command)) {
                self.scene.carried(&reply);
            }
        }
        Ok(())
    }
}

fn replies(row: &OutboxRow) -> Vec<Envelope> {
    let records = row.records().unwrap_or_default();
    records.into_iter().filter_map(|record| Envelope::decode(record.value).ok()).collect()
}
