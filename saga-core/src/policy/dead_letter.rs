//! When a message is set aside, and what is kept of it.

use crate::store::DeadLetter;
use crate::transport::Record;

/// Makes the record for the dead-letter topic.
#[must_use]
pub fn record(letter: &DeadLetter) -> Record {
    Record {
        topic: letter.topic.dead_letters(),
        partition: None,
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers: letter.headers.clone(),
    }
}
