//! Dropping what is over, a page at a time, beside the work.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::store::{Purge, StoreError};
use crate::{Error, RetentionPolicy};

/// Most rows that one transaction looks at.
const PAGE: usize = 1_000;
/// How many times as long as its last transaction took it rests before the next.
const REST: u32 = 9;
/// How long it rests when there is nothing left to do.
const ROUND_EVERY: Duration = Duration::from_mins(1);

/// Removes sagas that have ended, and records of commands that cannot come again.
///
/// It works a page of 1,000 rows at a time, each in a transaction of its own, and rests nine times as
/// long as a page took, so that what it needs of the database is a tenth of one connection. A
/// crash undoes a page or leaves it done. One of them for a store is enough; several do no harm.
///
/// # Examples
///
/// ```
/// # use saga_core::*;
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
/// let month = Duration::from_hours(30 * 24);
/// let policy = RetentionPolicy::keep_all().ended_sagas(month).inbox(3 * month);
/// let retention = Retention::start(store.clone(), policy);
/// // ... the engine and the participant run on the same store ...
/// retention.shutdown().await?;
/// # Ok(()) }
/// ```
#[must_use = "a retention that is dropped stops"]
pub struct Retention {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Retention {
    /// Starts to remove what the policy does not keep, and goes on every minute.
    pub fn start(store: impl Purge, policy: RetentionPolicy) -> Self {
        let stop = CancellationToken::new();
        let worker = Worker { store, policy };
        let task = worker.run(stop.clone()).instrument(info_span!("retention"));
        Self { stop, task: tokio::spawn(task) }
    }

    /// Stops after the page in hand.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if it had died.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.cancel();
        (&mut self.task).await.map_err(|_| Error::Stopped)
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retention").finish_non_exhaustive()
    }
}

struct Worker<S> {
    store: S,
    policy: RetentionPolicy,
}

impl<S: Purge> Worker<S> {
    async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.round(&stop).await {
                let error = &error as &dyn std::error::Error;
                warn!(error, "what is over cannot be removed; trying again in a minute");
            }
            if stop.run_until_cancelled(tokio::time::sleep(ROUND_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Goes through everything once.
    async fn round(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        if let Some(age) = self.policy.ended_sagas {
            let removed = self.sagas(age, stop).await?;
            if removed > 0 {
                info!(removed, "sagas removed that ended long ago");
            }
        }
        if let Some(age) = self.policy.inbox {
            let removed = self.inbox(age, stop).await?;
            if removed > 0 {
                info!(removed, "inbox records removed");
            }
        }
        Ok(())
    }

    async fn sagas(&self, age: Duration, stop: &CancellationToken) -> Result<usize, StoreError> {
        let (mut removed, mut after) = (0, None);
        while !stop.is_cancelled() {
            let began = Instant::now();
            let purged = self.store.purge_sagas(age, after, PAGE).await?;
            removed += purged.sagas;
            let Some(last) = purged.last else { break };
            after = Some(last);
            rest(began, stop).await;
        }
        Ok(removed)
    }

    async fn inbox(&self, age: Duration, stop: &CancellationToken) -> Result<usize, StoreError> {
        let mut removed = 0;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let purged = self.store.purge_inbox(age, PAGE).await?;
            removed += purged;
            if purged < PAGE {
                break;
            }
            rest(began, stop).await;
        }
        Ok(removed)
    }
}

/// Leaves the database to the others for a while.
async fn rest(began: Instant, stop: &CancellationToken) {
    let pause = tokio::time::sleep(began.elapsed() * REST);
    let _ = stop.run_until_cancelled(pause).await;
}
