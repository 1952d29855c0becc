//! Contract: moving records between services.
//!
//! A transport moves opaque records through partitioned topics; what they mean is the business of
//! [`Envelope`](crate::message::Envelope). [`MemoryTransport`] is the one that is always there.

mod delivery;
mod error;
mod memory;
mod partition;
mod publisher;
mod watermark;

pub(crate) mod erased;

use std::future::Future;

use crate::{ParticipantName, Topic};

pub use delivery::{Delivery, Partition, Position, Received};
pub use error::TransportError;
pub use memory::{MemoryPublisher, MemorySubscriber, MemoryTransport};
pub use partition::partition_for;
pub(crate) use publisher::RECORD_BYTES_MAX;
pub use publisher::{Acknowledgement, Publisher, Receipt, Record};
pub use watermark::Watermark;

/// Connects publishers and subscribers to one set of topics.
///
/// # Laws
///
/// Each law of a transport is a test of the same name in `saga_testkit::transport`:
///
/// - `a_published_record_is_delivered`: key, value and headers arrive byte for byte.
/// - `records_of_a_partition_keep_their_order`: also across batches and publishers' receipts.
/// - `a_key_stays_in_one_partition`: records without a partition go where their key's others went.
/// - `an_explicit_partition_is_kept`.
/// - `an_unknown_topic_is_an_error_and_not_created`.
/// - `ensured_topics_keep_their_partitions`: ensuring twice changes nothing.
/// - `groups_receive_independently`, `members_of_a_group_share_the_partitions`.
/// - `what_is_not_acknowledged_is_delivered_again`, `what_is_acknowledged_is_not`.
/// - `a_gap_holds_the_watermark`: an acknowledgement beyond an open delivery does not pass it.
/// - `an_acknowledgement_of_a_lost_partition_is_ignored`.
/// - `a_new_group_starts_at_the_beginning`.
/// - `a_dropped_receive_loses_nothing`.
pub trait Transport: Send + Sync + 'static {
    /// What [`publisher`](Self::publisher) gives.
    type Publisher: Publisher;
    /// What [`subscriber`](Self::subscriber) gives.
    type Subscriber: Subscriber;

    /// Creates those of `topics` that do not exist, with the transport's configured number of partitions.
    ///
    /// A topic that exists is left as it is, whatever its size.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if a topic neither exists nor can be created.
    fn ensure_topics(
        &self,
        topics: &[Topic],
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Makes a new publisher. A publisher that has failed is replaced by a new one.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the settings are refused. A broker that is away is no error here.
    fn publisher(&self) -> impl Future<Output = Result<Self::Publisher, TransportError>> + Send;

    /// Joins a group of subscribers that share the partitions of some topics.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the settings are refused. A broker that is away is no error here.
    fn subscriber(
        &self,
        subscription: Subscription,
    ) -> impl Future<Output = Result<Self::Subscriber, TransportError>> + Send;
}

impl<T: Transport> Transport for std::sync::Arc<T> {
    type Publisher = T::Publisher;
    type Subscriber = T::Subscriber;

    fn ensure_topics(
        &self,
        topics: &[Topic],
    ) -> impl Future<Output = Result<(), TransportError>> + Send {
        (**self).ensure_topics(topics)
    }

    fn publisher(&self) -> impl Future<Output = Result<Self::Publisher, TransportError>> + Send {
        (**self).publisher()
    }

    fn subscriber(
        &self,
        subscription: Subscription,
    ) -> impl Future<Output = Result<Self::Subscriber, TransportError>> + Send {
        (**self).subscriber(subscription)
    }
}

/// What a subscriber listens to, and with whom it shares.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The group: each record goes to one member of it.
    pub group: ParticipantName,
    /// The topics. Partitions of one number are given to the same member wherever sizes are equal.
    pub topics: Vec<Topic>,
}

/// Receives records and says which of them are done with.
///
/// A subscriber that is dropped leaves its group; what it had not acknowledged goes to another member.
pub trait Subscriber: Send + 'static {
    /// Waits for what comes next: records, at most `limit` of them, or a change of the partitions held.
    ///
    /// Records of a partition arrive only after [`Received::Assigned`] has named it, and none of
    /// them after [`Received::Revoked`] has.
    ///
    /// # Errors
    ///
    /// [`TransportError`]; a transient one means to ask again.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    fn receive(
        &mut self,
        limit: usize,
    ) -> impl Future<Output = Result<Received, TransportError>> + Send;

    /// Says that these deliveries are done with: their outcome is durable.
    ///
    /// May come in any order and never waits. The group's offset of a partition moves to the first
    /// delivery that is not acknowledged yet, some time later; a crash in between delivers again.
    /// A position of a partition that has been revoked meanwhile is ignored.
    fn acknowledge(&mut self, positions: &[Position]);

    /// Leaves the group, after making the acknowledged offsets durable.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if they could not be made durable; they will be delivered again.
    fn close(self) -> impl Future<Output = Result<(), TransportError>> + Send;
}
