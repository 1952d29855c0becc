//! What a participant commits beside the effects: records, replies and dead letters, published afterwards.

use std::collections::BTreeMap;

use tracing::warn;

use super::barrier::Recorded;
use super::incoming::Incoming;
use super::route::{Answer, Failure};
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
use crate::{Error, MessageId};

/// Why a fact is set aside that could not be handled.
const UNHANDLED: &str = "unhandled-fact";
/// Why a fact is set aside that may have been handled before.
const FORGOTTEN: &str = "forgotten-fact";

/// What goes into one transaction beside the effects.
#[derive(Default)]
pub(super) struct Written {
    pub(super) records: BTreeMap<u32, Vec<Record>>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Letters that were handed out and stay.
    kept: Vec<MessageId>,
}

impl<S: Inbox> Service<S> {
    /// Adds the reply to a command to what is written; nobody waits for one to a fact.
    pub(super) fn answer(&self, written: &mut Written, incoming: &Incoming, recorded: &Recorded) {
        let Some(command) = incoming.command() else { return };
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

    /// Adds what is to be said to a message that is older than the inbox remembers.
    pub(super) fn answer_forgotten(&self, written: &mut Written, incoming: &Incoming) {
        if incoming.command().is_some() {
            return self.answer(written, incoming, &Recorded::new(Answer::forgotten()));
        }
        let (delivery, letter) = (incoming.delivery.clone(), incoming.letter);
        let detail =
            "it is older than what the inbox remembers, so it may have been handled before";
        self.set_aside(written, delivery, letter, FORGOTTEN, detail, 0);
    }

    /// Sets a fact aside that failed. The first time it comes back by itself, unless it would only fail again.
    pub(super) fn set_fact_aside(&self, written: &mut Written, fact: &Incoming, failure: &Failure) {
        let (delivery, attempts) = (fact.delivery.clone(), failure.attempts);
        let problem = failure.error.to_string();
        if failure.error.is_terminal() || fact.letter.is_some() {
            let letter = fact.letter;
            return self.set_aside(written, delivery, letter, UNHANDLED, &problem, attempts);
        }
        warn!(fact = %fact.envelope.id, problem, attempts, "fact not handled; it comes back within seconds");
        let letter = DeadLetter::new(&self.participant.name, delivery, UNHANDLED, &problem);
        written.dead_letters.push(DeadLetter { waits: true, attempts, ..letter });
    }

    /// Adds a dead letter to what is written; `letter` is the one that it was before, if it was one.
    pub(super) fn set_aside(
        &self,
        written: &mut Written,
        delivery: Delivery,
        letter: Option<MessageId>,
        reason: &str,
        detail: &str,
        attempts: u32,
    ) {
        warn!(topic = %delivery.position.topic, partition = delivery.position.partition, offset = delivery.position.offset, reason, detail, attempts, "message set aside");
        written.kept.extend(letter);
        let lane = delivery.position.partition;
        let letter = DeadLetter::new(&self.participant.name, delivery, reason, detail);
        let letter = DeadLetter { attempts, ..letter };
        written.records.entry(lane).or_default().push(dead_letter::record(&letter));
        written.dead_letters.push(letter);
    }

    /// Lets a fact wait behind what was set aside of its key; a letter stays what it is.
    pub(super) fn wait_behind(&self, written: &mut Written, fact: &Incoming) {
        written.kept.extend(fact.letter);
        if fact.letter.is_none() {
            written.dead_letters.push(waiting(&self.participant.name, fact.delivery.clone()));
        }
    }

    /// Returns true for a fact that must wait: it was set aside, or one of its key before it.
    pub(super) fn must_wait(&self, incoming: &Incoming) -> bool {
        let is_set_aside = || incoming.letter.is_none() && self.held.has(&incoming.delivery);
        incoming.command().is_none() && (self.held.holds(&incoming.delivery) || is_set_aside())
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
        // Later facts of their keys wait; no command does.
        let of_facts = written.dead_letters.iter().filter(|it| it.topic != self.commands);
        of_facts.for_each(|it| self.held.hold(it));
        self.kept.extend(&written.kept);
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
