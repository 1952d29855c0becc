//! Commands and facts whose effect is in the participant's own database: one batch a transaction, and after a
//! failure those that are not to blame without the one that is.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Inbox;
use super::barrier::{Barrier, Recorded, Ruling, ids, rounds};
use super::incoming::Incoming;
use super::route::{Answer, Failure};
use super::service::{QUICK_BACKOFF, QUICK_TRIES, Service};
use super::telemetry::Times;
use super::writing::Written;
use crate::outage::Outage;
use crate::store::{Outbox, StoreError};
use crate::time::now;
use crate::{Error, OutboxId};

/// How often in a row a batch may meet what others record before it is taken apart.
const CONFLICTS_MAX: u32 = 10;

/// A fact that fails faster than this is tried again at once while others wait.
const FAST: Duration = Duration::from_secs(1);

/// How often in a row a failure is excused because the database is to blame. After that it is the
/// handler that brings it about.
pub(crate) const EXCUSES_MAX: u32 = 3;

/// Why a group of commands was not committed.
enum Setback {
    Store(StoreError),
    Handler(Failure),
    /// A handler failed, and the database is to blame.
    Excused(StoreError, Failure),
}

/// What was tried since something was last committed.
struct Tries {
    outage: Outage,
    /// How often a command that stands alone has failed.
    quick: u32,
    conflicts: u32,
    excused: u32,
}

impl Tries {
    fn new(stop: &CancellationToken) -> Self {
        Self { outage: Outage::new(stop), quick: 0, conflicts: 0, excused: 0 }
    }

    /// Returns true if a group of commands meets what others do at the same time. That somebody else
    /// recorded one of them happens, but not twice in a row.
    const fn collides(&self, setback: &Setback) -> bool {
        match setback {
            Setback::Excused(..) => true,
            Setback::Store(StoreError::Conflict) => self.conflicts > 0,
            Setback::Store(_) | Setback::Handler(_) => false,
        }
    }
}

impl<S: Inbox> Service<S> {
    /// Carries out commands in one transaction, or in smaller ones if one of them fails.
    pub(super) async fn handle_transactionals(
        &mut self,
        commands: &[Incoming],
    ) -> Result<(), Error> {
        let mut groups = vec![commands];
        let mut tries = Tries::new(&self.stop);
        while let Some(mut group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            // A batch may take longer than there is time for. What is committed is answered from the record next time.
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            if group.len() > self.pace.commands() {
                let (now, later) = group.split_at(self.pace.commands());
                groups.push(later);
                group = now;
            }
            let begun = Instant::now();
            let Err(setback) = self.transact(group).await else {
                self.pace.took(group.len(), begun.elapsed());
                tries = Tries::new(&self.stop);
                continue;
            };
            if group.len() > 1 && tries.collides(&setback) {
                self.pace.collided();
            }
            let Some(failure) = self.overcome(setback, &mut tries).await? else {
                groups.push(group);
                continue;
            };
            if group.len() > 1 {
                // What comes first is pushed last, so order is kept.
                if let Some(culprit) = failure.culprit {
                    groups.push(&group[culprit + 1..]);
                    groups.push(&group[culprit..=culprit]);
                    groups.push(&group[..culprit]);
                } else {
                    let (first, second) = group.split_at(group.len() / 2);
                    groups.extend([second, first]);
                }
                continue;
            }
            tries.quick += 1;
            // Others that wait must not wait for a command, whose saga's policy decides then; nobody decides for
            // a fact, but it must not hold the others up for long.
            let is_fast = begun.elapsed() < FAST;
            let may_try = groups.is_empty() || (group[0].command().is_none() && is_fast);
            if !failure.error.is_terminal() && may_try && tries.quick < QUICK_TRIES {
                tokio::time::sleep(QUICK_BACKOFF.delay(tries.quick, 0)).await;
                groups.push(group);
                continue;
            }
            // A database that does not take the answer either may be why it failed.
            let failure = Failure { attempts: tries.quick, ..failure };
            match self.try_to_answer_failure(&group[0], &failure).await {
                Ok(()) => tries = Tries::new(&self.stop),
                Err(error) => {
                    tries.quick = 0;
                    tries.outage.outlast(error).await?;
                    groups.push(group);
                }
            }
        }
        Ok(())
    }

