//! Which commands were handled, recorded in the transaction that carried them out.

use saga_core::MessageId;
use saga_core::participant::{Handled, Inbox, InboxRecord, Remembered};
use saga_core::store::StoreError;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::{PostgresStore, arguments, error};

const RECORDED: &str = "recorded";
const RECORD: &str = "record";
const UNFINISHED: &str = "unfinished";
const BEGIN_ATTEMPTS: &str = "begin attempts";
const END_ATTEMPTS: &str = "end attempts";

impl Inbox for PostgresStore {
    async fn recorded(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        let query = sqlx::query(self.sql().recorded.clone()).bind(uuids(commands));
        let rows = self.call_in(RECORDED, transaction, query).await?;
        remembered(&rows).map_err(|problem| error::statement(RECORDED, problem))
    }

    async fn record(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        handled: Handled,
    ) -> Result<(), StoreError> {
        let arguments = arguments::of_handled(&handled)?;
        let sql = if handled.dead_letters.is_empty() {
            &self.sql().record
        } else {
            &self.sql().record_and_dead_letters
        };
        self.call_in(RECORD, &mut transaction, sqlx::query_with(sql.clone(), arguments)).await?;
        self.end(RECORD, transaction).await
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        let query = sqlx::query(self.sql().unfinished.clone()).bind(uuids(commands));
        let rows = self.call(UNFINISHED, query).await?;
        let counts = rows.iter().map(unfinished).collect::<Result<_, _>>();
        counts.map_err(|problem| error::statement(UNFINISHED, problem))
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        let query = sqlx::query(self.sql().begin_attempts.clone()).bind(uuids(commands));
        let rows = self.call(BEGIN_ATTEMPTS, query).await?;
        let begun = rows.iter().map(|row| row.try_get(0).map(MessageId)).collect::<Result<_, _>>();
        begun.map_err(|problem| error::statement(BEGIN_ATTEMPTS, problem))
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql().end_attempts.clone()).bind(uuids(commands));
        self.call(END_ATTEMPTS, query).await.map(drop)
    }
}

fn uuids(commands: &[MessageId]) -> Vec<Uuid> {
    commands.iter().map(|command| command.0).collect()
}

fn unfinished(row: &PgRow) -> Result<(MessageId, u32), sqlx::Error> {
    // The column counts up from 1.
    Ok((MessageId(row.try_get(0)?), row.try_get::<i32, _>(1)?.unsigned_abs()))
}

/// The row without a reply says which records may be missing.
fn remembered(rows: &[PgRow]) -> Result<Remembered, sqlx::Error> {
    let mut remembered = Remembered::default();
    for row in rows {
        let command = MessageId(row.try_get(0)?);
        match row.try_get::<Option<Vec<u8>>, _>(1)? {
            Some(reply) => remembered.records.push(InboxRecord { command, reply: reply.into() }),
            None => remembered.purged_below = Some(command),
        }
    }
    Ok(remembered)
}
