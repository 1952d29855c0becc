//! What is asked of the engine's loop: by its callers, by messages and by timers.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::definition::{Data, Definition};
use crate::held::Held;
use crate::machine::{Event, Origin, Status};
use crate::store::{DeadLetter, HistoryRecord, Version};
use crate::transport::{Delivery, Position, Record};
use crate::{Error, IdempotencyKey, MessageId, SagaId};

/// What a caller asks of the loop.
pub(super) enum Request {
    /// Do something to a saga.
    Input(Input),
    /// Tell when a saga has ended or is parked.
    Watch { saga: SagaId, responder: oneshot::Sender<Result<Status, Error>> },
}

/// What a tick reacts to.
pub(super) enum Input {
    Start(Start),
    Event(Happening),
}

/// A saga that is to start.
pub(super) struct Start {
    pub(super) saga: SagaId,
    pub(super) definition: Arc<Definition>,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) origin: Origin,
    pub(super) data: Data,
    pub(super) requester: Requester,
}

/// Who asked for a start.
pub(super) enum Requester {
    /// A caller that waits for the answer.
    Caller(oneshot::Sender<Result<Accepted, Error>>),
    /// A fact, with the record that it came in: set aside if its saga cannot start.
    Fact { delivery: Box<Delivery>, is_redriven: bool },
}

impl Requester {
    /// Returns true for a fact that must wait: one of its key before it was set aside.
    pub(super) fn waits(&self, held: &Held) -> bool {
        matches!(self, Self::Fact { delivery, is_redriven: false } if held.holds(delivery))
    }
}

/// The answer to a start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) saga: SagaId,
    pub(super) is_new: bool,
}

/// Something that happened to a saga that may exist.
pub(super) struct Happening {
    pub(super) saga: SagaId,
    pub(super) event: Event,
    /// The message that said so.
    pub(super) message: Option<MessageId>,
    pub(super) responder: Option<oneshot::Sender<Result<(), Error>>>,
    /// The version of the saga that it is about, if it is about no other.
    pub(super) seen: Option<Version>,
    /// What commits of it wrote of which one may have been made: a person's action must not be made again.
    pub(super) tried: Vec<HistoryRecord>,
}

impl Happening {
    pub(super) const fn new(saga: SagaId, event: Event, message: Option<MessageId>) -> Self {
        Self { saga, event, message, responder: None, seen: None, tried: Vec::new() }
    }
}

/// Most deliveries of one tick: also those that mean nothing to the engine wait to be acknowledged.
const DELIVERIES_MAX: usize = 4_096;
/// How many bytes one tick sets aside, give or take what is received at once.
const SET_ASIDE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What was gathered for one tick.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) inputs: Vec<Input>,
    /// Messages that are set aside, with the partition that they came in and the record for the dead-letter topic.
    pub(super) dead_letters: Vec<(DeadLetter, Option<Record>)>,
    /// How many bytes the values of those have.
    pub(super) set_aside_bytes: usize,
    /// The deliveries that are done with once all this is durable.
    pub(super) positions: Vec<Position>,
    /// The letters that were handed out again, and are done with then.
    pub(super) redriven: Vec<MessageId>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && self.dead_letters.is_empty()
            && self.positions.is_empty()
            && self.redriven.is_empty()
    }

    /// Returns true if no more deliveries are to be taken, however few of them matter to a saga.
    pub(super) const fn is_full(&self) -> bool {
        self.positions.len() >= DELIVERIES_MAX || self.set_aside_bytes >= SET_ASIDE_BYTES_MAX
    }
}
