//! Publishing: records in, a receipt out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::BoxError;
use crate::store::fact_record;
use crate::{CodecError, Fact, Topic, TransportError};

/// Appends records to topics, in order, and tells when they are safe.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::transport`:
///
/// - `batches_are_appended_in_call_order`: whether or not a receipt is awaited in between.
/// - `a_failed_publisher_takes_nothing_more`: after one record could not be appended, no later
///   one is, so nothing overtakes it.
pub trait Publisher: Send + Sync + 'static {
    /// Returns how many partitions a topic has.
    ///
    /// # Errors
    ///
    /// [`TransportError::UnknownTopic`], or [`TransportError::Unavailable`] if the broker cannot be asked.
    fn partitions(&self, topic: &Topic)
    -> impl Future<Output = Result<u32, TransportError>> + Send;

    /// Puts records in line and returns a receipt that resolves once the broker has them all.
    ///
    /// Never blocks: the caller bounds what it has in flight. Dropping the receipt changes nothing.
    fn publish(&self, records: Vec<Record>) -> Receipt;
}

/// A record to be appended to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Topic,
    /// The partition; `None` means the one that the key's hash points at.
    pub partition: Option<u32>,
    /// The key: records of one key and no explicit partition stay in order.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Headers, for tools that cannot read the value.
    pub headers: Vec<(String, Bytes)>,
}

/// Largest record that is sent, in bytes: the million that Kafka's clients take by default.
pub(crate) const RECORD_BYTES_MAX: usize = 1_000_000;

/// Most bytes that a header takes beside its name and its value.
const HEADER_OVERHEAD: usize = 10;

impl Record {
    /// Makes the record that tells a fact, published under `key`: facts of one key arrive in order.
    ///
    /// To tell several facts in one transaction, store their records in one
    /// [`OutboxRow`](crate::store::OutboxRow) of the [application lane](crate::store::Lane::application). A row is read back as a
    /// whole after a crash, so keep it to some megabytes; those of its records that were published before are published again.
    ///
    /// The fact belongs to the trace of the [current span](crate::telemetry#traces).
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the fact cannot be encoded or is too large, or the key is no [`CorrelationId`](crate::CorrelationId).
    ///
    /// # Examples
    ///
    /// ```
    /// # use saga_core::{Fact, Json, Message, MessageType, ParticipantName};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct OrderCreated { order: String }
    /// # impl Message for OrderCreated { const TYPE: MessageType = MessageType::new("OrderCreated"); type Codec = Json; }
    /// # impl Fact for OrderCreated { const SOURCE: ParticipantName = ParticipantName::new("orders"); }
    /// use saga_core::store::{Lane, OutboxRow};
    /// use saga_core::transport::Record;
    ///
    /// let told = ["o-1", "o-2"].map(|order| Record::fact(&OrderCreated { order: order.into() }, order));
    /// let records = told.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// let row = OutboxRow::new(Lane::application(), &records);
    /// assert_eq!(row.records()?, records);
    /// # Ok::<(), saga_core::CodecError>(())
    /// ```
    pub fn fact<F: Fact>(fact: &F, key: &str) -> Result<Self, CodecError> {
        fact_record(fact, key, None)
    }

    /// Returns how many bytes the record has on its way, or some more.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD);
        self.key.len() + self.value.len() + headers.sum::<usize>()
    }
}

/// Resolves when everything of one [`Publisher::publish`] call is acknowledged, or one record of it failed.
#[derive(Debug)]
#[must_use = "only an awaited receipt says that the records are safe"]
pub struct Receipt(oneshot::Receiver<Result<(), TransportError>>);

impl Receipt {
    /// Makes a receipt, and what the publisher settles it with.
    pub fn pending() -> (Acknowledgement, Self) {
        let (sender, receiver) = oneshot::channel();
        (Acknowledgement(sender), Self(receiver))
    }

    /// Makes a receipt that is settled already.
    pub fn settled(result: Result<(), TransportError>) -> Self {
        let (acknowledgement, receipt) = Self::pending();
        acknowledgement.settle(result);
        receipt
    }
}

impl Future for Receipt {
    type Output = Result<(), TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|settled| {
            settled.unwrap_or_else(|dropped| {
                let source: BoxError = dropped.into();
                Err(TransportError::PublisherFailed { operation: "publish", source })
            })
        })
    }
}

/// The publisher's half of a [`Receipt`]. Dropping it settles the receipt as failed.
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Sender<Result<(), TransportError>>);

impl Acknowledgement {
    /// Settles the receipt.
    pub fn settle(self, result: Result<(), TransportError>) {
        // A receipt that nobody waits for is no error.
        let _ = self.0.send(result);
    }
}
