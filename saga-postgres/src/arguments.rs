//! Ticks and handled commands as the arrays that our functions take.
//!
//! Every array is sorted by what its rows are locked by, so that two calls never wait for each
//! other in a circle.

use saga_core::OutboxId;
use saga_core::participant::{Handled, InboxRecord};
use saga_core::store::{Commit, DeadLetter, NewSaga, OutboxRow, StoreError, Tick, WakeAt};
use sqlx::postgres::{PgArguments, PgBindIterExt as _, PgHasArrayType};
use sqlx::{Arguments as _, Encode, Postgres, Type};

use crate::error;
use crate::value::{Timestamptz, fit, status_code};

const COMMIT: &str = "commit";
const RECORD: &str = "record";

/// The parameters of `commit_tick`, and of `keep_dead_letters` if there are any.
pub(crate) fn of_tick(tick: &Tick) -> Result<PgArguments, StoreError> {
    let mut commits: Vec<&Commit> = tick.commits.iter().collect();
    commits.sort_unstable_by_key(|commit| commit.saga);
    let mut arguments = Arrays::new(COMMIT);
    arguments.updates(&commits)?;
    arguments.starts(&commits)?;
    arguments.history(&commits)?;
    arguments.outbox(&tick.outbox)?;
    arguments.sent(&tick.sent)?;
    arguments.dead_letters(&tick.dead_letters)?;
    Ok(arguments.values)
}

/// The parameters of `record_handled`, and of `keep_dead_letters` if there are any.
pub(crate) fn of_handled(handled: &Handled) -> Result<PgArguments, StoreError> {
    let mut arguments = Arrays::new(RECORD);
    arguments.records(&handled.records)?;
    arguments.outbox(&handled.outbox)?;
    arguments.sent(&handled.sent)?;
    arguments.dead_letters(&handled.dead_letters)?;
    Ok(arguments.values)
}

struct Arrays {
    operation: &'static str,
    values: PgArguments,
}

impl Arrays {
    fn new(operation: &'static str) -> Self {
        Self { operation, values: PgArguments::default() }
    }

    /// Adds one parameter. Nothing is copied in between: the items go into the message at once.
    fn add<'a, T>(&mut self, items: impl Iterator<Item = T>) -> Result<(), StoreError>
    where
        T: Encode<'a, Postgres> + Type<Postgres> + PgHasArrayType,
    {
        let added = self.values.add(items.bind_iter());
        added.map_err(|problem| error::refused(self.operation, problem))
    }

    /// Adds one parameter of numbers that may not fit.
    fn add_fitted<U, I>(
        &mut self,
        field: &'static str,
        items: impl Iterator<Item = U>,
    ) -> Result<(), StoreError>
    where
        U: Copy + Into<u64> + TryInto<I>,
        I: for<'a> Encode<'a, Postgres> + Type<Postgres> + PgHasArrayType,
    {
        let fitted: Vec<I> =
            items.map(|item| fit(self.operation, field, item)).collect::<Result<_, _>>()?;
        self.add(fitted.iter())
    }

    fn updates(&mut self, commits: &[&Commit]) -> Result<(), StoreError> {
        let updates = || commits.iter().filter(|commit| commit.new.is_none());
        self.add(updates().map(|commit| commit.saga.0))?;
        self.add_fitted::<u64, i64>("version", updates().map(|commit| commit.expected.0))?;
        self.add(updates().map(|commit| status_code(commit.status)))?;
        self.add(updates().map(|commit| wake_at(commit)))?;
        self.add(updates().map(|commit| &commit.state[..]))
    }

    fn starts(&mut self, commits: &[&Commit]) -> Result<(), StoreError> {
        let starts = || commits.iter().filter_map(|commit| Some((*commit, commit.new.as_ref()?)));
        if commits.iter().any(|commit| commit.new.is_some() != (commit.expected.0 == 0)) {
            let problem = "a commit must have a new saga exactly if it expects version 0";
            return Err(error::refused(self.operation, problem));
        }
        self.add(starts().map(|(commit, _)| commit.saga.0))?;
        self.add(starts().map(|(_, new)| new.name.as_str()))?;
        let versions = starts().map(|(_, new)| new.definition_version);
        self.add_fitted::<u32, i32>("definition version", versions)?;
        self.add(starts().map(|(_, new)| new.fingerprint.cast_signed()))?;
        self.add(starts().map(|(commit, _)| status_code(commit.status)))?;
        self.add_fitted::<u32, i32>("home partition", starts().map(|(_, new)| new.home))?;
        // There is nothing to keep yet.
        self.add(starts().map(|(commit, _)| wake_at(commit).unwrap_or(Timestamptz::INFINITY)))?;
        self.add(starts().map(|(commit, _)| &commit.state[..]))?;
        self.add(starts().map(|(_, new)| key(new)))?;

        let mut keyed: Vec<_> = starts()
            .filter_map(|(commit, new)| Some((new.name.as_str(), key(new)?, commit.saga.0)))
            .collect();
        keyed.sort_unstable();
        self.add(keyed.iter().map(|(name, _, _)| *name))?;
        self.add(keyed.iter().map(|(_, key, _)| *key))?;
        self.add(keyed.iter().map(|(_, _, saga)| *saga))
    }

