//! What can be wrong with a purge.

use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{Commit, Purge, PurgedSagas, Tick, WakeAt};
use saga_core::{SagaId, SagaStore as _, StoreError};

use super::{Broken, Defect};

impl Purge for Broken {
    async fn purge_sagas(
        &self,
        age: Duration,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<PurgedSagas, StoreError> {
        match self.defect {
            Some(Defect::PurgesNothing) => return Ok(PurgedSagas::default()),
            Some(Defect::PurgesWhateverIsOld) => self.end_all().await?,
            _ => {}
        }
        let after = after.filter(|_| !self.has(Defect::PurgesFromTheStart));
        self.inner.purge_sagas(self.age(age), after, self.limit(limit)).await
    }

    async fn purge_inbox(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        if self.has(Defect::PurgesNothing) {
            return Ok(0);
        }
        self.inner.purge_inbox(self.age(age), self.limit(limit)).await
    }
}

impl Broken {
    fn age(&self, age: Duration) -> Duration {
        if self.has(Defect::IgnoresAges) { Duration::ZERO } else { age }
    }

    fn limit(&self, limit: usize) -> usize {
        if self.has(Defect::IgnoresLimits) { usize::MAX } else { limit }
    }

    async fn end_all(&self) -> Result<(), StoreError> {
        let sagas = self.notes().sagas.clone();
        let ends = self.inner.load(&sagas).await?.into_iter().map(|snapshot| Commit {
            saga: snapshot.saga,
            expected: snapshot.version,
            new: None,
            status: Status::Completed,
            wake_at: WakeAt::Never,
            state: snapshot.state,
            history: bytes::Bytes::new(),
        });
        self.inner.commit(Tick { commits: ends.collect(), ..Tick::default() }).await
    }
}
