//! Contract: messages that are durable and not yet sent.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::ids::{KEY_BYTES_MAX, made_at};
use crate::message::{Envelope, Kind, Message, PAYLOAD_BYTES_MAX};
use crate::telemetry::traceparent;
use crate::time::now;
use crate::transport::{RECORD_BYTES_MAX, Record};
use crate::wire;
use crate::{
    Codec, CodecError, CorrelationId, Fact, MessageId, OutboxId, ParticipantName, StoreError,
    Timestamp, Topic,
};

/// Messages that were committed together with the state that they follow from.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::store`:
///
/// - `unsent_rows_come_back_in_order`: per lane, in the order of their ids.
/// - `lanes_are_separate`.
/// - `sent_rows_are_gone_and_only_those`: a row that was never named in `sent` stays for ever.
/// - `a_lease_has_one_holder`: until it ends or is released; the holder may renew it.
pub trait Outbox: Send + Sync + 'static {
    /// Reads what is left in some lanes: lane by lane, and in a lane in the order that its rows were
    /// appended. The last one is that with which the bodies come to `bytes` or more; if they come to less,
    /// they are all that is left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn unsent(
        &self,
        lanes: &[Lane],
        bytes: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Deletes rows whose records the broker has acknowledged. Rows that are gone already are no error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the rows may or may not be gone, and the call can be repeated.
    fn sent(&self, rows: &[OutboxId]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes or renews the right to publish a lane for `duration` from now, by the store's clock.
    ///
    /// Returns false if another holder has it. `Duration::ZERO` releases what `holder` has. The right
    /// only keeps two relays from doing the same work: both publishing would double messages, which
    /// receivers drop, and lose none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// An ordered stream of outbox rows with one writer at a time: an input partition of a service, or
/// what applications enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    owner: ParticipantName,
    number: u32,
}

impl Lane {
    /// The lane of a service's input partition.
    #[must_use]
    pub const fn new(owner: ParticipantName, number: u32) -> Self {
        Self { owner, number }
    }

    /// The lane of what applications enqueue in their own transactions; a [`Relay`](crate::Relay) sends it.
    #[must_use]
    pub const fn application() -> Self {
        Self { owner: ParticipantName::new("application"), number: 0 }
    }

    /// Returns the service whose lane this is.
    #[must_use]
    pub const fn owner(&self) -> &ParticipantName {
        &self.owner
    }

    /// Returns the number of the input partition.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.number)
    }
}

/// How old an outbox row must be before it is taken for forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Records that were appended to a lane together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Names the row; made before it is stored.
    pub id: OutboxId,
    /// The lane that it is appended to.
    pub lane: Lane,
    /// The records, encoded.
    pub body: Bytes,
}

impl OutboxRow {
    /// Packs records into a new row.
    #[must_use]
    pub fn new(lane: Lane, records: &[Record]) -> Self {
        let records = records.iter().map(|record| wire::OutboxRecord {
            topic: record.topic.to_string(),
            partition: record.partition,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| wire::Header { name: name.clone(), value: value.clone() })
                .collect(),
        });
        let body = wire::OutboxBatch { records: records.collect() }.encode_to_vec().into();
        Self { id: OutboxId::now(), lane, body }
    }

    /// Makes a row of the [application lane](Lane::application) that tells a fact, published under `key`.
    ///
    /// Store it in the transaction that makes the fact true; a [`Relay`](crate::Relay) publishes it. For a transaction
    /// that makes many true, one row of many [records](Record::fact) costs less than one for each.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the fact cannot be encoded or the key is no [`CorrelationId`].
    pub fn fact<F: Fact>(fact: &F, key: &str) -> Result<Self, CodecError> {
        Ok(Self::new(Lane::application(), &[Record::fact(fact, key)?]))
    }

    /// Returns true if the row was made longer ago than a live process takes to publish it.
    ///
    /// An owner of a lane that is slow to die may commit after its successor has looked; its rows are
    /// found by their age, which is in their ids.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        made_at(self.id.0) + FORGOTTEN_AFTER < now
    }

    /// Unpacks the records.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the body is damaged, or a record in it has more than the million bytes that brokers take by
    /// default: whoever sends it would be refused again and again, and nothing behind it would leave.
    pub fn records(&self) -> Result<Vec<Record>, CodecError> {
        let batch = wire::OutboxBatch::decode(self.body.clone()).map_err(CodecError::new)?;
        let unpack = |record: wire::OutboxRecord| {
            let record = Record {
                topic: Topic::parse(&record.topic).map_err(CodecError::new)?,
                partition: record.partition,
                key: record.key,
                value: record.value,
                headers: record.headers.into_iter().map(|h| (h.name, h.value)).collect(),
            };
            match record.size() {
                0..=RECORD_BYTES_MAX => Ok(record),
                bytes => Err(CodecError::new(format!(
                    "a record has {bytes} bytes; at most {RECORD_BYTES_MAX} can be sent"
                ))),
            }
        };
        batch.records.into_iter().map(unpack).collect()
    }
}

/// Makes the record that tells a fact; `cause` is the message that it follows from.
pub(crate) fn fact_record<F: Fact>(
    fact: &F,
    key: &str,
    cause: Option<&Envelope>,
) -> Result<Record, CodecError> {
    let payload = <F as Message>::Codec::encode(fact)?;
    if payload.0.len() > PAYLOAD_BYTES_MAX || key.len() > KEY_BYTES_MAX {
        let (bytes, fact) = (payload.0.len(), F::TYPE);
        return Err(CodecError::new(format!(
            "`{fact}` has {bytes} bytes and a key of {}; at most {PAYLOAD_BYTES_MAX} and {KEY_BYTES_MAX} can be sent",
            key.len()
        )));
    }
    let envelope = Envelope {
        id: MessageId::now(),
        message_type: F::TYPE,
        source: F::SOURCE,
        correlation: match cause {
            Some(cause) => cause.correlation.clone(),
            None => CorrelationId::new(key).map_err(CodecError::new)?,
        },
        causation: cause.map(|cause| cause.id),
        traceparent: match cause {
            Some(cause) => cause.traceparent.clone(),
            None => traceparent(),
        },
        timestamp: now(),
        kind: Kind::Fact,
        payload,
    };
    Ok(Record {
        topic: F::SOURCE.events(),
        partition: None,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: envelope.encode(),
        headers: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_up_to_the_size_that_can_be_sent() {
        let row = |bytes: usize| {
            let (topic, key) = (Topic::new("t"), Bytes::from_static(b"key"));
            let headers = vec![("h".to_owned(), Bytes::from_static(b"v"))];
            let value = vec![b'v'; bytes - 15].into();
            OutboxRow::new(
                Lane::application(),
                &[Record { topic, partition: None, key, value, headers }],
            )
        };
        for bytes in [RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX] {
            let records = row(bytes).records().expect("it can be sent");
            assert_eq!(records[0].size(), bytes);
        }
        let error = row(RECORD_BYTES_MAX + 1).records().expect_err("it cannot be sent");
        assert_eq!(error.to_string(), "a record has 1000001 bytes; at most 1000000 can be sent");
    }
}
