//! What is published of a message that was set aside.

use bytes::Bytes;

use crate::message::ENVELOPE_BYTES_MAX;
use crate::store::DeadLetter;
use crate::transport::Record;

/// Header with the name of the topic that the message was received from.
pub const ORIGINAL_TOPIC: &str = "kafka_dlt-original-topic";
/// Header with the number of the partition that the message was received in: 4 bytes, big-endian.
pub const ORIGINAL_PARTITION: &str = "kafka_dlt-original-partition";
/// Header with the message's place in the partition: 8 bytes, big-endian.
pub const ORIGINAL_OFFSET: &str = "kafka_dlt-original-offset";
/// Header with when the message was produced, in milliseconds since 1970-01-01 UTC: 8 bytes, big-endian.
pub const ORIGINAL_TIMESTAMP: &str = "kafka_dlt-original-timestamp";
/// Header with what was found, for a person.
pub const EXCEPTION_MESSAGE: &str = "kafka_dlt-exception-message";
/// Header with why the message was set aside: a short class such as `undecodable`.
pub const REASON: &str = "ow-dlq-reason";
/// Header with how often it was tried to handle the message, in digits: since it was received, or handed out again.
pub const ATTEMPTS: &str = "ow-dlq-attempts";

/// Header with the size of a value that is left out because the message is too large to be sent on
/// with more headers. If need be, the original headers and the key are left out too; the store keeps
/// all of it.
pub const VALUE_OMITTED: &str = "ow-dlq-value-omitted";

