//! A command that kills whoever carries it out is found by counting, before it is carried out again.
//!
//! What a participant died of is among the first commands without a record of the partitions that it
//! had, for a batch is acknowledged as a whole. So only those are counted: one by one if they were
//! begun before and nobody lived to say how it went, together if not. After that nothing is counted,
//! and a participant that never dies pays one commit more for the first commands of a partition.

use std::collections::{BTreeMap, HashMap, HashSet};

use tracing::{error, warn};

use super::Inbox;
use super::route::Failure;
use super::service::{BATCH_MAX, Incoming, Service};
use crate::outage::Outage;
use crate::{Error, MessageId};

/// After so many deaths a command is not carried out any more.
const DEATHS_MAX: u32 = 3;

/// How many commands without a record are still to be counted, by partition.
#[derive(Default)]
pub(super) struct Care {
    left: BTreeMap<u32, usize>,
}

impl Care {
    /// Whoever had these partitions before may have died over one of their commands.
    pub(super) fn begin(&mut self, partitions: impl IntoIterator<Item = u32>) {
        self.left.extend(partitions.into_iter().map(|partition| (partition, BATCH_MAX)));
    }

    /// These partitions are somebody else's.
    pub(super) fn end(&mut self, partitions: impl IntoIterator<Item = u32>) {
        for partition in partitions {
            self.left.remove(&partition);
        }
    }

    /// Returns the commands that are to be counted, and the others.
    fn split(&self, commands: Vec<Incoming>) -> (Vec<Incoming>, Vec<Incoming>) {
        commands.into_iter().partition(|it| self.left.contains_key(&it.lane))
    }

    /// Notes that these commands were not fatal.
    fn survived(&mut self, commands: &[(u32, MessageId)], counted: &HashSet<MessageId>) {
        for (partition, _) in commands.iter().filter(|(_, id)| counted.contains(id)) {
            if let Some(left) = self.left.get_mut(partition) {
                *left = left.saturating_sub(1);
            }
        }
        self.left.retain(|_, left| *left > 0);
    }
}

impl<S: Inbox> Service<S> {
    /// Carries out commands, those first that may be fatal.
    pub(super) async fn carry_out(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let (doubtful, others) = self.care.split(commands);
        if !doubtful.is_empty() {
            self.carry_out_carefully(doubtful).await?;
        }
        self.carry_out_at_once(others).await
    }

    async fn carry_out_carefully(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let ids = ids(&commands);
        let unfinished = Outage::outlasted(&self.stop, || self.store.unfinished(&ids)).await?;
        let deaths: HashMap<_, _> = unfinished.into_iter().collect();
        let (suspects, fresh): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|it| deaths.contains_key(&it.envelope.id));
        self.carry_out_counted(fresh).await?;
        for suspect in suspects {
            let ids = [suspect.envelope.id];
            let ([id], deaths) = (ids, deaths[&suspect.envelope.id]);
            if deaths < DEATHS_MAX {
                warn!(command = %id, deaths, "carried out alone: whoever began it before died");
                self.carry_out_counted(vec![suspect]).await?;
            } else {
                error!(command = %id, deaths, "not carried out any more: whoever began it died");
                let message = format!("{deaths} processes died while they carried it out");
                self.answer_failure(&suspect, Failure::terminal(message)).await?;
                // Who retries it after a look has all tries anew.
                Outage::outlasted(&self.stop, || self.store.end_attempts(&ids)).await?;
            }
        }
        Ok(())
    }

    async fn carry_out_counted(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let ids = ids(&commands);
        if ids.is_empty() {
            return Ok(());
        }
        let counted = Outage::outlasted(&self.stop, || self.store.begin_attempts(&ids)).await?;
        let lanes: Vec<_> = commands.iter().map(|it| (it.lane, it.envelope.id)).collect();
        self.carry_out_at_once(commands).await?;
        self.care.survived(&lanes, &counted.into_iter().collect());
        Outage::outlasted(&self.stop, || self.store.end_attempts(&ids)).await
    }
}

fn ids(commands: &[Incoming]) -> Vec<MessageId> {
    commands.iter().map(|it| it.envelope.id).collect::<HashSet<_>>().into_iter().collect()
}
