//! What a participant commits beside the effects: records, replies and dead letters, published afterwards.

use std::collections::BTreeMap;

use tracing::warn;

use super::barrier::{Recorded, headers};
use super::service::{Incoming, Service};
use super::{Handled, Inbox, InboxRecord};
use crate::message::{Envelope, Kind, ReplyHeaders};
use crate::outage::Outage;
use crate::outlet::Committed;
use crate::policy::dead_letter;
use crate::store::{DeadLetter, OutboxRow, StoreError};
use crate::time::now;
use crate::transport::{Delivery, Record};
use crate::{Error, ParticipantName};

/// What goes into one transaction beside the effects.
#[derive(Default)]
pub(super) struct Written {
    pub(super) records: BTreeMap<u32, Vec<Record>>,
    pub(super) dead_letters: Vec<DeadLetter>,
}

impl<S: Inbox> Service<S> {
    /// Adds the reply to a command to what is written.
    pub(super) fn reply(&self, written: &mut Written, incoming: &Incoming, recorded: &Recorded) {
        let command = headers(&incoming.envelope);
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
        written.records.entry(incoming.lane).or_default().push(Record {
            topic: self.events.clone(),
            partition,
            key: command.saga.to_string().into(),
            value: envelope.encode(),
            headers: Vec::new(),
        });
    }

    /// Writes replies and dead letters that no handler's effect goes with.
    pub(super) async fn write(&mut self, written: Written) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        while let Err(error) = self.write_at_once(&written).await {
            outage.outlast(error).await?;
        }
        self.telemetry.set_aside.tell(&written.dead_letters);
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
        Ok(())
    }

    /// Returns the lane of the facts that handlers tell: one for all of them, so that those of one key keep their order.
    pub(super) fn facts_lane(&self, group: &[Incoming]) -> u32 {
        self.owned.first().copied().unwrap_or(group[0].lane)
    }

    /// Makes one outbox row per lane of what is to be published.
    fn rows(&self, written: &Written) -> (Vec<OutboxRow>, Vec<Committed>) {
        let lanes = written.records.iter().filter(|(_, records)| !records.is_empty());
        let rows = lanes.map(|(&lane, records)| Committed::new(self.lane(lane), records));
        rows.unzip()
    }
}

impl Written {
    pub(super) fn set_aside(
        &mut self,
        consumer: &ParticipantName,
        delivery: Delivery,
        reason: &str,
        detail: &str,
    ) {
        warn!(topic = %delivery.position.topic, partition = delivery.position.partition, offset = delivery.position.offset, reason, detail, "message set aside");
        let lane = delivery.position.partition;
        let letter = DeadLetter::new(consumer, delivery, reason, detail);
        self.records.entry(lane).or_default().push(dead_letter::record(&letter));
        self.dead_letters.push(letter);
    }
}
