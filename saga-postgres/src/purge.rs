//! Deleting what is over.

use std::time::Duration;

use saga_core::SagaId;
use saga_core::store::{Purge, PurgedSagas, StoreError};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::value::{micros, rows};
use crate::{PostgresStore, error};

const PURGE_SAGAS: &str = "purge sagas";
const PURGE_INBOX: &str = "purge inbox";

impl Purge for PostgresStore {
    async fn purge_sagas(
        &self,
        age: Duration,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<PurgedSagas, StoreError> {
        let after = after.map_or(Uuid::nil(), |saga| saga.0);
        let sql = self.sql().purge_sagas.clone();
        let query = sqlx::query(sql).bind(micros(age)).bind(after).bind(rows(limit));
        let answer = self.call(PURGE_SAGAS, query).await?;
        purged(&answer).map_err(|problem| error::statement(PURGE_SAGAS, problem))
    }

    async fn purge_inbox(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let query = sqlx::query(self.sql().forget_inbox.clone()).bind(micros(age));
        self.call(PURGE_INBOX, query).await?;
        let query = sqlx::query(self.sql().purge_inbox.clone()).bind(rows(limit));
        let answer = self.call(PURGE_INBOX, query).await?;
        deleted(&answer).map_err(|problem| error::statement(PURGE_INBOX, problem))
    }
}

fn purged(rows: &[PgRow]) -> Result<PurgedSagas, sqlx::Error> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(PurgedSagas { sagas: count(row)?, last: row.try_get::<Option<Uuid>, _>(1)?.map(SagaId) })
}

fn deleted(rows: &[PgRow]) -> Result<usize, sqlx::Error> {
    count(rows.first().ok_or(sqlx::Error::RowNotFound)?)
}

fn count(row: &PgRow) -> Result<usize, sqlx::Error> {
    usize::try_from(row.try_get::<i64, _>(0)?).map_err(|bad| sqlx::Error::Decode(bad.into()))
}