/// Returns the record for the dead-letter topic of the topic that the message was received from.
///
/// Key, value and headers are the message's own, byte for byte; behind them come the headers that
/// Spring Kafka writes, which dead-letter tools know, [`REASON`] and [`ATTEMPTS`]. A message that is set aside
/// twice carries both sets, and the last one is the latest. The record goes where its key's hash
/// points at: the dead-letter topic may have another size than the original one.
///
/// # Examples
///
/// ```
/// # use bytes::Bytes;
/// use saga_core::policy::dead_letter;
/// # use saga_core::{MessageId, ParticipantName, Timestamp, Topic, store::DeadLetter};
/// # let letter = DeadLetter {
/// #     id: MessageId::now(),
/// #     consumer: ParticipantName::new("orders"),
/// #     topic: Topic::new("orders.events"),
/// #     partition: 3,
/// #     offset: 7,
/// #     timestamp: Timestamp::from_micros(1_000_999),
/// #     key: Bytes::from_static(b"key"),
/// #     value: Bytes::from_static(b"\xff"),
/// #     headers: vec![],
/// #     reason: "undecodable".to_owned(),
/// #     detail: "no envelope".to_owned(),
/// #     attempts: 0,
/// #     waits: false,
/// #     redrives: 0,
/// #     redrive_at: None,
/// # };
/// let record = dead_letter::record(&letter);
/// assert_eq!(record.topic.as_str(), "orders.events.dlq");
/// assert_eq!((record.key, record.value), (letter.key, letter.value));
/// ```
#[must_use]
pub fn record(letter: &DeadLetter) -> Record {
    let millis = letter.timestamp.as_micros().div_euclid(1_000);
    let added = [
        (ORIGINAL_TOPIC, text(letter.topic.as_str())),
        (ORIGINAL_PARTITION, Bytes::copy_from_slice(&letter.partition.to_be_bytes())),
        (ORIGINAL_OFFSET, Bytes::copy_from_slice(&letter.offset.to_be_bytes())),
        (ORIGINAL_TIMESTAMP, Bytes::copy_from_slice(&millis.to_be_bytes())),
        (EXCEPTION_MESSAGE, text(&letter.detail)),
        (REASON, text(&letter.reason)),
        (ATTEMPTS, text(&letter.attempts.to_string())),
    ];
    let added = added.map(|(name, value)| (name.to_owned(), value));
    let mut record = Record {
        topic: letter.topic.dead_letters(),
        partition: None,
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers: letter.headers.iter().cloned().chain(added.clone()).collect(),
    };
    if record.size() > ENVELOPE_BYTES_MAX {
        let omitted = (VALUE_OMITTED.to_owned(), text(&letter.value.len().to_string()));
        record.headers.push(omitted.clone());
        record.value = Bytes::new();
        if record.size() > ENVELOPE_BYTES_MAX {
            record.headers = added.into_iter().chain([omitted]).collect();
        }
        if record.size() > ENVELOPE_BYTES_MAX {
            record.key = Bytes::new();
        }
    }
    record
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Delivery, Position};
    use crate::{ParticipantName, Timestamp, Topic};

    fn letter(key: usize, value: usize, headers: Vec<(String, Bytes)>) -> DeadLetter {
        let position =
            Position { topic: Topic::new("orders.events"), partition: 0, offset: 0, generation: 0 };
        let (key, value) = (vec![b'k'; key].into(), vec![b'v'; value].into());
        let delivery = Delivery { position, key, value, headers, timestamp: Timestamp::default() };
        let consumer = ParticipantName::new("orders");
        DeadLetter::new(&consumer, delivery, "undecodable", "a test made it")
    }

    #[test]
    fn a_message_is_sent_on_with_its_value_as_long_as_there_is_room() {
        let added = record(&letter(3, 0, Vec::new())).size();
        for (value, is_kept) in [
            (ENVELOPE_BYTES_MAX - added - 1, true),
            (ENVELOPE_BYTES_MAX - added, true),
            (ENVELOPE_BYTES_MAX - added + 1, false),
        ] {
            let record = record(&letter(3, value, Vec::new()));
            assert!(record.size() <= ENVELOPE_BYTES_MAX, "{value} bytes");
            assert_eq!(record.value.len(), if is_kept { value } else { 0 });
            assert_eq!(record.key, "kkk");
            let omitted = record.headers.iter().find(|(name, _)| name == VALUE_OMITTED);
            let size = omitted.map(|(_, size)| size.clone());
            assert_eq!(size, (!is_kept).then(|| text(&value.to_string())), "{value} bytes");
        }
    }

    #[test]
    fn whatever_is_large_a_dead_letter_can_be_sent() {
        let many = vec![(String::new(), Bytes::new()); 500_000];
        let large = vec![("h".to_owned(), Bytes::from(vec![b'h'; ENVELOPE_BYTES_MAX]))];
        for (key, value, headers) in [
            (ENVELOPE_BYTES_MAX, 0, Vec::new()),
            (1_040_000, 10, Vec::new()),
            (10, 10 << 20, Vec::new()),
            (0, 0, many.clone()),
            (10, 10, large.clone()),
            (1_040_000, 10 << 20, large),
        ] {
            let record = record(&letter(key, value, headers));
            assert!(record.size() <= ENVELOPE_BYTES_MAX, "{key} {value}: {}", record.size());
            let reason = record.headers.iter().find(|(name, _)| name == REASON);
            assert_eq!(reason.map(|(_, reason)| reason.clone()), Some(text("undecodable")));
            assert_eq!(record.key.len(), if key < 100 { key } else { 0 });
        }
    }

    #[test]
    fn a_dead_letter_keeps_the_message_and_says_where_it_came_from() {
        let original = ("trace".to_owned(), Bytes::from_static(b"\x01\x00\xfe"));
        let letter = DeadLetter {
            partition: 258,
            offset: 66_051,
            timestamp: Timestamp::from_micros(1_767_225_600_123_456),
            key: Bytes::from_static(b"\x00key\xff"),
            value: Bytes::from_static(b"\x00no envelope\xff"),
            headers: vec![original.clone(), original.clone()],
            detail: "unexpected byte".to_owned(),
            attempts: 3,
            ..letter(0, 0, Vec::new())
        };
        let header = |name: &str, value: &[u8]| (name.to_owned(), Bytes::copy_from_slice(value));
        let expected = Record {
            topic: Topic::new("orders.events.dlq"),
            partition: None,
            key: letter.key.clone(),
            value: letter.value.clone(),
            headers: vec![
                original.clone(),
                original,
                header("kafka_dlt-original-topic", b"orders.events"),
                header("kafka_dlt-original-partition", &[0, 0, 1, 2]),
                header("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 1, 2, 3]),
                header("kafka_dlt-original-timestamp", &1_767_225_600_123_i64.to_be_bytes()),
                header("kafka_dlt-exception-message", b"unexpected byte"),
                header("ow-dlq-reason", b"undecodable"),
                header("ow-dlq-attempts", b"3"),
            ],
        };
        assert_eq!(record(&letter), expected);
    }
}
