//! What can be wrong with what was set aside.

use std::time::Duration;

use saga_core::store::{
    DeadLetter, DeadLetters, HeldKey, LetterAction, LetterFilter, LetterOperation, OperatedLetter,
    Redrive, Tick,
};
use saga_core::{MessageId, ParticipantName, SagaStore as _, StoreError};

use super::{Broken, Defect};

/// Every partition that a law uses.
const ANYWHERE: &[u32] = &[0, 1, 3, 4];
/// Every consumer that a law uses.
const ANYBODY: [ParticipantName; 2] =
    [ParticipantName::new("orchestrator"), ParticipantName::new("inventory")];

impl Redrive for Broken {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        match self.defect {
            Some(Defect::RedrivesUnasked | Defect::RedrivesForEver) => {
                self.ask_for(|_| true).await?;
            }
            Some(Defect::RedrivesAtOnce) => self.ask_for(|it| it.redrive_at.is_some()).await?,
            // What was set aside alone does not wait.
            Some(Defect::RedrivesInAnyOrder) => self.stop_waiting().await?,
            _ => {}
        }
        let partitions = if self.has(Defect::RedrivesFromAnywhere) { ANYWHERE } else { partitions };
        let lease = if self.has(Defect::RedrivesWithoutALease) { Duration::ZERO } else { lease };
        let consumers = if self.has(Defect::RedrivesToAnybody) {
            ANYBODY.to_vec()
        } else {
            vec![consumer.clone()]
        };
        let mut letters = Vec::new();
        for consumer in consumers {
            letters.extend(self.inner.redriven(&consumer, partitions, lease, limit).await?);
            while self.has(Defect::RedrivesAllOfThem)
                && let more = self.inner.redriven(&consumer, partitions, lease, limit).await?
                && !more.is_empty()
            {
                letters.extend(more);
            }
        }
        if self.has(Defect::RedrivesNoneWithoutAKey) {
            letters.retain(|letter| !letter.key.is_empty());
        }
        if self.has(Defect::CountsNoRedrives) {
            letters.iter_mut().for_each(|letter| letter.redrives = 0);
        }
        Ok(letters)
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        match self.defect {
            Some(Defect::SettlesNothing) => return Ok(()),
            Some(Defect::SettlesWhatFailedAgain) => {
                self.ask_for(|it| letters.contains(&it.id)).await?;
            }
            _ => {}
        }
        self.inner.settled(letters).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        let mut held = self.inner.held(consumer).await?;
        let letters = self.inner.dead_letters();
        match self.defect {
            Some(Defect::HoldsNothing) => held.clear(),
            Some(Defect::HoldsByTheLast) => {
                for key in &mut held {
                    let same = letters.iter().filter(|it| it.key == key.key);
                    key.first = same.map(|it| it.offset).max().unwrap_or(key.first);
                }
            }
            Some(Defect::HoldsWithoutAKey) => {
                held.extend(letters.iter().filter(|it| it.key.is_empty()).map(held_by));
            }
            Some(Defect::HoldsForAnybody) => {
                held.extend(letters.iter().filter(|it| it.consumer != *consumer).map(held_by));
            }
            _ => {}
        }
        Ok(held)
    }
}

impl DeadLetters for Broken {
    async fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let everything = LetterFilter::all();
        let filter = if self.has(Defect::IgnoresFilters) { &everything } else { filter };
        // One that is always there would never end.
        let is_stuck = self.has(Defect::ListsFromTheStart) && self.looked_before();
        let after = if is_stuck { None } else { after };
        let limit = if self.has(Defect::IgnoresLimits) { usize::MAX } else { limit };
        let mut letters = self.inner.letters(filter, after, limit).await?;
        while self.has(Defect::ListsAllOfThem)
            && let after = letters.last().map(|letter| letter.id)
            && let more = self.inner.letters(filter, after, limit).await?
            && !more.is_empty()
        {
            letters.extend(more);
        }
        if self.has(Defect::ForgetsTries) {
            letters.iter_mut().for_each(|letter| letter.attempts = 0);
        }
        Ok(letters)
    }

    async fn operate(
        &self,
        operation: &LetterOperation,
        letters: &[(MessageId, Duration)],
    ) -> Result<usize, StoreError> {
        let all: Vec<_> =
            self.inner.dead_letters().iter().map(|it| (it.id, Duration::ZERO)).collect();
        match (self.defect, operation.action) {
            (Some(Defect::DiscardsNothing), LetterAction::Discard) => Ok(letters.len()),
            (Some(Defect::DiscardsEverything), LetterAction::Discard) => {
                self.inner.operate(operation, &all).await?;
                Ok(letters.len())
            }
            _ => self.inner.operate(operation, letters).await,
        }
    }

    async fn operations(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OperatedLetter>, StoreError> {
        match self.defect {
            Some(Defect::ForgetsOperations) => Ok(Vec::new()),
            Some(Defect::NumbersFromTheStart) => self.inner.operations(0, limit).await,
            _ => self.inner.operations(after, limit).await,
        }
    }
}

impl Broken {
    /// Asks for letters that nobody has asked for.
    async fn ask_for(&self, which: impl Fn(&DeadLetter) -> bool) -> Result<(), StoreError> {
        let letters = self.inner.dead_letters();
        let letters = letters.iter().filter(|letter| which(letter));
        let ids: Vec<_> = letters.map(|it| (it.id, Duration::ZERO)).collect();
        let (by, reason) = (String::new(), String::new());
        let redrive = LetterOperation { by, reason, action: LetterAction::Redrive };
        self.inner.operate(&redrive, &ids).await.map(drop)
    }

    /// Sets what waits aside once more, as if it did not, and asks for it.
    async fn stop_waiting(&self) -> Result<(), StoreError> {
        let mut waiting = self.inner.dead_letters();
        waiting.retain(|letter| letter.waits);
        let ids: Vec<_> = waiting.iter().map(|letter| letter.id).collect();
        let dead_letters =
            waiting.into_iter().map(|it| DeadLetter { waits: false, ..it }).collect();
        self.inner.commit(Tick { dead_letters, ..Tick::default() }).await?;
        self.ask_for(|letter| ids.contains(&letter.id)).await
    }

    fn looked_before(&self) -> bool {
        let mut notes = self.notes();
        notes.looks += 1;
        notes.looks == 2
    }
}

fn held_by(letter: &DeadLetter) -> HeldKey {
    let DeadLetter { topic, partition, key, offset, .. } = letter.clone();
    HeldKey { topic, partition, key, first: offset }
}
