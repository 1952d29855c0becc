//! What the broker refuses, and what must not overtake it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{BACKOFF, Outlet, Row};
use crate::policy::retry::Backoff;
use crate::transport::{Record, TransportError};
use crate::{OutboxId, Topic};

/// How long what was refused waits before it is tried again.
const PATIENCE: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_mins(1));
/// Once so many bytes wait in memory, what is newly committed behind them stays in the store.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// After so many refusals in a row nothing more of a topic is tried.
const STRIKES: u32 = 8;
/// So often a topic may be missing before it is an error: services that start together make theirs one by one.
const YOUNG: u32 = 3;

/// Records that the broker refuses, and those behind them under the same key.
///
/// They stay in the outbox, and are tried again until a person has raised the topic's limit, granted
/// access to it, or made it. Everything else goes on.
#[derive(Default)]
pub(super) struct Refused {
    /// Parts of rows, or whole ones, in the order in which they are to be published.
    rows: Vec<Row>,
    keys: HashSet<(Topic, bytes::Bytes)>,
    topics: HashSet<Topic>,
    /// Refusals of each topic since it took something.
    strikes: HashMap<Topic, u32>,
    tries: u32,
    retry_at: Option<Instant>,
}

impl Refused {
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns true if there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > BYTES_MAX
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = OutboxId> {
        self.rows.iter().map(|row| row.id)
    }

    /// Returns when they are to be tried again.
    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Notes a refusal: what is of the record's key, or of its topic if that takes nothing, has to wait.
    pub(super) fn note(&mut self, record: &Record, row: OutboxId, problem: &TransportError) {
        let strikes = self.strikes.entry(record.topic.clone()).or_default();
        *strikes += 1;
        let key = String::from_utf8_lossy(&record.key);
        let is_unknown = matches!(problem, TransportError::UnknownTopic { .. });
        if is_unknown && self.tries < YOUNG {
            info!(topic = %record.topic, "the topic is not there yet; what is for it waits in the outbox");
            self.topics.insert(record.topic.clone());
        } else if is_unknown || *strikes >= STRIKES {
            error!(
                topic = %record.topic, %row, error = problem as &dyn std::error::Error,
                "the broker takes nothing for this topic; it waits in the outbox and is tried again"
            );
            self.topics.insert(record.topic.clone());
        } else {
            error!(
                topic = %record.topic, %row, %key, bytes = record.size(),
                error = problem as &dyn std::error::Error,
                "the broker refuses a record; it waits in the outbox with what follows under its key, and is tried again"
            );
            self.keys.insert((record.topic.clone(), record.key.clone()));
        }
        if self.retry_at.is_none() {
            self.tries += 1;
            self.retry_at = Some(Instant::now() + PATIENCE.delay(self.tries, 0));
        }
    }

    /// Notes that a topic takes something.
    pub(super) fn accepted(&mut self, records: &[Record]) {
        if !self.strikes.is_empty() {
            records.iter().for_each(|it| _ = self.strikes.remove(&it.topic));
        }
    }

    /// Returns true if a record has to wait.
    pub(super) fn holds(&self, record: &Record) -> bool {
        self.topics.contains(&record.topic)
            || self.keys.contains(&(record.topic.clone(), record.key.clone()))
    }

    /// Takes out of a row what has to wait. Returns true if there was something.
    pub(super) fn take_from(&mut self, row: &mut Row) -> bool {
        if self.keys.is_empty() && self.topics.is_empty() {
            return false;
        }
        let records: Vec<_> = row.records.extract_if(.., |it| self.holds(it)).collect();
        if records.is_empty() {
            return false;
        }
        let bytes = records.iter().map(Record::size).sum::<usize>().min(row.bytes);
        row.bytes -= bytes;
        self.rows.push(Row { records, bytes, receipt: None, ..*row });
        true
    }

    /// Forgets the rows of a lane: whoever has it now finds them in the outbox.
    pub(super) fn forget(&mut self, lane: u32) {
        self.rows.retain(|row| row.lane != lane);
    }

    /// Returns everything, to be tried again.
    pub(super) fn take(&mut self) -> Vec<Row> {
        let Self { rows, tries, .. } = std::mem::take(self);
        self.tries = tries;
        rows
    }

    /// Notes that nothing is refused any more.
    pub(super) const fn settled(&mut self) {
        self.tries = 0;
    }
}

impl Outlet {
    /// Gives the publisher up, and finds out what is refused if something is.
    pub(super) fn recover(&mut self, error: &TransportError) {
        self.publisher = None;
        self.rows.iter_mut().for_each(|row| row.receipt = None);
        let is_refused =
            matches!(error, TransportError::Refused { .. } | TransportError::UnknownTopic { .. });
        if is_refused && self.suspects > 0 {
            self.set_aside(error);
            return;
        }
        if is_refused {
            // What travelled in one batch with the refused record is refused with it.
            self.suspects = self.rows.len();
        }
        warn!(
            rows = self.rows.len(),
            error = error as &dyn std::error::Error,
            "publishing failed; a new publisher will publish again what was not acknowledged"
        );
        self.failures += 1;
        self.retry_at = Some(Instant::now() + BACKOFF.delay(self.failures, 0));
    }

    /// Lets the record at the front wait, and whatever must not overtake it.
    pub(super) fn set_aside(&mut self, error: &TransportError) {
        let front = self.rows.front().expect("one of its records was refused");
        self.refused.note(&front.records[0], front.id, error);
        for mut row in std::mem::take(&mut self.rows) {
            let before = row.bytes;
            if !self.refused.take_from(&mut row) {
                self.rows.push_back(row);
                continue;
            }
            self.bytes -= before - row.bytes;
            if row.records.is_empty() {
                self.bytes -= row.bytes;
                self.is_off(row.lane);
            } else {
                *self.parts_left.entry(row.id).or_default() += 1;
                self.rows.push_back(row);
            }
        }
        self.suspects = 0;
    }

    /// Puts what was refused in front of everything else.
    pub(super) fn try_refused_again(&mut self) {
        let rows = self.refused.take();
        self.standing.clear();
        info!(rows = rows.len(), "publishing what was refused");
        self.suspects += rows.len();
        for row in rows.into_iter().rev() {
            self.bytes += row.bytes;
            *self.on_their_way.entry(row.lane).or_default() += 1;
            self.rows.push_front(Row { since: Instant::now(), ..row });
        }
    }

    /// Notes that nothing is wrong with a row that was suspected; behind the last one all is published at once.
    pub(super) fn clear_suspect(&mut self) {
        self.suspects -= 1;
        if self.suspects == 0 {
            if self.refused.is_empty() {
                self.refused.settled();
            }
            self.publish_all();
        }
    }
}
