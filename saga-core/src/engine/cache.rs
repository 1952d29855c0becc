//! Running sagas in memory, so that a reply need not read its saga from the store.

use std::collections::HashMap;

use super::work::Work;
use crate::SagaId;

/// The sagas that were committed last, in two generations: when the young one is full it becomes
/// the old one, and what nobody took from the old one meanwhile is forgotten.
pub(super) struct Cache {
    young: HashMap<SagaId, Work>,
    old: HashMap<SagaId, Work>,
    generation_max: usize,
}

impl Cache {
    /// Makes a cache of at most `sagas` sagas.
    pub(super) fn new(sagas: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (sagas / 2).max(1) }
    }

    pub(super) fn take(&mut self, saga: SagaId) -> Option<Work> {
        self.young.remove(&saga).or_else(|| self.old.remove(&saga))
    }

    pub(super) fn contains(&self, saga: SagaId) -> bool {
        self.young.contains_key(&saga) || self.old.contains_key(&saga)
    }

    /// Forgets the sagas of homes that another engine owns now: it commits them, and what is here gets old.
    pub(super) fn keep_homes(&mut self, is_ours: impl Fn(u32) -> bool) {
        self.young.retain(|_, work| is_ours(work.home));
        self.old.retain(|_, work| is_ours(work.home));
    }

    pub(super) fn put(&mut self, mut work: Work) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        work.is_cached = true;
        self.young.insert(work.saga, work);
    }
}
