//! What can be wrong with sagas.

use std::cmp::Reverse;
use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{
    Commit, DefinitionInUse, DueSagas, HistoryRecord, ListedSaga, MemoryTransaction, SagaFilter,
    Snapshot, Tick, Version, WakeAt,
};
use saga_core::{IdempotencyKey, SagaId, SagaName, SagaStore, StoreError, Timestamp};
use tokio::time::timeout;

use super::{Broken, Defect, between_two_statements, cut};

const AGES: Duration = Duration::from_hours(100_000);
const PLACE_ORDER: SagaName = SagaName::new("place-order");

impl SagaStore for Broken {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        let everything = self.notes().sagas.clone();
        let loads_everything = self.has(Defect::LoadsEverything);
        let found = self.inner.load(if loads_everything { &everything } else { sagas }).await?;
        if self.has(Defect::FailsOnUnknownSagas) && found.len() < sagas.len() {
            return Err(StoreError::Corrupt { saga: sagas[0], source: "no rows returned".into() });
        }
        Ok(found)
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        if self.has(Defect::FindsByKeyAlone) {
            let keys: Vec<_> = keys.iter().map(|(_, key)| (PLACE_ORDER, key.clone())).collect();
            return self.inner.find(&keys).await;
        }
        let mut found = self.inner.find(keys).await?;
        if self.has(Defect::FindsOnlyOne) {
            found.truncate(1);
        }
        if self.has(Defect::FindsUnknownKeys) {
            let unknown = keys.iter().filter(|key| !found.iter().any(|found| found.1 == key.1));
            let unknown: Vec<_> =
                unknown.map(|(name, key)| (name.clone(), key.clone(), SagaId::now())).collect();
            found.extend(unknown);
        }
        Ok(found)
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        let tick = self.distort_tick(tick).await?;
        let result = match self.defect {
            Some(Defect::CommitsOneByOne) => self.commit_one_by_one(tick.clone()).await,
            Some(Defect::LocksInTheOrderGiven) => self.commit_locked(tick.clone()).await,
            Some(Defect::ChecksVersionsThenWrites) => self.check_then_write(tick.clone()).await,
            _ => self.inner.commit(tick.clone()).await,
        };
        self.after(result, tick, ()).await
    }

    async fn commit_with(
        &self,
        transaction: MemoryTransaction<Vec<String>>,
        tick: Tick,
    ) -> Result<(), StoreError> {
        match self.defect {
            Some(Defect::ForgetsTheEffect) => {
                drop(transaction);
                self.inner.commit(tick).await
            }
            Some(Defect::CommitsTheEffectAlone) => transaction.commit().await,
            Some(Defect::CommitsTheEffectFirst) => {
                transaction.commit().await?;
                self.inner.commit(tick).await
            }
            _ => self.inner.commit_with(transaction, tick).await,
        }
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        let due = match self.defect {
            Some(Defect::IgnoresTheHorizon) => self.inner.due(Duration::ZERO, limit),
            Some(Defect::IsAlwaysDue) => self.inner.due(AGES, limit),
            Some(Defect::IsNeverDue) => self.inner.due(Duration::ZERO, 0),
            Some(Defect::IgnoresLimits | Defect::LimitsBeforeItSorts) => {
                self.inner.due(horizon, usize::MAX)
            }
            _ => self.inner.due(horizon, limit),
        };
        let mut due = due.await?;
        match self.defect {
            Some(Defect::DueInOrderOfIds) => due.sagas.sort_by_key(|due| due.saga),
            Some(Defect::LimitsBeforeItSorts) => {
                due.sagas.sort_by_key(|due| due.saga);
                due.sagas.truncate(limit);
                due.sagas.sort_by_key(|due| due.wake_at);
            }
            Some(Defect::ForgetsHome) => due.sagas.iter_mut().for_each(|due| due.home = 0),
            _ => {}
        }
        Ok(due)
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        let mut in_use = self.inner.in_use().await?;
        if self.has(Defect::CountsNoSagas) {
            in_use.iter_mut().for_each(|it| it.sagas = 1);
        }
        Ok(in_use)
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        let after = after.filter(|_| !self.has(Defect::ListsFromTheStart));
        let by_name = SagaFilter { status: None, ..filter.clone() };
        let filter = match self.defect {
            Some(Defect::IgnoresFilters) => &SagaFilter::all(),
            Some(Defect::FiltersByNameAlone) => &by_name,
            _ => filter,
        };
        let mut listed = self.inner.list(&SagaFilter::all(), after, usize::MAX).await?;
        match self.defect {
            Some(Defect::ForgetsChanges) => {
                listed.iter_mut().for_each(|saga| saga.updated_at = saga.started_at);
            }
            Some(Defect::LimitsBeforeItFilters) => listed.truncate(limit),
            Some(Defect::ListsInOrderOfStarts) => listed.sort_by_key(|it| Reverse(it.started_at)),
            Some(Defect::ListsOldestFirst) => listed.reverse(),
            _ => {}
        }
        listed.retain(|saga| filter.matches(saga));
        if !self.has(Defect::IgnoresLimits) {
            listed.truncate(limit);
        }
        Ok(listed)
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        let mut history = self.inner.history(saga).await?;
        match self.defect {
            Some(Defect::HistoryComesBackwards) => history.reverse(),
            Some(Defect::HistoryIsSortedAsText) => {
                history.sort_by_key(|record| record.version.0.to_string());
            }
            Some(Defect::MixesHistories) => {
                let all = self.notes().sagas.clone();
                for other in all.into_iter().filter(|other| *other != saga) {
                    history.extend(self.inner.history(other).await?);
                }
            }
            _ => {}
        }
        Ok(history)
    }
}

