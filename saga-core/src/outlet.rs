//! Publishes committed outbox rows in order, and again after a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::policy::retry::Backoff;
use crate::store::{OutboxRow, StoreError};
use crate::transport::erased::{DynPublisher, DynTransport};
use crate::transport::{Receipt, Record, TransportError};
use crate::{OutboxId, Timestamp, Topic};

/// How long to wait before a failed publisher is replaced.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// Most bytes that may be on their way to the broker before nothing more is taken on.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most rows that are read back at once; what is left is found by the next search for forgotten rows.
pub(crate) const LEFT_MAX: usize = 10_000;

/// How long one that has nothing to commit waits before it deletes what it has sent.
pub(crate) const TIDY_AFTER: Duration = Duration::from_millis(200);

/// How long a shutdown waits for the broker.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Rows on their way to the broker, in the order that they were committed.
///
/// A row leaves only when the broker has acknowledged it. After a failure the publisher is
/// replaced and everything that is left is published again, in order: nothing overtakes.
pub(crate) struct Outlet {
    transport: Arc<dyn DynTransport>,
    publisher: Option<Arc<dyn DynPublisher>>,
    rows: VecDeque<Row>,
    bytes: usize,
    acknowledged: Vec<OutboxId>,
    failures: u32,
    /// When a failed publisher may be replaced: a point in time, so that a dropped wait goes on.
    retry_at: Option<Instant>,
}

struct Row {
    id: OutboxId,
    records: Vec<Record>,
    bytes: usize,
    receipt: Option<Receipt>,
}

impl Outlet {
    pub(crate) fn new(transport: Arc<dyn DynTransport>) -> Self {
        Self {
            transport,
            publisher: None,
            rows: VecDeque::new(),
            bytes: 0,
            acknowledged: Vec::new(),
            failures: 0,
            retry_at: None,
        }
    }

    /// Puts a committed row in line.
    pub(crate) fn push(&mut self, id: OutboxId, records: Vec<Record>) {
        let bytes = records.iter().map(|record| record.value.len() + 128).sum();
        let receipt = self.publisher.as_ref().map(|publisher| publisher.publish(records.clone()));
        self.bytes += bytes;
        self.rows.push_back(Row { id, records, bytes, receipt });
    }

    /// Puts rows of the outbox in line; one that cannot be read stays where it is.
    pub(crate) fn push_rows(&mut self, rows: Vec<OutboxRow>) {
        for row in rows {
            match row.records() {
                Ok(records) => self.push(row.id, records),
                Err(error) => {
                    warn!(row = %row.id, lane = %row.lane, %error, "outbox row cannot be read; it stays in the outbox");
                }
            }
        }
    }

    /// Returns true if the row is on its way or was sent and is still to be deleted.
    pub(crate) fn holds(&self, id: OutboxId) -> bool {
        self.acknowledged.contains(&id) || self.rows.iter().any(|row| row.id == id)
    }

    /// Returns false while the broker takes nothing and enough waits for it.
    pub(crate) const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Returns true if everything is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the number of rows that are on their way or still to be deleted.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.acknowledged.len()
    }

    /// Returns true if rows wait to be deleted.
    pub(crate) fn has_acknowledged(&self) -> bool {
        !self.acknowledged.is_empty()
    }

    /// Puts rows that an earlier owner of their lane left in line, unless they are there already.
    pub(crate) fn republish(&mut self, mut rows: Vec<OutboxRow>) {
        rows.retain(|row| !self.holds(row.id));
        if !rows.is_empty() {
            info!(rows = rows.len(), "publishing what was left in the outbox");
        }
        self.push_rows(rows);
    }

    /// Puts those rows in line that an earlier owner of their lane committed after we had looked, then died.
    pub(crate) fn republish_forgotten(
        &mut self,
        unsent: Result<Vec<OutboxRow>, StoreError>,
        now: Timestamp,
    ) {
        match unsent {
            Ok(mut rows) => {
                rows.retain(|row| row.is_forgotten(now));
                self.republish(rows);
            }
            Err(error) => warn!(%error, "the outbox cannot be read; trying again"),
        }
    }

    /// Notes whether the rows of [`take_acknowledged`](Self::take_acknowledged) were deleted; if not, they are kept for later.
    pub(crate) fn deleted(&mut self, rows: Vec<OutboxId>, result: Result<(), StoreError>) {
        if let Err(error) = result {
            warn!(
                error = &error as &dyn std::error::Error,
                "sent outbox rows cannot be deleted; trying again later"
            );
            self.put_back_acknowledged(rows);
        }
    }

    /// Takes note of all that the broker has acknowledged by now, without waiting.
    pub(crate) fn collect(&mut self) {
        while self.progress().now_or_never().is_some() {}
    }

    /// Waits until the broker has everything, at most 5 s.
    pub(crate) async fn drain(&mut self) {
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            while !self.is_empty() {
                self.progress().await;
            }
        });
        if drained.await.is_err() {
            warn!(
                rows = self.rows.len(),
                "the broker did not take everything in time; the next owner of the lanes publishes it"
            );
        }
    }

    /// Returns the rows that the broker has since acknowledged; they can be deleted.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<OutboxId> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Takes back rows that could not be deleted yet.
    pub(crate) fn put_back_acknowledged(&mut self, rows: Vec<OutboxId>) {
        self.acknowledged.extend(rows);
    }

    /// Returns the number of partitions of a topic.
    pub(crate) async fn partitions(&mut self, topic: &Topic) -> Result<u32, TransportError> {
        self.publisher().await?.partitions(topic).await
    }

    /// Waits until the broker acknowledges the row at the front; replaces the publisher if it has failed.
    ///
    /// Never returns while there is nothing to wait for. May be dropped and called again at any time.
    pub(crate) async fn progress(&mut self) {
        if self.rows.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Err(error) = self.front_acknowledged().await {
            warn!(
                rows = self.rows.len(),
                error = &error as &dyn std::error::Error,
                "publishing failed; a new publisher will publish again what was not acknowledged"
            );
            self.publisher = None;
            self.rows.iter_mut().for_each(|row| row.receipt = None);
            self.failures += 1;
            self.retry_at = Some(Instant::now() + BACKOFF.delay(self.failures, 0));
        }
    }

    async fn front_acknowledged(&mut self) -> Result<(), TransportError> {
        self.publisher().await?;
        let front = self.rows.front_mut().expect("the caller saw a row");
        front.receipt.as_mut().expect("a publisher has taken every row").await?;
        // No await from here on: a dropped call must not lose what the receipt said.
        let front = self.rows.pop_front().expect("the caller saw a row");
        self.bytes -= front.bytes;
        self.acknowledged.push(front.id);
        self.failures = 0;
        Ok(())
    }

    /// Returns the publisher; a new one first takes everything that is left.
    async fn publisher(&mut self) -> Result<&Arc<dyn DynPublisher>, TransportError> {
        if self.publisher.is_none() {
            if let Some(retry_at) = self.retry_at {
                tokio::time::sleep_until(retry_at).await;
            }
            let publisher = self.transport.publisher().await?;
            for row in &mut self.rows {
                row.receipt = Some(publisher.publish(row.records.clone()));
            }
            self.publisher = Some(publisher);
        }
        Ok(self.publisher.as_ref().expect("it was just made"))
    }
}
