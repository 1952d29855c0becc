//! What a participant commits beside the effects: records, replies and dead letters, published afterwards.

use std::collections::BTreeMap;

use tracing::warn;

use super::barrier::Recorded;
use super::incoming::Incoming;
use super::service::Service;
use super::{Handled, Inbox, InboxRecord};
use crate::held::waiting;
use crate::message::{Envelope, Kind, ReplyHeaders};
use crate::outage::Outage;
use crate::outlet::Committed;
use crate::policy::dead_letter;
use crate::store::{DeadLetter, OutboxRow, StoreError};
use crate::time::now;
use crate::transport::{Delivery, Record};
use crate::{Error, ParticipantName};

/// Why a fact is set aside that could not be handled.
pub(super) const UNHANDLED: &str = "unhandled-fact";

/// What goes into one transaction beside the effects.
#[derive(Default)]
pub(super) struct Written {
    pub(super) records: BTreeMap<u32, Vec<Record>>,
    pub(super) dead_letters: Vec<DeadLetter>,
}

impl<S: Inbox> Service<S> {
    /// Adds the reply to a command to what is written; a fact that failed is set aside.
    pub(super) fn answer(
        &mut self,
        written: &mut Written,
        incoming: &Incoming,
        recorded: &Recorded,
    ) {
        let Some(command) = incoming.command() else {
            if let Some(problem) = recorded.answer.failure() {
                self.set_aside(written, incoming.delivery.clone(), UNHANDLED, &problem);
            }
            return;
        };
        let envelope = Envelope {
            id: recorded.reply,
            message_type: recorded.answer.message_type.clone(),
            source: self.participant.name.clone(),
            correlation: incoming.envelope.correlation.clone(),
            causation: Some(incoming.envelope.id),
            traceparent: incoming.envelope.traceparent.clone(),
            timestamp: now(),
            kind: Kind::Reply(ReplyHeaders {
                saga: command.saga,
                step: command.step.clone(),
                attempt: command.attempt,
                outcome: recorded.answer.outcome.clone(),
            }),
            payload: recorded.answer.payload.clone(),
        };
        // A partition from a message is only believed if the topic has it.
        let partition = command
            .reply_partition
            .filter(|&number| self.event_partitions.is_some_and(|size| number < size));
        written.records.entry(incoming.lane()).or_default().push(Record {
            topic: self.events.clone(),
            partition,
            key: command.saga.to_string().into(),
            value: envelope.encode(),
            headers: Vec::new(),
        });
    }

    /// Adds a dead letter to what is written. Later facts of its key wait.
    pub(super) fn set_aside(
        &mut self,
        written: &mut Written,
        delivery: Delivery,
        reason: &str,
        detail: &str,
    ) {
        warn!(topic = %delivery.position.topic, partition = delivery.position.partition, offset = delivery.position.offset, reason, detail, "message set aside");
        let lane = delivery.position.partition;
        let letter = DeadLetter::new(&self.participant.name, delivery, reason, detail);
        self.held.hold(&letter);
        written.records.entry(lane).or_default().push(dead_letter::record(&letter));
        written.dead_letters.push(letter);
    }

    /// Returns true for a fact that must wait: one of its key before it was set aside.
    pub(super) fn must_wait(&self, incoming: &Incoming) -> bool {
        let is_new_fact = incoming.letter.is_none() && incoming.command().is_none();
        is_new_fact && self.held.holds(&incoming.delivery)
    }

    /// Writes replies and dead letters that no handler's effect goes with.
    pub(super) async fn write(&mut self, written: Written) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        while let Err(error) = self.write_at_once(&written).await {
            outage.outlast(error).await?;
        }
        Ok(())
    }

    pub(super) async fn write_at_once(&mut self, written: &Written) -> Result<(), StoreError> {
        let transaction = self.store.begin().await?;
        self.commit(transaction, Vec::new(), written).await
    }

    /// Commits what was written with the effects in a transaction, then publishes it.
    ///
    /// Each try has outbox rows of its own: an earlier one may have been written, and a record
    /// that is sent twice does no harm.
    pub(super) async fn commit(
        &mut self,
        transaction: S::Transaction,
        records: Vec<InboxRecord>,
        written: &Written,
    ) -> Result<(), StoreError> {
        let (outbox, outgoing) = self.rows(written);
        let sent = self.outlet.take_acknowledged();
        let dead_letters = written.dead_letters.clone();
        let handled = Handled { records, outbox, sent: sent.clone(), dead_letters };
        if let Err(error) = self.store.record(transaction, handled).await {
            self.outlet.put_back_acknowledged(sent);
            if matches!(error, StoreError::Unavailable { .. }) {
                // It may have been written all the same: its messages go before any later ones.
                self.outlet.fall_behind(outgoing.iter().map(Committed::lane));
            }
            return Err(error);
        }
        outgoing.into_iter().for_each(|row| self.outlet.push(row));
        self.telemetry.set_aside.tell(&written.dead_letters);
        Ok(())
    }

    /// Returns the lane of the facts that handlers tell: one for all of them, so that those of one key keep their order.
    pub(super) fn facts_lane(&self, group: &[Incoming]) -> u32 {
        self.owned.first().copied().unwrap_or(group[0].lane())
    }

    /// Makes one outbox row per lane of what is to be published.
    fn rows(&self, written: &Written) -> (Vec<OutboxRow>, Vec<Committed>) {
        let lanes = written.records.iter().filter(|(_, records)| !records.is_empty());
        let rows = lanes.map(|(&lane, records)| Committed::new(self.lane(lane), records));
        rows.unzip()
    }
}

impl Written {
    /// Lets a fact wait behind what was set aside of its key.
    pub(super) fn wait_behind(&mut self, consumer: &ParticipantName, fact: &Incoming) {
        self.dead_letters.push(waiting(consumer, fact.delivery.clone()));
    }
}
