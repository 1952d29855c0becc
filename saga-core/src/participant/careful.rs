//! A command that kills whoever carries it out is found by counting, before it is carried out again.
//!
//! What a participant died of is among the first commands without a record of the partitions that it
//! had, for it takes on no more than so many at once. So only those are counted: one by one if they were
//! begun before and nobody lived to say how it went, together if not. After that nothing is counted,
//! and only what is sent once more is looked up, for it may have been given up. A participant that never dies pays one commit
//! more for the first commands of a partition.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tracing::{error, warn};

use super::Inbox;
use super::incoming::Incoming;
use super::route::Failure;
use super::service::{BATCH_MAX, Service};
use super::writing::Written;
use crate::outage::Outage;
use crate::transport::Partition;
use crate::{Error, MessageId};

/// After so many deaths a command is not carried out any more.
const DEATHS_MAX: u32 = 3;

/// What is to be counted, and what was.
#[derive(Default)]
pub(super) struct Care {
    /// How many commands without a record are still to be counted, by partition.
    left: BTreeMap<Partition, usize>,
    /// The commands whose attempts may be on record and have not ended, by what they are counted as, with their partitions,
    /// and whether they had no record.
    begun: HashMap<MessageId, (Partition, bool)>,
}

impl Care {
    /// Whoever had these partitions before may have died over one of their commands.
    pub(super) fn begin(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        self.left.extend(partitions.into_iter().map(|partition| (partition, BATCH_MAX)));
    }

    /// These partitions are somebody else's. Returns the commands that were begun and are handed over
    /// alive: nobody died over them.
    pub(super) fn end(&mut self, partitions: &BTreeSet<Partition>) -> Vec<MessageId> {
        self.left.retain(|partition, _| !partitions.contains(partition));
        let handed_over = self.begun.extract_if(|_, (partition, _)| partitions.contains(partition));
        handed_over.map(|(command, _)| command).collect()
    }

    /// Nothing is carried out any more. Returns the commands that were begun and not finished: nobody
    /// died over them.
    pub(super) fn end_all(&mut self) -> Vec<MessageId> {
        self.begun.drain().map(|(command, _)| command).collect()
    }

    /// Returns the commands that are to be counted, and the others.
    fn split(&self, commands: Vec<Incoming>) -> (Vec<Incoming>, Vec<Incoming>) {
        // When nothing is left to be counted, nothing is to be copied.
        let is_doubtful =
            |it: &Incoming| !self.left.is_empty() && self.left.contains_key(&it.partition());
        commands.into_iter().partition(is_doubtful)
    }

    /// Notes that these commands were not fatal; returns those whose attempts have ended.
    fn survived(&mut self, commands: &[Incoming]) -> Vec<MessageId> {
        let ids = commands.iter().map(Incoming::counted_as);
        let begun = ids.filter_map(|id| Some((id, self.begun.remove(&id)?)));
        let mut ended = Vec::new();
        for (id, (partition, is_counted)) in begun {
            ended.push(id);
            if let Some(left) = self.left.get_mut(&partition).filter(|_| is_counted) {
                *left -= 1;
                if *left == 0 {
                    self.left.remove(&partition);
                }
            }
        }
        ended
    }
}

impl<S: Inbox> Service<S> {
    /// Carries out commands, those first that may be fatal.
    pub(super) async fn carry_out(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let (doubtful, others) = self.care.split(commands);
        if !doubtful.is_empty() {
            self.carry_out_carefully(doubtful).await?;
        }
        let others = self.without_given_up(others).await?;
        self.carry_out_at_once(others).await
    }

    /// Answers once more what was given up and is sent again; returns the others. Nothing is counted.
    async fn without_given_up(&mut self, commands: Vec<Incoming>) -> Result<Vec<Incoming>, Error> {
        let sent_again = commands.iter().filter(|it| it.is_sent_again());
        let sent_again: Vec<_> = sent_again.map(Incoming::counted_as).collect();
        if sent_again.is_empty() {
            return Ok(commands);
        }
        let unfinished =
            Outage::outlasted(&self.stop, || self.store.unfinished(&sent_again)).await?;
        let given_up = unfinished.into_iter().filter(|(_, deaths)| *deaths >= DEATHS_MAX);
        let given_up: HashMap<_, _> = given_up.collect();
        let (given_up_before, others): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .partition(|it| given_up.contains_key(&it.counted_as()) && it.letter.is_none());
        for command in given_up_before {
            let deaths = given_up[&command.counted_as()];
            self.give_up(command, deaths).await?;
        }
        Ok(others)
    }