impl Broken {
    async fn distort_tick(&self, mut tick: Tick) -> Result<Tick, StoreError> {
        self.notes().sagas.extend(started(&tick));
        self.distort_rows(&mut tick.outbox, &mut tick.sent);
        if self.has(Defect::ForgetsDeadLetters) {
            tick.dead_letters.clear();
        }
        for commit in &mut tick.commits {
            self.distort_commit(commit);
            self.distort_wake_time(commit);
            self.distort_start(commit).await?;
        }
        Ok(tick)
    }

    fn distort_commit(&self, commit: &mut Commit) {
        match self.defect {
            Some(Defect::CutsStates) => commit.state = cut(&commit.state),
            Some(Defect::ForgetsHistory) if commit.expected > Version(0) => commit.history.clear(),
            Some(Defect::ForgetsEndings) if commit.status == Status::Compensated => {
                commit.status = Status::Completed;
            }
            _ => {}
        }
        let Some(new) = &mut commit.new else { return };
        match self.defect {
            Some(Defect::FoldsFingerprints) => new.fingerprint &= i64::MAX.unsigned_abs(),
            Some(Defect::ForgetsKeys) => new.key = None,
            Some(Defect::KeepsKeysWithoutTheirDefinition) => new.name = PLACE_ORDER,
            _ => {}
        }
    }

    fn distort_wake_time(&self, commit: &mut Commit) {
        let starts = commit.new.is_some();
        commit.wake_at = match (self.defect, commit.wake_at) {
            (Some(Defect::ForgetsKeptWakeTimes), WakeAt::Keep) => WakeAt::Never,
            (Some(Defect::KeepsWakeTimesThatMove), WakeAt::At(_)) if !starts => WakeAt::Keep,
            (Some(Defect::KeepsWakeTimesForEver), WakeAt::Never) => WakeAt::Keep,
            (Some(Defect::RoundsWakeTimes), WakeAt::At(time)) => {
                WakeAt::At(Timestamp::from_micros(time.as_micros() / 1_000 * 1_000))
            }
            (_, wake_at) => wake_at,
        };
    }

    async fn distort_start(&self, commit: &mut Commit) -> Result<(), StoreError> {
        let stored = self.inner.load(&[commit.saga]).await?.pop();
        if let Some(stored) = &stored {
            let overwrites = if commit.new.is_some() {
                self.has(Defect::OverwritesOnStart)
            } else {
                self.has(Defect::OverwritesWhatIsStale)
            };
            if overwrites {
                (commit.expected, commit.new) = (stored.version, None);
            }
        }
        let Some(new) = &mut commit.new else { return Ok(()) };
        let Some(key) = new.key.clone() else { return Ok(()) };
        let named = [(new.name.clone(), key)];
        let before = self.inner.find(&named).await?;
        if self.has(Defect::ChecksKeysThenWrites) && before.is_empty() {
            between_two_statements().await;
            if !self.inner.find(&named).await?.is_empty() {
                new.key = None;
            }
        }
        if self.has(Defect::FreesKeysOfEndedSagas) {
            let holders: Vec<_> = before.into_iter().map(|(_, _, saga)| saga).collect();
            let holders = self.inner.load(&holders).await?;
            if holders.iter().any(|holder| holder.status.is_final()) {
                new.key = None;
            }
        }
        Ok(())
    }

    async fn commit_one_by_one(&self, mut tick: Tick) -> Result<(), StoreError> {
        for commit in std::mem::take(&mut tick.commits) {
            self.inner.commit(Tick { commits: vec![commit], ..Tick::default() }).await?;
        }
        self.inner.commit(tick).await
    }

    /// Locks rows as they come, and gives up like a database that finds a deadlock.
    async fn commit_locked(&self, tick: Tick) -> Result<(), StoreError> {
        let mut held = Vec::new();
        for commit in &tick.commits {
            let lock = self.notes().locks.entry(commit.saga).or_default().clone();
            let Ok(guard) = timeout(Duration::from_millis(100), lock.lock_owned()).await else {
                let source = "deadlock detected".into();
                return Err(StoreError::Unavailable { operation: "commit", source });
            };
            held.push(guard);
            tokio::task::yield_now().await;
        }
        self.inner.commit(tick).await
    }

    async fn check_then_write(&self, mut tick: Tick) -> Result<(), StoreError> {
        self.check_versions(&tick).await?;
        between_two_statements().await;
        for commit in &mut tick.commits {
            if let Some(stored) = self.inner.load(&[commit.saga]).await?.pop() {
                commit.expected = stored.version;
            }
        }
        self.inner.commit(tick).await
    }

    async fn check_versions(&self, tick: &Tick) -> Result<(), StoreError> {
        for commit in &tick.commits {
            let stored = self.inner.load(&[commit.saga]).await?.pop();
            if stored.map_or(Version(0), |stored| stored.version) != commit.expected {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }
}

fn started(tick: &Tick) -> Vec<SagaId> {
    let starts = tick.commits.iter().filter(|commit| commit.new.is_some());
    starts.map(|commit| commit.saga).collect()
}
