//! What must hold at every moment of a run, not only at its end.

use std::collections::{HashMap, HashSet};

use saga_core::message::Envelope;
use saga_core::store::{DeadLetter, Lane, OutboxRow, Version};
use saga_core::{MessageId, OutboxId, SagaId};

/// What services have made durable and what they have let go.
#[derive(Debug, Default)]
pub(super) struct Audit {
    versions: HashMap<SagaId, Version>,
    /// The messages of every row that was ever committed.
    rows: HashMap<OutboxId, Vec<MessageId>>,
    /// In which lane, and at which place of it, a message was committed first.
    places: HashMap<MessageId, (Lane, usize)>,
    /// The messages of a lane, in the order that they were committed first.
    lanes: HashMap<Lane, Vec<MessageId>>,
    published: HashSet<MessageId>,
    /// Commands whose answer is durable.
    answered: HashSet<MessageId>,
    flaws: Vec<String>,
}

impl Audit {
    /// Versions of a saga have no gap and no fork.
    pub(super) fn committed(&mut self, commits: &[(SagaId, Version)]) {
        for &(saga, expected) in commits {
            let version = self.versions.entry(saga).or_default();
            if *version != expected {
                let Version(version) = *version;
                let Version(expected) = expected;
                self.flaws.push(format!(
                    "a commit that was decided on version {expected} was taken at version {version}"
                ));
            }
            *version = version.next();
        }
    }

    pub(super) fn enqueued(&mut self, rows: &[OutboxRow]) {
        for row in rows {
            let envelopes = envelopes(row);
            self.answered.extend(envelopes.iter().filter_map(|envelope| envelope.causation));
            for id in envelopes.iter().map(|envelope| envelope.id) {
                let lane = self.lanes.entry(row.lane.clone()).or_default();
                self.places.entry(id).or_insert_with(|| {
                    lane.push(id);
                    (row.lane.clone(), lane.len() - 1)
                });
            }
            self.rows.insert(row.id, envelopes.iter().map(|envelope| envelope.id).collect());
        }
    }

    /// A row is deleted only when the broker has what is in it.
    pub(super) fn deleted(&mut self, rows: &[OutboxId]) {
        let messages = rows.iter().filter_map(|row| self.rows.get(row)).flatten();
        if messages.clone().any(|message| !self.published.contains(message)) {
            self.flaws.push("a row of the outbox was deleted before the broker had it".to_owned());
        }
    }

    /// Messages appear first in the order in which they were committed.
    pub(super) fn published(&mut self, message: MessageId) {
        if !self.published.insert(message) {
            return;
        }
        let Some((lane, place)) = self.places.get(&message) else { return };
        if self.lanes[lane][..*place].iter().any(|before| !self.published.contains(before)) {
            self.flaws.push("a message has overtaken one that was committed before it".to_owned());
        }
    }

    /// A command is acknowledged only when its answer is durable.
    pub(super) fn acknowledged(&mut self, command: MessageId) {
        if !self.answered.contains(&command) {
            self.flaws.push("a command was acknowledged before its answer was durable".to_owned());
        }
    }

    /// A reply is acknowledged only when its step does not wait for it any more.
    pub(super) fn reply_acknowledged(&mut self, is_awaited: bool) {
        if is_awaited {
            self.flaws.push("a reply was acknowledged before what it says was durable".to_owned());
        }
    }

    /// A participant of a saga sets nothing aside.
    pub(super) fn set_aside(&mut self, letters: &[DeadLetter]) {
        let flaws = letters.iter().map(|it| format!("a message was set aside: {}", it.detail));
        self.flaws.extend(flaws);
    }

    /// Returns the lanes that anything was committed to.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        self.lanes.keys().cloned().collect()
    }

    /// What was committed to these lanes is published, or waits in the outbox.
    pub(super) fn waiting(&mut self, lanes: &[Lane], rows: &[OutboxRow]) {
        let waiting: HashSet<_> = rows.iter().flat_map(envelopes).map(|it| it.id).collect();
        let mut messages = lanes.iter().filter_map(|lane| self.lanes.get(lane)).flatten();
        if messages.any(|it| !self.published.contains(it) && !waiting.contains(it)) {
            self.flaws
                .push("what a message tells of is durable, and the message is lost".to_owned());
        }
    }

    pub(super) fn flaw(&self) -> Option<&String> {
        self.flaws.first()
    }
}

pub(super) fn envelopes(row: &OutboxRow) -> Vec<Envelope> {
    let records = row.records().unwrap_or_default();
    records.into_iter().filter_map(|record| Envelope::decode(record.value).ok()).collect()
}
