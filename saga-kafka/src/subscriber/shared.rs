//! What the member's thread hands over, and what comes back: deliveries and acknowledgements.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use saga_core::TransportError;
use saga_core::transport::{Delivery, Partition, Position, Received, Watermark};
use tokio::sync::Notify;

/// How many records wait at most, give or take what one look at the broker brings.
const QUEUED: usize = 10_000;
/// How many bytes wait at most, give or take one record.
const QUEUED_BYTES: usize = 16 << 20;

/// Counts ownerships in this process, so that no two subscribers share a generation.
static GENERATION: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something can be received.
    pub(super) wake: Notify,
    /// Something was received, or the subscriber closes.
    taken: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    queued: usize,
    queued_bytes: usize,
    held: HashMap<Partition, Held>,
    is_closing: bool,
}

enum Item {
    Delivery(Delivery),
    Change(Result<Received, TransportError>),
}

/// One period of ownership of a partition.
struct Held {
    generation: u64,
    /// The offset that is stored, as far as is known; none at the beginning.
    stored: Option<u64>,
    /// From the first delivery on.
    watermark: Option<Watermark>,
    /// The first offset that was not delivered.
    next: Option<u64>,
}

impl Held {
    /// The offset to store, if it has moved.
    fn moved(&self) -> Option<u64> {
        let position = self.watermark.as_ref()?.position();
        (self.stored != Some(position)).then_some(position)
    }
}

/// Where a partition goes on: none is the beginning.
pub(super) type Start = (Partition, Option<u64>);

impl Shared {
    pub(super) fn receive(&self, limit: usize) -> Option<Result<Received, TransportError>> {
        let mut state = self.lock();
        let received = state.receive(limit);
        if received.is_some() {
            self.taken.notify_one();
        }
        received
    }

