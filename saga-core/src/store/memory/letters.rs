//! Messages that were set aside, in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::store::{
    DeadLetter, HeldKey, LETTER_BYTES_MAX, LetterAction, LetterFilter, LetterOperation,
    OperatedLetter, REDRIVE_TRIES,
};
use crate::{MessageId, ParticipantName, Timestamp, Topic};

/// Where a letter was received, and by whom.
type Place = (ParticipantName, Topic, u32, u64);

#[derive(Default)]
pub(super) struct Letters {
    letters: BTreeMap<Place, Letter>,
    operations: Vec<OperatedLetter>,
}

struct Letter {
    letter: DeadLetter,
    /// It is handed out until it has been this often.
    redrives_max: u32,
}

impl Letters {
    /// Sets a message aside. One that was set aside before stays, and is not asked for any more.
    pub(super) fn set_aside(&mut self, letter: DeadLetter, now: Timestamp) {
        let place =
            (letter.consumer.clone(), letter.topic.clone(), letter.partition, letter.offset);
        if let Some(known) = self.letters.get_mut(&place) {
            let known = &mut known.letter;
            if !letter.waits {
                // It is the first one's commit that is made once more, if nobody has read it since.
                let earlier = if letter.id == known.id { 0 } else { known.attempts };
                known.attempts = letter.attempts.saturating_add(earlier);
                known.reason = letter.reason;
                known.detail = letter.detail;
                known.waits = false;
                known.redrive_at = None;
            }
            return;
        }
        let (redrive_at, redrives_max) =
            if letter.waits { (Some(now), REDRIVE_TRIES) } else { (None, 0) };
        let letter = DeadLetter { redrive_at, ..letter };
        self.letters.insert(place, Letter { letter, redrives_max });
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &DeadLetter> {
        self.letters.values().map(|it| &it.letter)
    }

    /// Lists letters by their ids, as many as may go through somebody's memory at once.
    pub(super) fn page(
        &self,
        filter: &LetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let mut page: Vec<_> =
            self.all().filter(|it| filter.matches(it) && Some(it.id) > after).collect();
        page.sort_by_key(|letter| letter.id);
        let mut has_room = room();
        page.into_iter().take(limit).take_while(|letter| has_room(letter)).cloned().collect()
    }

    pub(super) fn redriven(
        &mut self,
        consumer: &ParticipantName,
        partitions: &[u32],
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let held = self.held(consumer);
        let due = self.letters.values_mut().filter(|it| {
            let letter = &it.letter;
            letter.consumer == *consumer
                && partitions.contains(&letter.partition)
                && letter.redrives < it.redrives_max
                && letter.redrive_at.is_some_and(|at| at <= now)
                && (!letter.waits || letter.key.is_empty() || held.contains(&held_by(letter)))
        });
        let mut due: Vec<_> = due.map(|it| &mut it.letter).collect();
        due.sort_by_key(|letter| letter.redrive_at);
        let mut has_room = room();
        let fits = |letter: &&mut DeadLetter| has_room(letter);
        let taken = due.into_iter().take(limit).take_while(fits).map(|letter| {
            letter.redrives += 1;
            letter.redrive_at = Some(now + lease);
            letter.clone()
        });
        taken.collect()
    }

    pub(super) fn settled(&mut self, letters: &[MessageId]) {
        self.letters.retain(|_, Letter { letter, .. }| {
            letter.redrive_at.is_none() || !letters.contains(&letter.id)
        });
    }

    pub(super) fn held(&self, consumer: &ParticipantName) -> Vec<HeldKey> {
        let mut firsts: BTreeMap<(Topic, u32, Bytes), HeldKey> = BTreeMap::new();
        // In the order of their offsets, so that the first is met first.
        for letter in self.all().filter(|it| it.consumer == *consumer && !it.key.is_empty()) {
            let key = (letter.topic.clone(), letter.partition, letter.key.clone());
            firsts.entry(key).or_insert_with(|| held_by(letter));
        }
        firsts.into_values().collect()
    }

    pub(super) fn operate(
        &mut self,
        operation: &LetterOperation,
        letters: &[(MessageId, Duration)],
        now: Timestamp,
    ) -> usize {
        let pauses: BTreeMap<_, _> = letters.iter().copied().collect();
        let mut operated = 0;
        for Letter { letter, redrives_max } in self.letters.values_mut() {
            let Some(&pause) = pauses.get(&letter.id) else { continue };
            operated += 1;
            if operation.action == LetterAction::Redrive {
                letter.redrive_at = Some(now + pause);
                *redrives_max = letter.redrives.saturating_add(REDRIVE_TRIES);
            }
            self.operations.push(OperatedLetter {
                number: self.operations.len() as u64 + 1,
                at: now,
                operation: operation.clone(),
                letter: letter.id,
                topic: letter.topic.clone(),
                partition: letter.partition,
                offset: letter.offset,
            });
        }
        if operation.action == LetterAction::Discard {
            self.letters.retain(|_, it| !pauses.contains_key(&it.letter.id));
        }
        operated
    }

    pub(super) fn operations(&self, after: u64, limit: usize) -> Vec<OperatedLetter> {
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        self.operations.iter().skip(after).take(limit).cloned().collect()
    }
}

/// Returns what says, letter after letter, whether it may still go along.
fn room() -> impl FnMut(&DeadLetter) -> bool {
    let mut bytes = 0;
    move |letter| {
        let has_room = bytes < LETTER_BYTES_MAX;
        // One that is empty takes memory as well.
        let headers = letter.headers.iter().map(|(name, value)| name.len() + value.len() + 64);
        bytes += letter.key.len() + letter.value.len() + headers.sum::<usize>();
        has_room
    }
}

/// The key of a letter, as if it was the first of it.
fn held_by(letter: &DeadLetter) -> HeldKey {
    HeldKey {
        topic: letter.topic.clone(),
        partition: letter.partition,
        key: letter.key.clone(),
        first: letter.offset,
    }
}
