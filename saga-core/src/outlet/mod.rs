//! Publishes committed outbox rows in order, and again after a failure.

mod behind;
mod refused;
mod telemetry;

use std::collections::btree_map::Entry;
use std::collections::hash_map;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::warn;

use crate::policy::retry::Backoff;
use crate::store::{Lane, OutboxRow, StoreError};
use crate::transport::erased::{DynPublisher, DynTransport};
use crate::transport::{Receipt, Record, TransportError};
use crate::{OutboxId, ParticipantName, Topic};

use refused::Refused;
use telemetry::Telemetry;

/// How long to wait before a failed publisher is replaced.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// Most bytes that wait in memory for the broker; what is committed beyond waits in the outbox.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many bytes are read back at once; more only if none of so many can be read, and then at most that.
pub(crate) const PAGE: usize = BYTES_MAX / 2;
const PAGE_MAX: usize = 4 * PAGE;

/// How many bytes are searched for forgotten rows. No more than that may be on its way: it is read as well.
const SEARCHED: usize = 1024 * 1024;

/// How long one that has nothing to commit waits before it deletes what it has sent.
pub(crate) const TIDY_AFTER: Duration = Duration::from_millis(200);

/// How long the broker takes at most for what it takes.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// How long a shutdown waits for the broker.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Rows on their way to the broker, in the order that they were committed.
///
/// A row leaves only when the broker has acknowledged it. After a failure the publisher is
/// replaced and everything that is left is published again, in order: nothing overtakes.
///
/// If the broker *refuses* something, rows are published one record at a time until it is known which
/// one. That one waits with what follows under its key, and everything else goes on.
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
    /// Those of them that are not read back while there is no room behind what is refused.
    standing: BTreeSet<u32>,
    /// How many rows of each lane are on their way.
    on_their_way: BTreeMap<u32, usize>,
    /// How many bytes are read back at once.
    page: usize,
    failures: u32,
    refused: Refused,
    /// How many rows are still to be published one record at a time, because one of them is refused.
    suspects: usize,
    /// How many parts of a row are left beside the one that is acknowledged first.
    parts_left: HashMap<OutboxId, u32>,
    /// When a failed publisher may be replaced: a point in time, so that a dropped wait goes on.
    retry_at: Option<Instant>,
    telemetry: Telemetry,
}

/// An outbox row that was committed, with what is in it.
pub(crate) struct Committed {
    id: OutboxId,
    lane: u32,
    bytes: usize,
    records: Vec<Record>,
}

impl Committed {
    /// Makes an outbox row of a lane, and keeps what is in it at hand.
    pub(crate) fn new(lane: Lane, records: &[Record]) -> (OutboxRow, Self) {
        let number = lane.number();
        let row = OutboxRow::new(lane, records);
        let bytes = row.body.len();
        let committed = Self { id: row.id, lane: number, bytes, records: records.to_vec() };
        (row, committed)
    }

    pub(crate) const fn lane(&self) -> u32 {
        self.lane
    }
}

struct Row {
    id: OutboxId,
    lane: u32,
    records: Vec<Record>,
    bytes: usize,
    since: Instant,
    receipt: Option<Receipt>,
}

impl Outlet {
    /// Makes the outlet of a service.
    pub(crate) fn new(transport: Arc<dyn DynTransport>, service: &ParticipantName) -> Self {
        Self {
            transport,
            publisher: None,
            rows: VecDeque::new(),
            bytes: 0,
            acknowledged: Vec::new(),
            behind: BTreeSet::new(),
            standing: BTreeSet::new(),
            on_their_way: BTreeMap::new(),
            page: PAGE,
            failures: 0,
            refused: Refused::default(),
            suspects: 0,
            parts_left: HashMap::new(),
            retry_at: None,
            telemetry: Telemetry::new(service),
        }
    }

    /// Puts a row in line that was just committed, or leaves it in the store if it would overtake or not fit.
    pub(crate) fn push(&mut self, committed: Committed) {
        let lane = committed.lane;
        if self.behind.contains(&lane) {
            return;
        }
        if !self.has_room() {
            warn!(lane, "the broker takes too little; messages wait in the outbox");
            self.behind.insert(lane);
        } else if !self.put(committed) {
            self.stand_still(lane);
        }
    }

    /// Puts a row in line. Returns false if there is no room for what must wait behind something
    /// refused: then the row stays in the store, with all that follows in its lane.
    fn put(&mut self, committed: Committed) -> bool {
        let Committed { id, lane, bytes, records } = committed;
        let mut row = Row { id, lane, records, bytes, since: Instant::now(), receipt: None };
        if self.refused.is_full() && row.records.iter().any(|it| self.refused.holds(it)) {
            warn!(lane, "the broker refuses too much; messages wait in the outbox");
            return false;
        }
        if self.refused.take_from(&mut row) {
            if row.records.is_empty() {
                return true;
            }
            *self.parts_left.entry(id).or_default() += 1;
        }
        if let Some(publisher) = self.publisher.as_ref()
            && self.suspects == 0
        {
            row.receipt = Some(publisher.publish(row.records.clone()));
        }
        self.bytes += row.bytes;
        *self.on_their_way.entry(row.lane).or_default() += 1;
        self.rows.push_back(row);
        self.tell();
        true
    }

