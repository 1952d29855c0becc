//! Publishes committed outbox rows in order, and again after a failure.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::policy::retry::Backoff;
use crate::store::{Lane, OutboxRow, StoreError};
use crate::transport::erased::{DynPublisher, DynTransport};
use crate::transport::{Receipt, Record, TransportError};
use crate::{OutboxId, Timestamp, Topic};

/// How long to wait before a failed publisher is replaced.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// Most bytes that wait in memory for the broker; what is committed beyond waits in the outbox.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many rows are read back at once: the first time, and at least and at most when their size is known.
const PAGE_FIRST: usize = 64;
const PAGE_MIN: usize = 16;
const PAGE_MAX: usize = 4096;

/// Most rows that are on their way while forgotten ones are searched for: they are read as well.
const SEARCHED_MAX: usize = 1000;

/// How long one that has nothing to commit waits before it deletes what it has sent.
pub(crate) const TIDY_AFTER: Duration = Duration::from_millis(200);

/// How long a shutdown waits for the broker.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Rows on their way to the broker, in the order that they were committed.
///
/// A row leaves only when the broker has acknowledged it. After a failure the publisher is
/// replaced and everything that is left is published again, in order: nothing overtakes.
///
/// A lane is *behind* while the store may have rows of it that are not here: an earlier owner left
/// them, or there was no room. Until all of them are read back, what is newly committed for the lane waits in
/// the store too.
pub(crate) struct Outlet {
    transport: Arc<dyn DynTransport>,
    publisher: Option<Arc<dyn DynPublisher>>,
    rows: VecDeque<Row>,
    bytes: usize,
    acknowledged: Vec<OutboxId>,
    /// Numbers of lanes.
    behind: BTreeSet<u32>,
    /// How many rows are read back at once.
    page: usize,
    failures: u32,
    /// When a failed publisher may be replaced: a point in time, so that a dropped wait goes on.
    retry_at: Option<Instant>,
}

/// An outbox row that was committed, with what is in it.
pub(crate) struct Committed {
    id: OutboxId,
    lane: u32,
    records: Vec<Record>,
}

impl Committed {
    /// Makes an outbox row of a lane, and keeps what is in it at hand.
    pub(crate) fn new(lane: Lane, records: &[Record]) -> (OutboxRow, Self) {
        let number = lane.number();
        let row = OutboxRow::new(lane, records);
        let committed = Self { id: row.id, lane: number, records: records.to_vec() };
        (row, committed)
    }
}

struct Row {
    id: OutboxId,
    lane: u32,
    records: Vec<Record>,
    bytes: usize,
    receipt: Option<Receipt>,
}

impl Outlet {
    pub(crate) fn new(transport: Arc<dyn DynTransport>) -> Self {
        Self {
            transport,
            publisher: None,
            rows: VecDeque::new(),
            bytes: 0,
            acknowledged: Vec::new(),
            behind: BTreeSet::new(),
            page: PAGE_FIRST,
            failures: 0,
            retry_at: None,
        }
    }

    /// Puts a row in line that was just committed, or leaves it in the store if it would overtake or not fit.
    pub(crate) fn push(&mut self, committed: Committed) {
        let lane = committed.lane;
        if self.behind.contains(&lane) {
            return;
        }
        if self.has_room() {
            self.put(committed);
        } else {
            warn!(lane, "the broker takes too little; messages wait in the outbox");
            self.behind.insert(lane);
        }
    }

    fn put(&mut self, committed: Committed) {
        let Committed { id, lane, records } = committed;
        let bytes = records.iter().map(|record| record.value.len() + 128).sum();
        let receipt = self.publisher.as_ref().map(|publisher| publisher.publish(records.clone()));
        self.bytes += bytes;
        self.rows.push_back(Row { id, lane, records, bytes, receipt });
    }

    /// Puts rows of the outbox in line; one that cannot be read stays where it is.
    pub(crate) fn push_rows(&mut self, rows: Vec<OutboxRow>) {
        for row in rows {
            match row.records() {
                Ok(records) => {
                    self.put(Committed { id: row.id, lane: row.lane.number(), records });
                }
                Err(error) => {
                    warn!(row = %row.id, lane = %row.lane, %error, "outbox row cannot be read; it stays in the outbox");
                }
            }
        }
    }

    /// Returns true if the row is on its way or was sent and is still to be deleted.
    pub(crate) fn holds(&self, id: OutboxId) -> bool {
        self.acknowledged.contains(&id) || self.rows.iter().any(|row| row.id == id)
    }

