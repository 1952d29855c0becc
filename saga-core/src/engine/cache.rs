//! Running sagas in memory, so that a reply need not read its saga from the store.

use std::collections::HashMap;

use super::work::Work;
use crate::SagaId;

/// Most bytes of all that is kept, as it is stored.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The sagas that were committed last, in two generations: when the young one is full it becomes
/// the old one, and what nobody took from the old one meanwhile is forgotten.
pub(super) struct Cache {
    young: HashMap<SagaId, Work>,
    young_bytes: usize,
    old: HashMap<SagaId, Work>,
    generation_max: usize,
}

impl Cache {
    /// Makes a cache of at most `sagas` sagas.
    pub(super) fn new(sagas: usize) -> Self {
        let generation_max = (sagas / 2).max(1);
        Self { young: HashMap::new(), young_bytes: 0, old: HashMap::new(), generation_max }
    }

    pub(super) fn take(&mut self, saga: SagaId) -> Option<Work> {
        match self.young.remove(&saga) {
            Some(work) => {
                self.young_bytes -= work.bytes;
                Some(work)
            }
            None => self.old.remove(&saga),
        }
    }

    pub(super) fn contains(&self, saga: SagaId) -> bool {
        self.young.contains_key(&saga) || self.old.contains_key(&saga)
    }

    /// Forgets the sagas of homes that another engine owns now: it commits them, and what is here gets old.
    pub(super) fn keep_homes(&mut self, is_ours: impl Fn(u32) -> bool) {
        self.young.retain(|_, work| is_ours(work.home));
        self.young_bytes = self.young.values().map(|work| work.bytes).sum();
        self.old.retain(|_, work| is_ours(work.home));
    }

    pub(super) fn put(&mut self, mut work: Work) {
        if self.young.len() >= self.generation_max || self.young_bytes >= BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        work.is_cached = true;
        self.young_bytes += work.bytes;
        if let Some(before) = self.young.insert(work.saga, work) {
            self.young_bytes -= before.bytes;
        }
    }
}