    /// Puts rows of the outbox in line; one that cannot be read stays where it is. Returns the lanes
    /// of which some must stay there for now.
    pub(crate) fn push_rows(&mut self, rows: Vec<OutboxRow>) -> BTreeSet<u32> {
        let mut stand_still = BTreeSet::new();
        for row in rows {
            let lane = row.lane.number();
            if stand_still.contains(&lane) {
                continue;
            }
            match row.records() {
                Ok(records) => {
                    let bytes = row.body.len();
                    if !self.put(Committed { id: row.id, lane, bytes, records }) {
                        stand_still.insert(lane);
                    }
                }
                Err(error) => {
                    warn!(row = %row.id, lane = %row.lane, %error, "outbox row cannot be read; it stays in the outbox");
                }
            }
        }
        stand_still
    }

    /// Returns the rows that are here: on their way, refused, or sent and still to be deleted.
    pub(crate) fn held(&self) -> HashSet<OutboxId> {
        let acknowledged = self.acknowledged.iter().copied();
        self.rows.iter().map(|row| row.id).chain(self.refused.ids()).chain(acknowledged).collect()
    }

    /// Returns false while the broker takes nothing and enough waits for it in memory.
    pub(crate) const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Returns true if the broker has taken nothing for so long that it must be away.
    pub(crate) fn is_stalled(&self) -> bool {
        self.rows.front().is_some_and(|oldest| oldest.since.elapsed() > STALLED_AFTER)
    }

