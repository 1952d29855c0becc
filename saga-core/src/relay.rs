//! Outbox to broker: publishes what applications enqueue in their own transactions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span, warn};

use crate::outlet::{Outlet, PAGE};
use crate::stopping;
use crate::store::{Lane, Outbox, StoreError};
use crate::transport::Transport;
use crate::transport::erased::Erased;
use crate::{Error, OutboxId};

/// How long a relay that says nothing keeps others from publishing.
const LEASE: Duration = Duration::from_secs(10);

/// Moves messages from the application's outbox to the broker, at least once and in order.
///
/// A service stores a message in the transaction that makes it true ([`OutboxRow::fact`](crate::store::OutboxRow::fact),
/// and the store's way to enqueue it); the relay publishes it and deletes it once the broker has
/// acknowledged it. A crash in between publishes a message twice; the receiver drops the second
/// copy. One relay of a store is at work at a time; the others stand by for its lease to end.
/// (The *transactional outbox*: Richardson, *Microservices Patterns*, 2018.)
///
/// # Examples
///
/// ```
/// # use saga_core::*;
/// # use saga_core::store::OutboxRow;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct OrderCreated { order: String }
/// # impl Message for OrderCreated { const TYPE: MessageType = MessageType::new("OrderCreated"); type Codec = Json; }
/// # impl Fact for OrderCreated { const SOURCE: ParticipantName = ParticipantName::new("orders"); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use saga_core::store::Transactional as _;
/// let (store, transport) = (MemoryStore::new(), MemoryTransport::new());
/// transport.ensure_topics(&[OrderCreated::SOURCE.events()]).await?;
/// let relay = Relay::start(store.clone(), transport);
///
/// let mut transaction = store.begin().await?;
/// // ... write the order through the same transaction ...
/// let fact = OrderCreated { order: "o-1".into() };
/// MemoryStore::connection(&mut transaction).enqueue(OutboxRow::fact(&fact, "o-1")?);
/// transaction.commit().await;
/// relay.wake();
/// # Ok(()) }
/// ```
#[must_use = "a relay that is dropped stops"]
pub struct Relay {
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts to publish what applications enqueue in this store, looking for more every 100 ms.
    pub fn start(store: impl Outbox, transport: impl Transport) -> Self {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let worker = Worker {
            store,
            outlet: Outlet::new(Arc::new(Erased(transport)), Lane::application().owner()),
            holder: OutboxId::now(),
            renew_at: Instant::now(),
            poll: Duration::from_millis(100),
            wake: Arc::clone(&wake),
            stop: stop.clone(),
        };
        let task = tokio::spawn(worker.run().instrument(info_span!("relay")));
        Self { wake, stop, task }
    }

    /// Says that something was enqueued and committed, so that the relay looks at once. Never blocks.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns what [`wake`](Self::wake) does as a value that handlers can keep.
    #[must_use]
    pub fn waker(&self) -> RelayWaker {
        RelayWaker(Arc::clone(&self.wake))
    }

    /// Publishes what it has in hand (waits at most 3 s for the broker) and stops, within 10 s.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if it had died.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.cancel();
        (&mut self.task).await.map_err(|_| Error::Stopped)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Tells a [`Relay`] that something was enqueued. Clones tell the same relay.
#[derive(Debug, Clone)]
pub struct RelayWaker(Arc<Notify>);

impl RelayWaker {
    /// Says that something was enqueued and committed. Never blocks.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

struct Worker<S> {
    store: S,
    outlet: Outlet,
    holder: OutboxId,
    renew_at: Instant,
    poll: Duration,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl<S: Outbox> Worker<S> {
    async fn run(mut self) {
        let (lane, stop) = (Lane::application(), self.stop.clone());
        tokio::select! {
            () = self.publish(&lane) => {}
            () = stopping::grace_is_over(&stop) => {}
        }
        stopping::close(self.close(&lane)).await;
    }

    async fn publish(&mut self, lane: &Lane) {
        while !self.stop.is_cancelled() {
            if let Err(error) = self.look(lane).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the outbox cannot be read; trying again"
                );
            }
            self.wait().await;
        }
    }

    /// Waits until there may be more to publish, and enough is published to be deleted together.
    async fn wait(&mut self) {
        let poll = tokio::time::sleep(self.poll);
        tokio::pin!(poll);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = &mut poll => return,
                () = self.wake.notified() => return,
                () = self.outlet.progress() => {}
            }
            self.outlet.collect();
            if self.outlet.is_empty() {
                return;
            }
        }
    }

    /// Deletes what the broker has and takes what is new into the outlet.
    async fn look(&mut self, lane: &Lane) -> Result<(), StoreError> {
        self.tidy().await;
        if !self.has_lease(lane).await? || self.outlet.bytes() > PAGE / 2 {
            return Ok(());
        }
        // Reads all that is left, not what comes after the last row: a row with a lower number may
        // have been committed later.
        let bytes = self.outlet.bytes() + PAGE;
        let mut rows = self.store.unsent(std::slice::from_ref(lane), bytes).await?;
        let held = self.outlet.held();
        rows.retain(|row| !held.contains(&row.id));
        // What must stay in the store is read again the next time.
        self.outlet.push_rows(rows);
        Ok(())
    }

    /// Takes the lease, or renews it once half of it is over.
    async fn has_lease(&mut self, lane: &Lane) -> Result<bool, StoreError> {
        if Instant::now() < self.renew_at {
            return Ok(true);
        }
        let renew_at = Instant::now() + LEASE / 2;
        let has_lease = self.store.lease(lane, self.holder, LEASE).await?;
        if has_lease {
            self.renew_at = renew_at;
        }
        Ok(has_lease)
    }

    async fn tidy(&mut self) {
        if self.outlet.has_acknowledged() {
            let sent = self.outlet.take_acknowledged();
            let result = self.store.sent(&sent).await;
            self.outlet.deleted(sent, result);
        }
    }

    async fn close(&mut self, lane: &Lane) {
        self.outlet.drain().await;
        stopping::farewell(self.tidy()).await;
        if let Err(error) = self.store.lease(lane, self.holder, Duration::ZERO).await {
            warn!(%error, "the lease could not be released; another relay takes over when it ends");
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
