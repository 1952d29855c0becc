//! What was set aside and comes back, and the facts that wait behind it.

use tracing::{info, warn};

use super::request::Batch;
use super::worker::Worker;
use crate::held::waiting;
use crate::outage::Outage;
use crate::outlet::Outlet;
use crate::policy::dead_letter;
use crate::store::{DeadLetter, REDRIVE_LEASE};
use crate::transport::{Delivery, Record};
use crate::{Error, MessageId, Timestamp};

/// Most letters that are taken at once.
const LETTERS_MAX: usize = 256;

impl Worker {
    /// Takes the letters of our partitions that are to be handled again.
    pub(super) async fn take_redriven(&mut self) {
        let has_room = self.outlet.as_ref().is_some_and(Outlet::has_room);
        let partitions: Vec<_> = self.routing.owned().iter().copied().collect();
        if !has_room || partitions.is_empty() || !self.redriven.is_empty() {
            return;
        }
        match self.store.redriven(&self.name, &partitions, REDRIVE_LEASE, LETTERS_MAX).await {
            Ok(letters) => self.redriven = letters,
            Err(error) => warn!(%error, "letters to redrive cannot be taken; trying again"),
        }
    }

    /// Adds what was taken to a batch, as if it had just been received.
    pub(super) fn gather_redriven(&mut self, batch: &mut Batch) {
        for letter in std::mem::take(&mut self.redriven) {
            info!(topic = %letter.topic, partition = letter.partition, offset = letter.offset, letter = %letter.id, redrives = letter.redrives, "message redriven");
            batch.redriven.push(letter.id);
            self.read(letter.into_delivery(), true, batch);
        }
    }

    /// Asks the store which keys are held, if that is not known.
    pub(super) async fn learn_held(&mut self) -> Result<(), Error> {
        if !self.held.is_known() && self.outlet.is_some() {
            let asked = self.now();
            let keys = Outage::outlasted(&self.stop, || self.store.held(&self.name)).await?;
            self.waited_for_the_store(asked);
            self.held.learn(keys);
        }
        Ok(())
    }

    /// Removes the letters of a batch that were handled; those that were set aside again stay.
    pub(super) async fn settle(&mut self, letters: &[MessageId]) -> Result<(), Error> {
        if !letters.is_empty() {
            let asked = self.now();
            Outage::outlasted(&self.stop, || self.store.settled(letters)).await?;
            self.waited_for_the_store(asked);
            // What waited behind them is next.
            self.held.forget();
            self.next_scan = Timestamp::default();
        }
        Ok(())
    }

    /// Makes a dead letter of a delivery, and the record for its topic. Later facts of its key wait.
    pub(super) fn dead_letter(
        &mut self,
        delivery: Delivery,
        reason: &str,
        detail: &str,
        attempts: u32,
    ) -> (DeadLetter, Option<Record>) {
        warn!(topic = %delivery.position.topic, partition = delivery.position.partition, offset = delivery.position.offset, reason, detail, attempts, "message set aside");
        let letter = DeadLetter::new(&self.name, delivery, reason, detail);
        let letter = DeadLetter { attempts, ..letter };
        self.held.hold(&letter);
        let record = dead_letter::record(&letter);
        (letter, Some(record))
    }

    /// Lets a fact wait behind what was set aside of its key.
    pub(super) fn wait_behind(&mut self, delivery: Delivery) {
        self.unstartable.push((waiting(&self.name, delivery), None));
    }
}