    /// Returns the failure in a setback, or nothing if the same commands are to be tried again.
    async fn overcome(
        &mut self,
        setback: Setback,
        tries: &mut Tries,
    ) -> Result<Option<Failure>, Error> {
        match setback {
            Setback::Excused(error, _) if tries.excused < EXCUSES_MAX => {
                tries.outage.outlast(error).await?;
                // While the database takes no writes at all, it cannot be the handler.
                tries.excused += u32::from(takes_writes(&self.store).await);
                Ok(None)
            }
            Setback::Handler(failure) | Setback::Excused(_, failure) => Ok(Some(failure)),
            // What somebody else recorded meanwhile is found next time.
            Setback::Store(StoreError::Conflict) if tries.conflicts < CONFLICTS_MAX => {
                if tries.conflicts > 0 {
                    tokio::time::sleep(QUICK_BACKOFF.delay(tries.conflicts, 0)).await;
                }
                tries.conflicts += 1;
                Ok(None)
            }
            Setback::Store(StoreError::Conflict) => {
                let message = "it conflicts with itself or with what is on record".to_owned();
                Ok(Some(Failure::transient(message)))
            }
            Setback::Store(error) if error.is_transient() => {
                tries.outage.outlast(error).await?;
                self.read_back().await?;
                Ok(None)
            }
            Setback::Store(StoreError::Refused { source, .. }) => {
                Ok(Some(Failure::terminal(source.to_string())))
            }
            Setback::Store(error) => Err(error.into()),
        }
    }

    /// Carries out commands and makes everything durable in one transaction.
    async fn transact(&mut self, group: &[Incoming]) -> Result<(), Setback> {
        let (begun, mut duplicates) = (now(), 0);
        let mut transaction = self.store.begin().await?;
        let recorded = self.store.recorded(&mut transaction, &ids(group.iter())).await?;
        let mut barrier = Barrier::new(recorded)?;
        let mut written = Written::default();
        let calls_out = self.participant.calls_out();
        for round in rounds(group) {
            let mut to_do = Vec::new();
            for index in round {
                let incoming = &group[index];
                duplicates += u64::from(barrier.knows(incoming.id));
                match barrier.rule(incoming, calls_out) {
                    Ruling::Answer(answer) => self.answer(&mut written, incoming, &answer),
                    Ruling::Forgotten => self.answer_forgotten(&mut written, incoming),
                    Ruling::CarryOut if self.must_wait(incoming) => {
                        self.wait_behind(&mut written, incoming);
                    }
                    Ruling::CarryOut => to_do.push(index),
                }
            }
            let envelopes: Vec<_> = to_do.iter().map(|&index| &group[index].envelope).collect();
            let connection = S::connection(&mut transaction);
            let carried_out = self.participant.carry_out(&envelopes, connection).await;
            let (answers, facts) = match carried_out {
                Ok(carried_out) => carried_out,
                Err(failure) => {
                    let culprit = failure.culprit.map(|index| to_do[index]);
                    let failure = Failure { culprit, ..failure };
                    return Err(self.blame(&mut transaction, failure).await);
                }
            };
            for (&index, answer) in to_do.iter().zip(answers) {
                let recorded = barrier.record(&group[index], answer);
                self.answer(&mut written, &group[index], &recorded);
            }
            if !facts.is_empty() {
                written.records.entry(self.facts_lane(group)).or_default().extend(facts);
            }
        }
        let times = Times::begun(begun);
        self.commit(transaction, barrier.into_records(), &written).await?;
        self.telemetry.duplicates(duplicates);
        group.iter().for_each(|it| self.telemetry.answered(it, times, None));
        Ok(())
    }

    /// A handler is not to blame for its failure if the database is.
    async fn blame(&self, transaction: &mut S::Transaction, failure: Failure) -> Setback {
        match self.store.examine(transaction, failure.error.source()).await {
            Ok(()) => Setback::Handler(failure),
            Err(error) => Setback::Excused(error, failure),
        }
    }

    /// Tells the saga that its command failed, or sets a fact aside; nothing is recorded, so it may be carried out later.
    pub(super) async fn answer_failure(
        &mut self,
        incoming: &Incoming,
        failure: &Failure,
    ) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        while let Err(error) = self.try_to_answer_failure(incoming, failure).await {
            outage.outlast(error).await?;
        }
        Ok(())
    }

    async fn try_to_answer_failure(
        &mut self,
        incoming: &Incoming,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        if let Some(command) = incoming.command() {
            warn!(saga = %command.saga, step = %command.step, attempt = command.attempt, error = %failure.error, "command failed");
        }
        let mut written = Written::default();
        if incoming.command().is_some() {
            let recorded = Recorded::new(Answer::failed(failure.outcome()));
            self.answer(&mut written, incoming, &recorded);
        } else {
            self.set_fact_aside(&mut written, incoming, failure);
        }
        let times = Times::begun(now());
        self.write_at_once(&written).await?;
        self.telemetry.answered(incoming, times, Some(failure.error.to_string()));
        Ok(())
    }
}

/// Finds out whether a store takes writes, by one that changes nothing.
async fn takes_writes(store: &impl Outbox) -> bool {
    store.sent(&[OutboxId::now()]).await.is_ok()
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
