//! What leaves with a commit: outbox rows by lane, published from memory once they are durable.

use std::collections::BTreeMap;

use super::starts::Starting;
use super::worker::Worker;
use super::works::Works;
use crate::Error;
use crate::outage::Outage;
use crate::outlet::Committed;
use crate::store::{DeadLetter, Lane, OutboxRow, Tick};
use crate::transport::Record;

/// Records by the lane that they leave through.
type Outgoing = BTreeMap<u32, Vec<Record>>;

impl Worker {
    /// Adds what is to be sent to the tick, one row per lane; returns the records for the outlet.
    pub(super) fn outbox(
        &self,
        works: &Works,
        starting: &[Starting],
        facts: Vec<Record>,
        tick: &mut Tick,
    ) -> Vec<Committed> {
        let now = self.now();
        let mut outgoing = Outgoing::new();
        for work in works.all.iter().chain(starting.iter().map(|it| &it.work)) {
            for command in &work.commands {
                if !self.store.is_local(&command.participant)
                    && let Some(record) = self.routing.record(&self.name, work, command, now)
                {
                    outgoing.entry(work.home).or_default().push(record);
                }
            }
        }
        if !facts.is_empty() {
            if self.outlet.is_some() {
                outgoing.entry(0).or_default().extend(facts);
            } else {
                // Nothing here publishes; a relay of the same store does.
                tick.outbox.push(OutboxRow::new(Lane::application(), &facts));
            }
        }
        self.rows(&outgoing, tick)
    }

    /// Adds one outbox row per lane to a tick; returns their records for the outlet.
    fn rows(&self, outgoing: &Outgoing, tick: &mut Tick) -> Vec<Committed> {
        let mut rows = Vec::with_capacity(outgoing.len());
        for (&lane, records) in outgoing.iter().filter(|(_, records)| !records.is_empty()) {
            let (row, committed) = Committed::new(Lane::new(self.name.clone(), lane), records);
            rows.push(committed);
            tick.outbox.push(row);
        }
        rows
    }

    pub(super) fn publish(&mut self, rows: Vec<Committed>) {
        if let Some(outlet) = &mut self.outlet {
            rows.into_iter().for_each(|row| outlet.push(row));
        }
    }

    /// Makes dead letters durable, with the records for their topics.
    pub(super) async fn set_aside(
        &mut self,
        dead_letters: Vec<(DeadLetter, Option<Record>)>,
    ) -> Result<(), Error> {
        let mut outgoing = Outgoing::new();
        let mut letters = Vec::with_capacity(dead_letters.len());
        for (letter, record) in dead_letters {
            outgoing.entry(letter.partition).or_default().extend(record);
            letters.push(letter);
        }
        let mut outage = Outage::new(&self.stop);
        let asked = self.now();
        loop {
            // Rows of their own for each try: an earlier one may have been written, and a record
            // that is sent twice does no harm.
            let mut tick = Tick { dead_letters: letters.clone(), ..Tick::default() };
            let rows = self.rows(&outgoing, &mut tick);
            match self.store.commit(tick).await {
                Ok(()) => {
                    self.telemetry.set_aside.tell(&letters);
                    self.publish(rows);
                    self.waited_for_the_store(asked);
                    return Ok(());
                }
                Err(error) => outage.outlast(error).await?,
            }
        }
    }
}