    pub(super) fn acknowledge(&self, positions: &[Position]) {
        let mut state = self.lock();
        for Position { topic, partition, offset, generation } in positions {
            let partition = Partition { topic: topic.clone(), number: *partition };
            let held = state.held.get_mut(&partition);
            // A partition that was lost meanwhile is another member's, who receives it again.
            let Some(held) = held.filter(|held| held.generation == *generation) else { continue };
            if let Some(watermark) = &mut held.watermark {
                watermark.acknowledge(*offset);
            }
        }
    }

    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.taken.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().is_closing
    }

    pub(super) fn assign(&self, starts: Vec<Start>) {
        if starts.is_empty() {
            return;
        }
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let mut partitions = Vec::with_capacity(starts.len());
        for (partition, start) in starts {
            partitions.push(partition.clone());
            let held = Held { generation, stored: start, watermark: None, next: start };
            state.held.insert(partition, held);
        }
        state.queue.push_back(Item::Change(Ok(Received::Assigned(partitions))));
        self.wake.notify_one();
    }

    /// Takes partitions away, with what was not received of them; returns the offsets to store.
    pub(super) fn revoke(&self, partitions: Vec<Partition>) -> Vec<(Partition, u64)> {
        let mut state = self.lock();
        let mut moved = Vec::new();
        let mut lost = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(held) = state.held.remove(&partition) {
                moved.extend(held.moved().map(|offset| (partition.clone(), offset)));
                lost.push(partition);
            }
        }
        if !lost.is_empty() {
            state.forget_lost();
            state.queue.push_back(Item::Change(Ok(Received::Revoked(lost))));
            self.wake.notify_one();
        }
        moved
    }

    pub(super) fn revoke_all(&self) -> Vec<(Partition, u64)> {
        let all = self.lock().held.keys().cloned().collect();
        self.revoke(all)
    }

    /// Queues deliveries in order; `generation` is filled in.
    pub(super) fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        let mut state = self.lock();
        for delivery in deliveries.drain(..) {
            state.deliver(delivery);
        }
        self.wake.notify_one();
    }

    pub(super) fn report(&self, error: TransportError) {
        self.lock().queue.push_back(Item::Change(Err(error)));
        self.wake.notify_one();
    }

    /// Returns the offsets that have moved since they were stored, as stored from now on.
    pub(super) fn take_moved(&self) -> Vec<(Partition, u64)> {
        let mut state = self.lock();
        let moved = state.held.iter_mut().filter_map(|(partition, held)| {
            let offset = held.moved()?;
            held.stored = Some(offset);
            Some((partition.clone(), offset))
        });
        moved.collect()
    }

    /// Notes that storing the offset of a partition failed, so that it is tried again.
    pub(super) fn not_stored(&self, partition: &Partition) {
        if let Some(held) = self.lock().held.get_mut(partition) {
            held.stored = None;
        }
    }

    /// Where every held partition goes on.
    pub(super) fn positions(&self) -> Vec<Start> {
        self.lock().held.iter().map(|(partition, held)| (partition.clone(), held.next)).collect()
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// Whether so much was taken that fetching is worth its start.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.queued < QUEUED / 2 && state.queued_bytes < QUEUED_BYTES / 2
    }

    /// Waits until something was taken of a full queue, and returns whether it still is full.
    pub(super) fn await_room(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .taken
            .wait_timeout_while(state, timeout, |state| state.is_full() && !state.is_closing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_full()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn receive(&mut self, limit: usize) -> Option<Result<Received, TransportError>> {
        let mut deliveries = Vec::new();
        while deliveries.len() < limit {
            match self.queue.pop_front() {
                Some(Item::Delivery(delivery)) => deliveries.push(delivery),
                Some(Item::Change(change)) if deliveries.is_empty() => return Some(change),
                Some(change) => {
                    self.queue.push_front(change);
                    break;
                }
                None => break,
            }
        }
        self.queued -= deliveries.len();
        self.queued_bytes -= deliveries.iter().map(size).sum::<usize>();
        (!deliveries.is_empty()).then_some(Ok(Received::Deliveries(deliveries)))
    }

    fn deliver(&mut self, mut delivery: Delivery) {
        let Position { topic, partition, offset, .. } = &delivery.position;
        let (partition, offset) = (Partition { topic: topic.clone(), number: *partition }, *offset);
        let Some(held) = self.held.get_mut(&partition) else { return };
        // After a pause or a new leader the client may hand out again what it did before.
        if held.next.is_some_and(|next| offset < next) {
            return;
        }
        held.next = Some(offset + 1);
        let watermark = held.watermark.get_or_insert_with(|| {
            // Nothing is stored until something is acknowledged, also if the start was a hole.
            held.stored = Some(offset);
            Watermark::new(offset)
        });
        watermark.delivered(offset);
        delivery.position.generation = held.generation;
        self.queued += 1;
        self.queued_bytes += size(&delivery);
        self.queue.push_back(Item::Delivery(delivery));
    }

    /// Drops the queued deliveries of partitions that are not held.
    fn forget_lost(&mut self) {
        let held = &self.held;
        self.queue.retain(|item| match item {
            Item::Change(_) => true,
            Item::Delivery(Delivery { position, .. }) => {
                let Position { topic, partition, .. } = position;
                held.contains_key(&Partition { topic: topic.clone(), number: *partition })
            }
        });
        let queued = self.queue.iter().filter_map(|item| match item {
            Item::Delivery(delivery) => Some(size(delivery)),
            Item::Change(_) => None,
        });
        (self.queued, self.queued_bytes) =
            queued.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    }

    const fn is_full(&self) -> bool {
        self.queued >= QUEUED || self.queued_bytes >= QUEUED_BYTES
    }
}

/// Returns how many bytes a delivery takes in memory.
pub(super) fn size(delivery: &Delivery) -> usize {
    let headers = delivery.headers.iter();
    let headers = headers.map(|it| size_of_val(it) + it.0.len() + it.1.len()).sum::<usize>();
    delivery.key.len() + delivery.value.len() + headers
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("queued", &state.queued)
            .field("held", &state.held.len())
            .field("is_closing", &state.is_closing)
            .finish_non_exhaustive()
    }
}
