//! A received record, and where it stood.

use bytes::Bytes;

use crate::{Timestamp, Topic};

/// What a subscriber was told.
#[derive(Debug)]
pub enum Received {
    /// Records, in order within each partition.
    Deliveries(Vec<Delivery>),
    /// These partitions are this member's from now on.
    Assigned(Vec<Partition>),
    /// These partitions are another member's from now on; acknowledgements for them are ignored.
    Revoked(Vec<Partition>),
}

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// The number of the partition, from 0.
    pub number: u32,
}

/// A record as it was received.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where it stood; what to acknowledge.
    pub position: Position,
    /// The record's key; empty if it has none.
    pub key: Bytes,
    /// The record's value; empty if it has none.
    pub value: Bytes,
    /// The record's headers.
    pub headers: Vec<(String, Bytes)>,
    /// When the record was produced.
    pub timestamp: Timestamp,
}

/// Where a delivery stood in its partition, and in which period of ownership it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: Topic,
    /// The number of the partition, from 0.
    pub partition: u32,
    /// The place in the partition, from 0, growing.
    pub offset: u64,
    /// Tells an acknowledgement of an earlier ownership of the partition from a current one; the transport's own.
    pub generation: u64,
}
