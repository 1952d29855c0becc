//! Sagas: committing ticks and reading back what they left.

use std::time::Duration;

use saga_core::error::BoxError;
use saga_core::store::{
    DefinitionInUse, DueSaga, DueSagas, HistoryRecord, ListedSaga, NewSaga, SagaFilter, SagaStore,
    Snapshot, StoreError, Tick, Version,
};
use saga_core::{IdempotencyKey, SagaId, SagaName, Timestamp};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::value::{Timestamptz, micros, rows, status, status_code};
use crate::{PostgresStore, arguments, error};

const COMMIT: &str = "commit";
const LOAD: &str = "load";
const FIND: &str = "find";
const DUE: &str = "due";
const IN_USE: &str = "listing the definitions in use";
const LIST: &str = "list";
const HISTORY: &str = "history";

impl SagaStore for PostgresStore {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        let ids: Vec<Uuid> = sagas.iter().map(|saga| saga.0).collect();
        let query = sqlx::query(self.sql().load.clone()).bind(ids);
        self.call(LOAD, query).await?.iter().map(snapshot).collect()
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
        let texts: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
        let query = sqlx::query(self.sql().find.clone()).bind(names).bind(texts);
        self.call(FIND, query).await?.iter().map(found).collect()
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        if tick.is_empty() {
            return Ok(());
        }
        self.call(COMMIT, self.tick(&tick)?).await.map(drop)
    }

    async fn commit_with(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        tick: Tick,
    ) -> Result<(), StoreError> {
        // Also an empty tick is called for: it fails if a handler went on after an error of the
        // database, whereas COMMIT would roll back and report success.
        self.call_in(COMMIT, &mut transaction, self.tick(&tick)?).await?;
        self.end(COMMIT, transaction).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        let query = sqlx::query(self.sql().due.clone()).bind(micros(horizon)).bind(rows(limit));
        let rows = self.call(DUE, query).await?;
        due(&rows).map_err(|problem| error::statement(DUE, problem))
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        let rows = self.call(IN_USE, sqlx::query(self.sql().in_use.clone())).await?;
        let read: Result<_, BoxError> = rows.iter().map(in_use).collect();
        read.map_err(|source| StoreError::Refused { operation: IN_USE, source })
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        let query = sqlx::query(self.sql().list.clone())
            .bind(filter.name.as_ref().map(SagaName::as_str))
            .bind(filter.status.map(status_code))
            .bind(after.map_or(Uuid::max(), |saga| saga.0))
            .bind(rows(limit));
        self.call(LIST, query).await?.iter().map(listed).collect()
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        let rows = self.call(HISTORY, sqlx::query(self.sql().history.clone()).bind(saga.0)).await?;
        rows.iter().map(|row| history(saga, row)).collect()
    }
}

impl PostgresStore {
    fn tick(&self, tick: &Tick) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
        let sql = if tick.dead_letters.is_empty() {
            &self.sql().commit_tick
        } else {
            &self.sql().commit_tick_and_dead_letters
        };
        Ok(sqlx::query_with(sql.clone(), arguments::of_tick(tick)?))
    }
}

fn snapshot(row: &PgRow) -> Result<Snapshot, StoreError> {
    let saga = SagaId(row.try_get(0).map_err(|problem| error::statement(LOAD, problem))?);
    read_snapshot(saga, row).map_err(|source| StoreError::Corrupt { saga, source })
}

fn read_snapshot(saga: SagaId, row: &PgRow) -> Result<Snapshot, BoxError> {
    let key: Option<String> = row.try_get(5)?;
    Ok(Snapshot {
        saga,
        version: version(row.try_get(1)?)?,
        new: NewSaga {
            name: SagaName::parse(row.try_get::<&str, _>(2)?)?,
            definition_version: row.try_get::<i32, _>(3)?.try_into()?,
            fingerprint: row.try_get::<i64, _>(4)?.cast_unsigned(),
            key: key.map(IdempotencyKey::new).transpose()?,
            home: row.try_get::<i32, _>(6)?.try_into()?,
        },
        status: status(row.try_get(7)?)?,
        wake_at: row.try_get::<Timestamptz, _>(8)?.time(),
        state: row.try_get::<Vec<u8>, _>(9)?.into(),
    })
}

fn version(stored: i64) -> Result<Version, BoxError> {
    Ok(Version(stored.try_into()?))
}

fn found(row: &PgRow) -> Result<(SagaName, IdempotencyKey, SagaId), StoreError> {
    let saga = SagaId(row.try_get(2).map_err(|problem| error::statement(FIND, problem))?);
    read_found(saga, row).map_err(|source| StoreError::Corrupt { saga, source })
}

fn read_found(saga: SagaId, row: &PgRow) -> Result<(SagaName, IdempotencyKey, SagaId), BoxError> {
    let name = SagaName::parse(row.try_get::<&str, _>(0)?)?;
    Ok((name, IdempotencyKey::new(row.try_get::<&str, _>(1)?)?, saga))
}

/// The first row is there for the time; without a saga it is the only one.
fn due(rows: &[PgRow]) -> Result<DueSagas, sqlx::Error> {
    let mut due = DueSagas { now: Timestamp::default(), sagas: Vec::with_capacity(rows.len()) };
    for row in rows {
        due.now = time(row.try_get(0)?)?;
        let Some(saga) = row.try_get::<Option<Uuid>, _>(1)?.map(SagaId) else { break };
        let home = u32::try_from(row.try_get::<i32, _>(2)?);
        let home = home.map_err(|bad| sqlx::Error::Decode(bad.into()))?;
        due.sagas.push(DueSaga { saga, home, wake_at: time(row.try_get(3)?)? });
    }
    Ok(due)
}

fn in_use(row: &PgRow) -> Result<DefinitionInUse, BoxError> {
    Ok(DefinitionInUse {
        saga: SagaName::parse(row.try_get::<&str, _>(0)?)?,
        version: row.try_get::<i32, _>(1)?.try_into()?,
        fingerprint: row.try_get::<i64, _>(2)?.cast_unsigned(),
        sagas: row.try_get::<i64, _>(3)?.try_into()?,
    })
}

fn listed(row: &PgRow) -> Result<ListedSaga, StoreError> {
    let saga = SagaId(row.try_get(0).map_err(|problem| error::statement(LIST, problem))?);
    read_listed(saga, row).map_err(|source| StoreError::Corrupt { saga, source })
}

fn read_listed(saga: SagaId, row: &PgRow) -> Result<ListedSaga, BoxError> {
    let key: Option<String> = row.try_get(3)?;
    Ok(ListedSaga {
        saga,
        name: SagaName::parse(row.try_get::<&str, _>(1)?)?,
        definition_version: row.try_get::<i32, _>(2)?.try_into()?,
        key: key.map(IdempotencyKey::new).transpose()?,
        status: status(row.try_get(4)?)?,
        started_at: time(row.try_get(5)?)?,
        updated_at: time(row.try_get(6)?)?,
    })
}

fn time(stored: Timestamptz) -> Result<Timestamp, sqlx::Error> {
    stored.time().ok_or_else(|| sqlx::Error::Decode("a time that never comes".into()))
}

fn history(saga: SagaId, row: &PgRow) -> Result<HistoryRecord, StoreError> {
    let read = || -> Result<HistoryRecord, BoxError> {
        let entries = row.try_get::<Vec<u8>, _>(1)?.into();
        Ok(HistoryRecord { version: version(row.try_get(0)?)?, entries })
    };
    read().map_err(|source| StoreError::Corrupt { saga, source })
}