    /// Returns true if everything is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns how many bytes are on their way, or refused.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.refused.bytes()
    }

    /// Returns true if rows wait to be deleted.
    pub(crate) fn has_acknowledged(&self) -> bool {
        !self.acknowledged.is_empty()
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
        self.tell();
    }

    /// Tells what has waited longest.
    fn tell(&self) {
        let (front, refused) = (self.rows.front().map(|row| row.id), self.refused.ids().next());
        self.telemetry.waits(front.into_iter().chain(refused).min());
    }

    /// Waits until the broker has everything, at most 3 s.
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

    /// Waits until the broker acknowledges something at the front; replaces the publisher if it has failed.
    ///
    /// Never returns while there is nothing to wait for. May be dropped and called again at any time.
    pub(crate) async fn progress(&mut self) {
        match self.refused.retry_at() {
            None if self.rows.is_empty() => std::future::pending().await,
            Some(at) if self.rows.is_empty() => tokio::time::sleep_until(at).await,
            _ => {}
        }
        if self.refused.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.try_refused_again();
        }
        if !self.rows.is_empty()
            && let Err(error) = self.front_acknowledged().await
        {
            self.recover(&error);
        }
    }

    async fn front_acknowledged(&mut self) -> Result<(), TransportError> {
        self.publisher().await?;
        let front = self.rows.front_mut().expect("the caller saw a row");
        front.receipt.as_mut().expect("a publisher has taken it").await?;
        // No await from here on: a dropped call must not lose what the receipt said.
        self.failures = 0;
        if self.suspects == 0 {
            self.refused.accepted(&front.records);
            self.front_is_done();
            return Ok(());
        }
        let published = front.records.drain(..1.min(front.records.len()));
        self.refused.accepted(published.as_slice());
        drop(published);
        front.receipt = None;
        if front.records.is_empty() {
            self.front_is_done();
            self.clear_suspect();
        }
        Ok(())
    }

    fn front_is_done(&mut self) {
        let front = self.rows.pop_front().expect("the caller saw a row");
        self.bytes -= front.bytes;
        self.is_off(front.lane);
        match self.parts_left.entry(front.id) {
            hash_map::Entry::Occupied(mut parts) => {
                *parts.get_mut() -= 1;
                if *parts.get() == 0 {
                    parts.remove();
                }
            }
            hash_map::Entry::Vacant(_) => {
                self.telemetry.published(front.id);
                self.acknowledged.push(front.id);
            }
        }
    }

    /// Notes that one row less of a lane is on its way.
    fn is_off(&mut self, lane: u32) {
        if let Entry::Occupied(mut rows) = self.on_their_way.entry(lane) {
            *rows.get_mut() -= 1;
            if *rows.get() == 0 {
                rows.remove();
            }
        }
    }

    fn publish_all(&mut self) {
        let Some(publisher) = &self.publisher else { return };
        for row in self.rows.iter_mut().filter(|row| row.receipt.is_none()) {
            row.receipt = Some(publisher.publish(row.records.clone()));
        }
    }

    /// Returns the publisher; a new one first takes everything that is left, or the first record of it.
    async fn publisher(&mut self) -> Result<&Arc<dyn DynPublisher>, TransportError> {
        if self.publisher.is_none() {
            if let Some(retry_at) = self.retry_at {
                tokio::time::sleep_until(retry_at).await;
            }
            self.publisher = Some(self.transport.publisher().await?);
            if self.suspects == 0 {
                self.publish_all();
            }
        }
        let publisher = self.publisher.as_ref().expect("it was just made");
        if let Some(front) = self.rows.front_mut()
            && front.receipt.is_none()
        {
            front.receipt =
                Some(publisher.publish(front.records.iter().take(1).cloned().collect()));
        }
        Ok(publisher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        Outlet::new(Arc::new(Erased(MemoryTransport::new())), &ParticipantName::new("shop"))
    }

    #[test]
    fn rows_that_are_still_to_be_deleted_do_not_hide_those_that_wait_behind_them() {
        let mut outlet = outlet();
        let sent = [row(), row()];
        outlet.put_back_acknowledged(sent.iter().map(|it| it.id).collect());
        outlet.fall_behind([LANE]);
        assert!(!outlet.read_back(&[LANE], 0, sent.to_vec()), "they are to be deleted first");
        assert!(
            outlet.to_read_back().is_some(),
            "a full page tells nothing about what comes after it"
        );
        outlet.read_back(&[LANE], PAGE, vec![row()]);
        assert_eq!(outlet.rows.len(), 1, "what was read last goes out");
        assert!(outlet.behind.is_empty(), "a page that is not full is the last");
    }

    #[test]
    fn a_page_that_cannot_be_read_does_not_hide_what_waits_behind_it() {
        let mut outlet = outlet();
        outlet.fall_behind([LANE, LANE + 1]);
        let broken = |bytes| OutboxRow { body: vec![b'?'; bytes].into(), ..row() };
        let mut pages = Vec::new();
        while let Some((lanes, bytes)) = outlet.to_read_back()
            && lanes.contains(&LANE)
        {
            pages.push(bytes / PAGE);
            assert!(outlet.read_back(&lanes, bytes, vec![broken(bytes)]), "there is more to read");
        }
        assert_eq!(pages, [1, 2, 4], "twice as many, until the page is the largest");
        let (lanes, bytes) = outlet.to_read_back().expect("the other lane is still behind");
        assert_eq!((lanes, bytes), (vec![LANE + 1], PAGE));

        outlet.fall_behind([LANE]);
        let (lanes, bytes) = outlet.to_read_back().expect("the lane is behind");
        outlet.read_back(&lanes, bytes, vec![broken(10), row()]);
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
        outlet.read_back(&lanes, PAGE, vec![row_of(LANE + 1)]);
        assert!(outlet.to_read_back().is_none(), "the other one would be overtaken");
    }

    /// One of five that are too much for what waits behind something refused.
    fn large(key: &'static str) -> Record {
        let topic = ParticipantName::new("shop").events();
        let value = vec![0; 900_000].into();
        Record { topic, partition: None, key: key.into(), value, headers: Vec::new() }
    }

    fn row_with(lane: u32, records: &[Record]) -> OutboxRow {
        OutboxRow::new(Lane::new(ParticipantName::new("shop"), lane), records)
    }

    fn refusal() -> TransportError {
        TransportError::Refused {
            topic: ParticipantName::new("shop").events(),
            source: "no".into(),
        }
    }

    #[test]
    fn a_lane_that_finds_no_room_behind_what_is_refused_holds_no_other_up() {
        let mut outlet = outlet();
        outlet.refused.note(&large("a"), row().id, &refusal());
        outlet.fall_behind([LANE, LANE + 1]);
        let (lanes, asked) = outlet.to_read_back().expect("both lanes are behind");
        let page = (0..20).map(|_| row_with(LANE, &[large("a")])).collect();
        assert!(outlet.read_back(&lanes, asked, page), "there may be more");
        assert!(outlet.refused.is_full());
        assert_eq!(outlet.to_read_back(), Some((vec![LANE + 1], PAGE)));
        outlet.read_back(&[LANE + 1], PAGE, vec![row_with(LANE + 1, &[large("b")])]);
        assert_eq!(outlet.rows.len(), 1, "another key goes out");
        assert_eq!(outlet.to_read_back(), None);

        outlet.leave([LANE]);
        outlet.fall_behind([LANE]);
        assert_eq!(outlet.to_read_back(), Some((vec![LANE], PAGE)), "there is room again");
    }

    #[test]
    fn a_row_whose_refused_parts_went_to_another_owner_is_sent_once_when_it_comes_back() {
        let mut outlet = outlet();
        let row = row_with(LANE, &["a", "b", "c"].map(large));
        outlet.refused.note(&large("a"), row.id, &refusal());
        outlet.push_rows(vec![row.clone()]);
        outlet.set_aside(&refusal());
        assert_eq!(outlet.rows[0].records, [large("c")]);
        outlet.front_is_done();
        outlet.leave([LANE]);

        outlet.fall_behind([LANE]);
        outlet.read_back(&[LANE], PAGE, vec![row.clone()]);
        outlet.front_is_done();
        assert!(outlet.take_acknowledged().is_empty(), "the refused part is still to be sent");
        outlet.try_refused_again();
        assert_eq!(outlet.rows[0].records, ["a", "b"].map(large));
        outlet.front_is_done();
        assert_eq!(outlet.take_acknowledged(), [row.id]);
    }
}
