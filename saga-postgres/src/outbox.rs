//! Putting messages into the outbox in the application's own transaction.

use std::time::Duration;

use saga_core::store::{Lane, Outbox, OutboxRow, StoreError};
use saga_core::{OutboxId, ParticipantName};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _, SqlSafeStr as _, SqlStr};
use uuid::Uuid;

use crate::sql::ENQUEUE_IN_DEFAULT_SCHEMA;
use crate::value::fit;
use crate::value::micros;
use crate::{PostgresStore, error};

const ENQUEUE: &str = "enqueue";
const UNSENT: &str = "unsent";
const LEASE: &str = "lease";

/// Appends a row to the outbox in the caller's transaction, in the default schema.
///
/// What was enqueued is sent after the transaction has committed, and never if it is rolled back. For
/// a lane that no service writes, use [`Lane::application`]: a relay sends it. With a store for
/// another schema use [`PostgresStore::enqueue`].
///
/// A connection outside of a transaction commits the row by itself.
///
/// # Errors
///
/// [`StoreError::Conflict`] if a row of this id was enqueued before, [`StoreError::Refused`] if
/// the lane's number does not fit a column, [`StoreError::Configuration`] if the migrations
/// were not applied, [`StoreError::Unavailable`] if the database cannot be reached. After each of them
/// the transaction can only be rolled back.
///
/// # Examples
///
/// ```no_run
/// use saga_core::store::{Lane, OutboxRow};
/// use saga_core::OutboxId;
/// use saga_postgres::outbox;
///
/// # async fn place(pool: sqlx::PgPool, record: bytes::Bytes) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// sqlx::query("insert into orders (id) values ('o-1')").execute(&mut *transaction).await?;
/// let row = OutboxRow { id: OutboxId::now(), lane: Lane::application(), body: record };
/// outbox::enqueue(&mut transaction, &row).await?;
/// transaction.commit().await?; // the order and its message are there together
/// # Ok(())
/// # }
/// ```
pub async fn enqueue(connection: &mut PgConnection, row: &OutboxRow) -> Result<(), StoreError> {
    insert(connection, ENQUEUE_IN_DEFAULT_SCHEMA.into_sql_str(), row).await
}

impl PostgresStore {
    /// Appends a row to the outbox of this store's schema in the caller's transaction.
    ///
    /// As [`enqueue`], which is for the default schema.
    ///
    /// # Errors
    ///
    /// As [`enqueue`].
    pub async fn enqueue(
        &self,
        connection: &mut PgConnection,
        row: &OutboxRow,
    ) -> Result<(), StoreError> {
        insert(connection, self.sql().enqueue.clone(), row).await
    }
}

async fn insert(
    connection: &mut PgConnection,
    sql: SqlStr,
    row: &OutboxRow,
) -> Result<(), StoreError> {
    let lane: i32 = fit(ENQUEUE, "lane", row.lane.number())?;
    let insert = sqlx::query(sql).bind(row.id.0).bind(row.lane.owner().as_str());
    let inserted = insert.bind(lane).bind(&row.body[..]).execute(connection).await;
    inserted.map(drop).map_err(|problem| error::statement(ENQUEUE, problem))
}

impl Outbox for PostgresStore {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let owners: Vec<&str> = lanes.iter().map(|lane| lane.owner().as_str()).collect();
        let numbers = lanes.iter().map(|lane| fit(UNSENT, "lane", lane.number()));
        let numbers: Vec<i32> = numbers.collect::<Result<_, _>>()?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let query = sqlx::query(self.sql().unsent.clone()).bind(owners).bind(numbers).bind(bytes);
        let rows = self.call(UNSENT, query).await?;
        let rows = rows.iter().map(read).collect::<Result<_, _>>();
        rows.map_err(|problem| error::statement(UNSENT, problem))
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        // In the order of every other deletion, so that two of them cannot deadlock.
        let mut ids: Vec<Uuid> = rows.iter().map(|row| row.0).collect();
        ids.sort_unstable();
        self.call("sent", sqlx::query(self.sql().forget_sent.clone()).bind(ids)).await.map(drop)
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        let number: i32 = fit(LEASE, "lane", lane.number())?;
        let on_lane = |sql: &SqlStr| {
            sqlx::query(sql.clone()).bind(lane.owner().as_str()).bind(number).bind(holder.0)
        };
        if duration.is_zero() {
            let others = self.call(LEASE, on_lane(&self.sql().release_lease)).await?;
            return Ok(others.is_empty());
        }
        let query = on_lane(&self.sql().take_lease).bind(micros(duration));
        Ok(!self.call(LEASE, query).await?.is_empty())
    }
}

fn read(row: &PgRow) -> Result<OutboxRow, sqlx::Error> {
    let owner = row.try_get::<&str, _>(1)?;
    let owner = ParticipantName::parse(owner).map_err(|bad| sqlx::Error::Decode(bad.into()))?;
    let number = u32::try_from(row.try_get::<i32, _>(2)?);
    let number = number.map_err(|bad| sqlx::Error::Decode(bad.into()))?;
    Ok(OutboxRow {
        id: OutboxId(row.try_get(0)?),
        lane: Lane::new(owner, number),
        body: row.try_get::<Vec<u8>, _>(3)?.into(),
    })
}
