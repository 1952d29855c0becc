//! Order under a key: what comes after a message that was set aside waits behind it.

use std::collections::HashMap;

use bytes::Bytes;
use tracing::info;

use crate::store::{DeadLetter, HeldKey};
use crate::transport::Delivery;
use crate::{ParticipantName, Topic};

/// The reason of a fact that waits.
const WAITS: &str = "waits-for-its-key";

/// The keys whose facts wait, with the place of the first letter of each.
#[derive(Default)]
pub(crate) struct Held {
    firsts: HashMap<(Topic, u32, Bytes), u64>,
    /// False if the store must be asked again.
    is_known: bool,
}

impl Held {
    /// Notes that the store knows better.
    pub(crate) const fn forget(&mut self) {
        self.is_known = false;
    }

    /// Returns false if the store must be asked.
    pub(crate) const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Takes over what the store knows.
    pub(crate) fn learn(&mut self, keys: Vec<HeldKey>) {
        let firsts = keys.into_iter().map(|it| ((it.topic, it.partition, it.key), it.first));
        self.firsts = firsts.collect();
        self.is_known = true;
    }

    /// Lets later facts of a letter's key wait.
    pub(crate) fn hold(&mut self, letter: &DeadLetter) {
        if !letter.key.is_empty() {
            let key = (letter.topic.clone(), letter.partition, letter.key.clone());
            let first = self.firsts.entry(key).or_insert(letter.offset);
            *first = letter.offset.min(*first);
        }
    }

    /// Returns true for a fact that must wait: one of its key before it was set aside.
    pub(crate) fn holds(&self, fact: &Delivery) -> bool {
        self.first(fact).is_some_and(|first| first < fact.position.offset)
    }

    /// Returns true for a fact that was set aside itself.
    pub(crate) fn has(&self, fact: &Delivery) -> bool {
        self.first(fact) == Some(fact.position.offset)
    }

    /// Returns the place of the first letter of a fact's key.
    fn first(&self, fact: &Delivery) -> Option<u64> {
        // Most often nothing is held, and then nothing is to be copied.
        if self.firsts.is_empty() {
            return None;
        }
        let at = &fact.position;
        self.firsts.get(&(at.topic.clone(), at.partition, fact.key.clone())).copied()
    }
}

/// Makes the letter of a fact that waits behind what was set aside of its key. Nobody has to be told.
pub(crate) fn waiting(consumer: &ParticipantName, fact: Delivery) -> DeadLetter {
    info!(topic = %fact.position.topic, partition = fact.position.partition, offset = fact.position.offset, "fact waits: one of its key before it was set aside");
    let detail = "a message of its key before it was set aside";
    DeadLetter { waits: true, ..DeadLetter::new(consumer, fact, WAITS, detail) }
}