    /// Returns false while the broker takes nothing and enough waits for it in memory.
    pub(crate) const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Returns true if everything is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the number of rows that are on their way or still to be deleted.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.acknowledged.len()
    }

    /// Returns true if rows wait to be deleted.
    pub(crate) fn has_acknowledged(&self) -> bool {
        !self.acknowledged.is_empty()
    }

    /// Notes that the store may have rows of these lanes that are not here.
    pub(crate) fn fall_behind(&mut self, lanes: impl IntoIterator<Item = u32>) {
        self.behind.extend(lanes);
    }

    /// Notes that nothing more is to be read back of these lanes: all of it is here, or somebody else publishes it.
    pub(crate) fn leave(&mut self, lanes: impl IntoIterator<Item = u32>) {
        for lane in lanes {
            self.behind.remove(&lane);
        }
    }

    /// Returns the lanes that can be read back now, and how many rows: those of which nothing is on its way.
    ///
    /// What is acknowledged is to be deleted first, so that it is not read again.
    pub(crate) fn to_read_back(&self) -> Option<(Vec<u32>, usize)> {
        if self.behind.is_empty() || !self.has_room() {
            return None;
        }
        let on_their_way: BTreeSet<_> = self.rows.iter().map(|row| row.lane).collect();
        let lanes: Vec<_> = self.behind.difference(&on_their_way).copied().collect();
        (!lanes.is_empty()).then_some((lanes, self.page))
    }

    /// Puts rows in line that were read back. Fewer than were asked for are all that there were.
    pub(crate) fn read_back(&mut self, lanes: &[u32], limit: usize, mut rows: Vec<OutboxRow>) {
        let is_last = rows.len() < limit;
        rows.retain(|row| !self.holds(row.id));
        let (count, bytes) = (rows.len(), rows.iter().map(|row| row.body.len()).sum::<usize>());
        let before = self.rows.len();
        self.push_rows(rows);
        let pushed = self.rows.len() - before;
        if pushed > 0 {
            info!(rows = pushed, "publishing what waits in the outbox");
        }
        let none_is_readable = count > 0 && pushed == 0;
        if none_is_readable {
            self.page = (limit * 2).min(PAGE_MAX);
        } else if count > 0 {
            self.page = (BYTES_MAX / 2 * count / bytes.max(1)).clamp(PAGE_MIN, PAGE_MAX);
        }
        // Rows that are still to be deleted are asked for again when they are; rows that cannot be
        // read stay, so a larger page looks behind them, and the largest is as far as it goes.
        if is_last || (none_is_readable && limit >= PAGE_MAX) {
            self.leave(lanes.iter().copied());
        }
    }

    /// Returns how many rows to read in search of forgotten ones; nothing if now is no time for it.
    pub(crate) fn search_limit(&self) -> Option<usize> {
        let may_search = self.behind.is_empty() && self.len() < SEARCHED_MAX;
        may_search.then(|| self.len() + PAGE_FIRST)
    }

    /// Notes the lanes of rows that an earlier owner committed after we had looked, and then died.
    pub(crate) fn searched(&mut self, unsent: Result<Vec<OutboxRow>, StoreError>, now: Timestamp) {
        match unsent {
            Ok(rows) => {
                let forgotten = |row: &&OutboxRow| row.is_forgotten(now) && !self.holds(row.id);
                let lanes: Vec<_> =
                    rows.iter().filter(forgotten).map(|row| row.lane.number()).collect();
                self.fall_behind(lanes);
            }
            Err(error) => warn!(%error, "the outbox cannot be read; trying again"),
        }
    }

    /// Notes whether the rows of [`take_acknowledged`](Self::take_acknowledged) were deleted; if not, they are kept for later.
    pub(crate) fn deleted(&mut self, rows: Vec<OutboxId>, result: Result<(), StoreError>) {
        if let Err(error) = result {
            warn!(
                error = &error as &dyn std::error::Error,
                "sent outbox rows cannot be deleted; trying again later"
            );
            self.put_back_acknowledged(rows);
        }
    }

    /// Takes note of all that the broker has acknowledged by now, without waiting.
    pub(crate) fn collect(&mut self) {
        while self.progress().now_or_never().is_some() {}
    }

    /// Waits until the broker has everything, at most 5 s.
    pub(crate) async fn drain(&mut self) {
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            while !self.is_empty() {
                self.progress().await;
            }
        });
        if drained.await.is_err() {
            warn!(
                rows = self.rows.len(),
                "the broker did not take everything in time; the next owner of the lanes publishes it"
            );
        }
    }

    /// Returns the rows that the broker has since acknowledged; they can be deleted.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<OutboxId> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Takes back rows that could not be deleted yet.
    pub(crate) fn put_back_acknowledged(&mut self, rows: Vec<OutboxId>) {
        self.acknowledged.extend(rows);
    }

    /// Returns the number of partitions of a topic.
    pub(crate) async fn partitions(&mut self, topic: &Topic) -> Result<u32, TransportError> {
        self.publisher().await?.partitions(topic).await
    }

    /// Waits until the broker acknowledges the row at the front; replaces the publisher if it has failed.
    ///
    /// Never returns while there is nothing to wait for. May be dropped and called again at any time.
    pub(crate) async fn progress(&mut self) {
        if self.rows.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Err(error) = self.front_acknowledged().await {
            warn!(
                rows = self.rows.len(),
                error = &error as &dyn std::error::Error,
                "publishing failed; a new publisher will publish again what was not acknowledged"
            );
            self.publisher = None;
            self.rows.iter_mut().for_each(|row| row.receipt = None);
            self.failures += 1;
            self.retry_at = Some(Instant::now() + BACKOFF.delay(self.failures, 0));
        }
    }

    async fn front_acknowledged(&mut self) -> Result<(), TransportError> {
        self.publisher().await?;
        let front = self.rows.front_mut().expect("the caller saw a row");
        front.receipt.as_mut().expect("a publisher has taken every row").await?;
        // No await from here on: a dropped call must not lose what the receipt said.
        let front = self.rows.pop_front().expect("the caller saw a row");
        self.bytes -= front.bytes;
        self.acknowledged.push(front.id);
        self.failures = 0;
        Ok(())
    }

    /// Returns the publisher; a new one first takes everything that is left.
    async fn publisher(&mut self) -> Result<&Arc<dyn DynPublisher>, TransportError> {
        if self.publisher.is_none() {
            if let Some(retry_at) = self.retry_at {
                tokio::time::sleep_until(retry_at).await;
            }
            let publisher = self.transport.publisher().await?;
            for row in &mut self.rows {
                row.receipt = Some(publisher.publish(row.records.clone()));
            }
            self.publisher = Some(publisher);
        }
        Ok(self.publisher.as_ref().expect("it was just made"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ParticipantName;
    use crate::transport::MemoryTransport;
    use crate::transport::erased::Erased;

    const LANE: u32 = 3;

    fn row_of(lane: u32) -> OutboxRow {
        OutboxRow::new(Lane::new(ParticipantName::new("shop"), lane), &[])
    }

    fn row() -> OutboxRow {
        row_of(LANE)
    }

    fn outlet() -> Outlet {
        Outlet::new(Arc::new(Erased(MemoryTransport::new())))
    }

    #[test]
    fn rows_that_are_still_to_be_deleted_do_not_hide_those_that_wait_behind_them() {
        let mut outlet = outlet();
        let sent = [row(), row()];
        outlet.put_back_acknowledged(sent.iter().map(|it| it.id).collect());
        outlet.fall_behind([LANE]);
        outlet.read_back(&[LANE], sent.len(), sent.to_vec());
        assert!(
            outlet.to_read_back().is_some(),
            "a full page tells nothing about what comes after it"
        );
        outlet.read_back(&[LANE], 16, vec![row()]);
        assert_eq!(outlet.rows.len(), 1, "what was read last goes out");
        assert!(outlet.behind.is_empty(), "a page that is not full is the last");
    }

    #[test]
    fn a_page_that_cannot_be_read_does_not_hide_what_waits_behind_it() {
        let mut outlet = outlet();
        outlet.fall_behind([LANE]);
        let broken = || OutboxRow { body: Bytes::from_static(b"no records"), ..row() };
        let mut pages = 0;
        while let Some((lanes, limit)) = outlet.to_read_back() {
            outlet.read_back(&lanes, limit, (0..limit).map(|_| broken()).collect());
            pages += 1;
        }
        assert_eq!(pages, 7, "64 rows, then twice as many, until the page is the largest");

        outlet.fall_behind([LANE]);
        let (lanes, limit) = outlet.to_read_back().expect("the lane is behind");
        outlet.read_back(&lanes, limit, vec![broken(), row()]);
        assert_eq!(outlet.rows.len(), 1, "what can be read goes out");
    }

    #[test]
    fn a_lane_with_rows_on_their_way_holds_no_other_up() {
        let mut outlet = outlet();
        outlet.push_rows(vec![row()]);
        outlet.fall_behind([LANE, LANE + 1]);
        let (lanes, _) =
            outlet.to_read_back().expect("a lane is behind and has nothing on its way");
        assert_eq!(lanes, [LANE + 1]);
        outlet.read_back(&lanes, 16, vec![row_of(LANE + 1)]);
        assert!(outlet.to_read_back().is_none(), "the other one would be overtaken");
    }
}
