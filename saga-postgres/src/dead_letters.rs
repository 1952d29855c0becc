//! What was set aside: handing it out again, and what persons decide about it.

use std::time::Duration;

use saga_core::error::BoxError;
use saga_core::store::{
    DeadLetter, DeadLetters, HeldKey, LETTER_BYTES_MAX, LetterAction, LetterFilter,
    LetterOperation, OperatedLetter, REDRIVE_TRIES, Redrive, StoreError,
};
use saga_core::{MessageId, ParticipantName, Timestamp, Topic};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::arguments::printable;
use crate::value::{Timestamptz, micros, rows};
use crate::{PostgresStore, error};

const REDRIVEN: &str = "redriven";
const SETTLED: &str = "settled";
const HELD: &str = "held";
const LETTERS: &str = "letters";
const OPERATE: &str = "operate";
const OPERATIONS: &str = "operations";

impl Redrive for PostgresStore {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        // What is no number of a partition has no letters.
        let partitions: Vec<i32> = partitions.iter().filter_map(|&it| it.try_into().ok()).collect();
        let query = sqlx::query(self.sql().redriven.clone())
            .bind(consumer.as_str())
            .bind(partitions)
            .bind(micros(lease))
            .bind(rows(limit))
            .bind(bytes_max());
        all(REDRIVEN, &self.call(REDRIVEN, query).await?, letter)
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = letters.iter().map(|letter| letter.0).collect();
        let query = sqlx::query(self.sql().settled.clone()).bind(ids);
        self.call(SETTLED, query).await.map(drop)
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        let query = sqlx::query(self.sql().held.clone()).bind(consumer.as_str());
        all(HELD, &self.call(HELD, query).await?, held)
    }
}

impl DeadLetters for PostgresStore {
    async fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query(self.sql().letters.clone())
            .bind(filter.id.map(|id| id.0))
            .bind(filter.consumer.as_ref().map(ParticipantName::as_str))
            .bind(filter.topic.as_ref().map(Topic::as_str))
            .bind(filter.key.as_deref())
            .bind(filter.reason.as_deref().map(printable))
            .bind(after.map_or(Uuid::nil(), |id| id.0))
            .bind(rows(limit))
            .bind(bytes_max());
        all(LETTERS, &self.call(LETTERS, query).await?, letter)
    }

    async fn operate(
        &self,
        operation: &LetterOperation,
        letters: &[(MessageId, Duration)],
    ) -> Result<usize, StoreError> {
        let LetterOperation { by, reason, action } = operation;
        let ids: Vec<Uuid> = letters.iter().map(|(letter, _)| letter.0).collect();
        let pauses: Vec<i64> = letters.iter().map(|&(_, pause)| micros(pause)).collect();
        let query = match action {
            LetterAction::Discard => sqlx::query(self.sql().discard.clone()).bind(ids),
            _ => sqlx::query(self.sql().redrive.clone())
                .bind(ids)
                .bind(pauses)
                .bind(i32::try_from(REDRIVE_TRIES).unwrap_or(i32::MAX)),
        };
        let query = query.bind(action.as_str()).bind(printable(by)).bind(printable(reason));
        Ok(self.call(OPERATE, query).await?.len())
    }

    async fn operations(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OperatedLetter>, StoreError> {
        let query = sqlx::query(self.sql().operations.clone())
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(rows(limit));
        all(OPERATIONS, &self.call(OPERATIONS, query).await?, operated)
    }
}

/// Returns after how many bytes of letters a page ends.
fn bytes_max() -> i64 {
    i64::try_from(LETTER_BYTES_MAX).unwrap_or(i64::MAX)
}

/// Reads all rows of an answer.
fn all<T>(
    operation: &'static str,
    rows: &[PgRow],
    read: impl Fn(&PgRow) -> Result<T, BoxError>,
) -> Result<Vec<T>, StoreError> {
    let read = rows.iter().map(read).collect::<Result<_, _>>();
    read.map_err(|problem| error::refused(operation, problem))
}

/// Reads the columns of [`LETTER`](crate::sql::LETTER).
fn letter(row: &PgRow) -> Result<DeadLetter, BoxError> {
    let names: Vec<Vec<u8>> = row.try_get(12)?;
    let values: Vec<Vec<u8>> = row.try_get(13)?;
    let headers = names.into_iter().zip(values);
    let headers = headers.map(|(name, value)| Ok((String::from_utf8(name)?, value.into())));
    Ok(DeadLetter {
        id: MessageId(row.try_get(0)?),
        consumer: ParticipantName::parse(row.try_get::<&str, _>(1)?)?,
        topic: Topic::parse(row.try_get::<&str, _>(2)?)?,
        partition: row.try_get::<i32, _>(3)?.try_into()?,
        offset: row.try_get::<i64, _>(4)?.try_into()?,
        timestamp: time(row.try_get(5)?)?,
        key: row.try_get::<Vec<u8>, _>(6)?.into(),
        value: row.try_get::<Vec<u8>, _>(7)?.into(),
        reason: row.try_get(8)?,
        detail: row.try_get(9)?,
        attempts: row.try_get::<i32, _>(15)?.try_into()?,
        waits: row.try_get(10)?,
        redrives: row.try_get::<i32, _>(11)?.try_into()?,
        headers: headers.collect::<Result<_, BoxError>>()?,
        redrive_at: row.try_get::<Option<Timestamptz>, _>(14)?.and_then(Timestamptz::time),
    })
}

fn held(row: &PgRow) -> Result<HeldKey, BoxError> {
    Ok(HeldKey {
        topic: Topic::parse(row.try_get::<&str, _>(0)?)?,
        partition: row.try_get::<i32, _>(1)?.try_into()?,
        key: row.try_get::<Vec<u8>, _>(2)?.into(),
        first: row.try_get::<i64, _>(3)?.try_into()?,
    })
}

fn operated(row: &PgRow) -> Result<OperatedLetter, BoxError> {
    let action: &str = row.try_get(2)?;
    Ok(OperatedLetter {
        number: row.try_get::<i64, _>(0)?.try_into()?,
        at: time(row.try_get(1)?)?,
        operation: LetterOperation {
            action: LetterAction::parse(action).ok_or_else(|| format!("{action} is no action"))?,
            by: row.try_get(3)?,
            reason: row.try_get(4)?,
        },
        letter: MessageId(row.try_get(5)?),
        topic: Topic::parse(row.try_get::<&str, _>(6)?)?,
        partition: row.try_get::<i32, _>(7)?.try_into()?,
        offset: row.try_get::<i64, _>(8)?.try_into()?,
    })
}

fn time(stored: Timestamptz) -> Result<Timestamp, BoxError> {
    stored.time().ok_or_else(|| "a time that never comes".into())
}