    fn history(&mut self, commits: &[&Commit]) -> Result<(), StoreError> {
        let entries = || commits.iter().filter(|commit| !commit.history.is_empty());
        self.add(entries().map(|commit| commit.saga.0))?;
        let versions = entries().map(|commit| commit.expected.next().0);
        self.add_fitted::<u64, i64>("version", versions)?;
        self.add(entries().map(|commit| &commit.history[..]))
    }

    fn records(&mut self, records: &[InboxRecord]) -> Result<(), StoreError> {
        let mut records: Vec<&InboxRecord> = records.iter().collect();
        records.sort_unstable_by_key(|record| record.command);
        self.add(records.iter().map(|record| record.command.0))?;
        self.add(records.iter().map(|record| &record.reply[..]))
    }

    /// Keeps the order: it becomes the order of positions.
    fn outbox(&mut self, rows: &[OutboxRow]) -> Result<(), StoreError> {
        self.add(rows.iter().map(|row| row.id.0))?;
        self.add(rows.iter().map(|row| row.lane.owner().as_str()))?;
        self.add_fitted::<u32, i32>("lane", rows.iter().map(|row| row.lane.number()))?;
        self.add(rows.iter().map(|row| &row.body[..]))
    }

    fn sent(&mut self, rows: &[OutboxId]) -> Result<(), StoreError> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        self.add(rows.iter().map(|row| row.0))
    }

    fn dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut letters: Vec<&DeadLetter> = letters.iter().collect();
        letters.sort_by_key(|it| (it.consumer.as_str(), &it.topic, it.partition, it.offset));
        self.add(letters.iter().map(|letter| letter.id.0))?;
        self.add(letters.iter().map(|letter| letter.consumer.as_str()))?;
        self.add(letters.iter().map(|letter| letter.topic.as_str()))?;
        let partitions = letters.iter().map(|letter| letter.partition);
        self.add_fitted::<u32, i32>("partition", partitions)?;
        self.add_fitted::<u64, i64>("offset", letters.iter().map(|letter| letter.offset))?;
        self.add(letters.iter().map(|letter| Timestamptz::from(letter.timestamp)))?;
        self.add(letters.iter().map(|letter| &letter.key[..]))?;
        self.add(letters.iter().map(|letter| &letter.value[..]))?;
        self.add(letters.iter().map(|letter| printable(&letter.reason)))?;
        self.add(letters.iter().map(|letter| printable(&letter.detail)))?;
        self.add_fitted::<u32, i32>("attempts", letters.iter().map(|letter| letter.attempts))?;
        self.add(letters.iter().map(|letter| letter.waits))?;
        self.headers(&letters)
    }

    /// Headers of all letters in a row, and where those of each begin and end, counted from 1.
    fn headers(&mut self, letters: &[&DeadLetter]) -> Result<(), StoreError> {
        let mut ends = Vec::with_capacity(letters.len());
        let mut end = 0_usize;
        for letter in letters {
            end += letter.headers.len();
            ends.push(end as u64);
        }
        let firsts = std::iter::once(1).chain(ends.iter().map(|end| end + 1)).take(ends.len());
        self.add_fitted::<u64, i32>("number of headers", firsts)?;
        self.add_fitted::<u64, i32>("number of headers", ends.iter().copied())?;
        let headers = || letters.iter().flat_map(|letter| &letter.headers);
        self.add(headers().map(|(name, _)| name.as_bytes()))?;
        self.add(headers().map(|(_, value)| &value[..]))
    }
}

/// What is stored as the wake time: `None` keeps what is there.
fn wake_at(commit: &Commit) -> Option<Timestamptz> {
    // Nothing is due in a saga that has ended, whatever it waited for before.
    if commit.status.is_final() {
        return Some(Timestamptz::INFINITY);
    }
    match commit.wake_at {
        WakeAt::Keep => None,
        WakeAt::At(time) => Some(time.into()),
        WakeAt::Never => Some(Timestamptz::INFINITY),
    }
}

fn key(new: &NewSaga) -> Option<&str> {
    Some(new.key.as_ref()?.as_str())
}

/// Setting a message aside must not fail on what is said about it: a text cannot hold NUL.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
