//! What nobody else would notice: sagas whose time has come, and what a dead engine left in the outbox.

use std::time::Duration;

use tracing::{error, warn};

use super::work::Work;
use super::worker::Worker;
use crate::outage::Outage;
use crate::outlet::Outlet;
use crate::store::Lane;
use crate::{Error, SagaId};

/// How far ahead timers are taken into memory.
const HORIZON: Duration = Duration::from_secs(10);
/// How often the store is asked for sagas whose time comes near.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// Most sagas taken over by one scan.
const SCAN_MAX: usize = 1000;
/// How long a saga of another engine may be overdue before this one looks after it.
const GRACE: Duration = Duration::from_secs(5);
/// Most sagas that are looked after at once.
const WATCHED_MAX: usize = 1000;

impl Worker {
    /// Finds the sagas whose time comes near and corrects our clock by the store's.
    pub(super) async fn scan(&mut self) -> Result<(), Error> {
        let before = self.clock.now_dyn();
        let due = match self.store.due(HORIZON, SCAN_MAX).await {
            Ok(due) => due,
            Err(error) if error.is_transient() => {
                warn!(%error, "sagas that are due cannot be listed; trying again");
                self.reachable_since = self.now();
                self.next_scan = self.now() + Duration::from_secs(1);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.clock_offset_us = due.now.as_micros() - before.as_micros();
        let is_full = due.sagas.len() == SCAN_MAX;
        for saga in due.sagas {
            let is_ours = self.outlet.is_none() || self.routing.owned().contains(&saga.home);
            let is_overdue = saga.wake_at + GRACE < due.now;
            if (is_ours || is_overdue) && !self.timers.has(saga.saga) {
                self.timers.set(saga.saga, Some(saga.wake_at));
            }
        }
        if !self.has_reported {
            self.report_unknown_definitions().await;
        }
        // A full page means that there is more; it is asked for once these have moved on.
        let pause = if is_full { SCAN_EVERY / 10 } else { SCAN_EVERY };
        self.next_scan = due.now + pause;
        self.find_forgotten_rows().await;
        self.take_redriven().await;
        Ok(())
    }

    /// Says at the start which sagas cannot go on here. If they cannot be listed, the next scan asks again.
    async fn report_unknown_definitions(&mut self) {
        match self.store.in_use().await {
            Ok(in_use) => {
                self.has_reported = true;
                for shape in in_use.iter().filter(|shape| !self.registry.knows(shape)) {
                    let reason = match self.registry.version(&shape.saga, shape.version) {
                        None => "this version is not registered",
                        Some(_) => "this version is registered with another shape",
                    };
                    error!(
                        saga = %shape.saga, version = shape.version, sagas = shape.sagas,
                        fingerprint = shape.fingerprint, reason,
                        "sagas are under way on a definition that is unknown here; they park as soon \
                         as something happens to them: register it as it was, and what has changed \
                         as a new version beside it"
                    );
                }
            }
            Err(error) => warn!(%error, "the definitions in use cannot be listed; trying again"),
        }
    }

    /// Takes a saga's next timer into memory if it fires soon; a later one is found by a scan.
    pub(super) fn set_timer(&mut self, work: &Work) {
        let soon = self.now() + HORIZON;
        self.timers.set(work.saga, work.next_due().filter(|due| *due <= soon));
    }

    /// Publishes what waits in the outbox for the partitions in question, a page at a time.
    pub(super) async fn read_back(&mut self) -> Result<(), Error> {
        while let Some((numbers, bytes)) = self.outlet.as_ref().and_then(Outlet::to_read_back) {
            self.tidy().await;
            let lanes = self.lanes(&numbers);
            let unsent = || self.store.unsent(&lanes, bytes);
            let asked = self.now();
            let rows = Outage::outlasted(&self.stop, unsent).await?;
            self.waited_for_the_store(asked);
            let Some(outlet) = &mut self.outlet else { break };
            if !outlet.read_back(&numbers, bytes, rows) {
                break;
            }
        }
        Ok(())
    }

    /// Notes that rows may have been committed for these partitions that are not on their way.
    pub(super) fn fall_behind(&mut self, partitions: impl IntoIterator<Item = u32>) {
        if let Some(outlet) = &mut self.outlet {
            outlet.fall_behind(partitions);
        }
    }

    /// Looks for rows of our partitions that another engine committed and then died: it may have
    /// done so after we looked.
    async fn find_forgotten_rows(&mut self) {
        let owned = self.routing.owned();
        let Some((numbers, bytes)) = self.outlet.as_ref().and_then(|it| it.to_search(owned)) else {
            return;
        };
        let unsent = self.store.unsent(&self.lanes(&numbers), bytes).await;
        let now = self.now();
        if let Some(outlet) = &mut self.outlet {
            outlet.searched(unsent, now);
        }
    }

    fn lanes(&self, numbers: &[u32]) -> Vec<Lane> {
        numbers.iter().map(|&number| Lane::new(self.name.clone(), number)).collect()
    }

    /// Looks after everybody who waits: their sagas may have ended in another engine.
    pub(super) async fn look_after_all(&mut self) {
        let watched: Vec<_> = self.watchers.keys().copied().collect();
        for sagas in watched.chunks(WATCHED_MAX) {
            self.look_after(sagas).await;
        }
    }

    /// Answers those who wait for sagas that have ended meanwhile, here or in another engine.
    pub(super) async fn look_after(&mut self, sagas: &[SagaId]) {
        if sagas.is_empty() {
            return;
        }
        let snapshots = match self.store.load(sagas).await {
            Ok(snapshots) => snapshots,
            Err(error) => {
                warn!(%error, "sagas that are waited for cannot be read; trying again");
                return;
            }
        };
        for snapshot in snapshots {
            if snapshot.status.is_at_rest() {
                for watcher in self.watchers.remove(&snapshot.saga).unwrap_or_default() {
                    let _ = watcher.send(Ok(snapshot.status));
                }
            }
        }
        self.watchers.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_closed());
            !watchers.is_empty()
        });
    }
}