    async fn carry_out_carefully(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let ids = ids(&commands);
        let unfinished = Outage::outlasted(&self.stop, || self.store.unfinished(&ids)).await?;
        let deaths: HashMap<_, _> = unfinished.into_iter().collect();
        // What has to do with a suspect before it does not overtake it.
        let mut behind = HashSet::new();
        let (suspects, fresh): (Vec<_>, Vec<_>) = commands.into_iter().partition(|it| {
            let is_alone = deaths.contains_key(&it.counted_as())
                || it.touched().any(|id| behind.contains(&id));
            behind.extend(it.touched().filter(|_| is_alone));
            is_alone
        });
        self.carry_out_counted(fresh, &deaths).await?;
        for suspect in suspects {
            self.await_calls().await?;
            let (id, died) =
                (suspect.id, deaths.get(&suspect.counted_as()).copied().unwrap_or_default());
            // A letter is handed out so many times and no more.
            if died < DEATHS_MAX || suspect.letter.is_some() {
                warn!(message = %id, deaths = died, "carried out alone: whoever began it, or one before it, died");
                self.carry_out_counted(vec![suspect], &deaths).await?;
                self.await_calls().await?;
            } else {
                self.give_up(suspect, died).await?;
            }
        }
        Ok(())
    }

    /// Answers a command that it failed, or sets a fact aside. The count stays, for it may be delivered again, or sent again
    /// by an engine that has waited long enough; whoever has it tried anew begins another one.
    async fn give_up(&mut self, suspect: Incoming, deaths: u32) -> Result<(), Error> {
        error!(message = %suspect.id, deaths, "not carried out any more: whoever began it died");
        let message = format!("{deaths} processes died while they carried it out");
        let is_answered = self.answer_what_is_known(std::slice::from_ref(&suspect)).await?;
        if is_answered == [true] {
            return self.finish(vec![suspect]).await;
        }
        if self.must_wait(&suspect) {
            let mut written = Written::default();
            self.wait_behind(&mut written, &suspect);
            self.write(written).await?;
        } else {
            let failure = Failure { attempts: deaths, ..Failure::terminal(message) };
            self.answer_failure(&suspect, &failure).await?;
        }
        self.finish(vec![suspect]).await
    }

    async fn carry_out_counted(
        &mut self,
        commands: Vec<Incoming>,
        deaths: &HashMap<MessageId, u32>,
    ) -> Result<(), Error> {
        let ids = ids(&commands);
        if ids.is_empty() {
            return Ok(());
        }
        let counted = self.begin_attempts(&ids, deaths).await?;
        let begun = commands.iter().map(|it| {
            let id = it.counted_as();
            (id, (it.partition(), counted.contains(&id)))
        });
        self.care.begun.extend(begun);
        self.carry_out_at_once(commands).await
    }

    /// Counts an attempt at each, and only one however often the store is asked for it; returns those that were counted.
    async fn begin_attempts(
        &self,
        commands: &[MessageId],
        deaths: &HashMap<MessageId, u32>,
    ) -> Result<HashSet<MessageId>, Error> {
        let mut outage = Outage::new(&self.stop);
        loop {
            match self.store.begin_attempts(commands).await {
                Ok(counted) => return Ok(counted.into_iter().collect()),
                Err(error) => outage.outlast(error).await?,
            }
            // They may have been counted although nobody was told.
            let counts = Outage::outlasted(&self.stop, || self.store.unfinished(commands)).await?;
            let is_more =
                |(id, count): &(MessageId, u32)| *count > deaths.get(id).copied().unwrap_or(0);
            let counted: HashSet<_> =
                counts.into_iter().filter(is_more).map(|(id, _)| id).collect();
            if !counted.is_empty() {
                return Ok(counted);
            }
        }
    }

    /// Notes that commands are done with: what came of them is durable.
    pub(super) async fn finish(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let ended = self.care.survived(&commands);
        self.done.extend(commands.into_iter().map(Incoming::into_origin));
        self.end_attempts(&ended).await
    }

    pub(super) async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        Outage::outlasted(&self.stop, || self.store.end_attempts(commands)).await
    }
}

fn ids(commands: &[Incoming]) -> Vec<MessageId> {
    commands.iter().map(Incoming::counted_as).collect::<HashSet<_>>().into_iter().collect()
}
