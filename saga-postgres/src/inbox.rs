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

impl Inbox for PostgresStore {
    async fn recorded(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        let ids: Vec<Uuid> = commands.iter().map(|command| command.0).collect();
        let query = sqlx::query(self.sql().recorded.clone()).bind(ids);
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
