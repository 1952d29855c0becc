//! The tick: everything that was gathered, decided in memory, made durable in one commit.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::local::Attempt;
use super::request::{Batch, Input};
use super::round::Round;
use super::telemetry::Times;
use super::work::Work;
use super::worker::Worker;
use super::works::{Came, Works};
use crate::machine::{Event, Verdict};
use crate::message::Outcome;
use crate::outage::Outage;
use crate::outlet::Committed;
use crate::participant::EXCUSES_MAX;
use crate::store::erased::OpenTransaction;
use crate::store::{StoreError, Tick};
use crate::transport::Position;
use crate::{Error, OutboxId, Timestamp};

/// Why a round was not committed. Nothing was written, or nobody knows.
pub(super) enum Setback {
    Store(StoreError),
    /// A participant inside the engine failed at one of the commands; which one may not be known.
    Local {
        failed: Option<Attempt>,
        outcome: Outcome,
        /// Why the database is to blame, if it is.
        excuse: Option<StoreError>,
    },
    /// What these commands came to cannot be taken by their sagas; the effects must not stay.
    Untaken(Vec<(Attempt, String)>),
    /// The local commands that a participant must be asked about wait for another round.
    LocalLater,
    /// A fact turned out to be behind one that was set aside.
    Waiting,
}

impl Worker {
    /// Decides on everything in a batch and makes it durable; returns what to acknowledge.
    ///
    /// A conflict, a lost connection or an element that is refused changes nothing and is overcome here.
    pub(super) async fn tick(&mut self, batch: Batch) -> Result<Vec<Position>, Error> {
        let Batch { inputs, dead_letters, positions, redriven, .. } = batch;
        if !dead_letters.is_empty() {
            self.set_aside(dead_letters).await?;
        }
        self.learn_held().await?;
        let mut round = Round::default();
        let mut starts = Vec::new();
        for input in inputs {
            match input {
                Input::Start(start) => starts.push(start),
                Input::Event(happening) => round.happenings.push(happening),
            }
        }
        round.starting = self.begin(starts);
        round.local = self.take_local();
        // There may have been an outage since it was gathered.
        round.reachable_since(self.reachable_since);
        round.goes_on = self.pace.commands() > 1;
        self.carry_through(round).await?;
        if !self.unstartable.is_empty() {
            let unstartable = std::mem::take(&mut self.unstartable);
            self.set_aside(unstartable).await?;
        }
        self.settle(&redriven).await?;
        Ok(positions)
    }

    /// Tries a round until it is committed.
    async fn carry_through(&mut self, mut round: Round) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        let mut excused = 0;
        while !round.is_empty() {
            let Err(setback) = self.attempt(&mut round).await else { return Ok(()) };
            round.take_back_starts();
            match setback {
                Setback::Local { excuse: Some(error), .. } if round.asks_several() => {
                    // What goes on alone does not collide with itself.
                    self.pace.collided();
                    round.goes_on = false;
                    let first = self.pace.commands().min(round.local.len());
                    self.postpone(round.local.split_off(first));
                    self.outlast(&mut outage, error, &mut round).await?;
                }
                Setback::Local { excuse: Some(error), .. } if excused < EXCUSES_MAX => {
                    self.outlast(&mut outage, error, &mut round).await?;
                    // While the store takes no writes at all, it cannot be the handler. This one changes nothing.
                    excused += u32::from(self.store.sent(&[OutboxId::now()]).await.is_ok());
                }
                Setback::Local { failed: Some(attempt), outcome, .. } => {
                    round.fail(attempt, outcome);
                }
                Setback::Local { failed: None, .. } => self.narrow(&mut round),
                Setback::Untaken(untaken) => round.fail_untaken(untaken),
                Setback::LocalLater => {
                    round.goes_on = false;
                    self.postpone(round.take_unanswered());
                }
                Setback::Waiting => {}
                Setback::Store(StoreError::Conflict) => {
                    debug!("another engine or another start came first; deciding again");
                    self.settle_started(&mut round.starting).await?;
                }
                // A handler may be to blame for what the store refuses.
                Setback::Store(StoreError::Refused { .. }) if round.goes_on => {
                    round.goes_on = false;
                }
                Setback::Store(StoreError::Refused { operation, source }) => {
                    let Some(only) = round.only_call() else {
                        return self.break_up(round, operation, &*source).await;
                    };
                    let problem = format!("the store refuses it: {source}");
                    round.fail(only, Outcome::FailedPermanently(problem));
                }
                Setback::Store(StoreError::Corrupt { saga, source }) => {
                    self.leave_out(saga, &mut round, &*source);
                }
                Setback::Store(error) => {
                    self.outlast(&mut outage, error, &mut round).await?;
                    // What has failed may have failed for that.
                    round.known.clear();
                }
            }
        }
        Ok(())
    }

    /// Carries a round that the store refuses through in parts; one that has no parts is given up.
    async fn break_up(
        &mut self,
        mut round: Round,
        operation: &'static str,
        source: &(dyn std::error::Error + Send + Sync),
    ) -> Result<(), Error> {
        let parts = round.split();
        if parts.len() > 1 {
            for part in parts {
                Box::pin(self.carry_through(part)).await?;
            }
        } else {
            parts.into_iter().for_each(|it| self.reject(it, operation, source));
        }
        Ok(())
    }

    /// Waits, and finds out what was written: the commit that seemed to fail may have been made, and its
    /// messages are in the outbox then.
    async fn outlast(
        &mut self,
        outage: &mut Outage,
        error: StoreError,
        round: &mut Round,
    ) -> Result<(), Error> {
        outage.outlast(error).await?;
        self.read_back().await?;
        self.settle_started(&mut round.starting).await?;
        self.reachable_since = self.now();
        round.reachable_since(self.reachable_since);
        Ok(())
    }

    /// Tries to commit a round. Nothing is taken out of it unless that succeeds.
    async fn attempt(&mut self, round: &mut Round) -> Result<(), Setback> {
        self.let_wait(&mut round.starting);
        let (store, now) = (Arc::clone(&self.store), self.now());
        let decided = self.now();
        let (mut works, came) = self.decide(round, now).await?;
        let begun = Instant::now();
        let mut effects = self.carry_out(&*store, round, &mut works).await?;
        let asked = effects.asked;

        let mut tick = Tick::default();
        works.encode(now, &*store, &mut tick);
        effects.check_taken(&works, round)?;
        self.park_broken(&mut works, &mut tick).await?;
        self.encode_starts(&mut round.starting, &effects, &mut tick)?;
        let facts = std::mem::take(&mut effects.facts);
        let rows = self.outbox(&works, &round.starting, facts, &mut tick);
        let committing = self.now();
        if let Err(error) = self.commit(tick, effects.transaction).await {
            if matches!(error, StoreError::Unavailable { .. }) {
                // It may have been made all the same, and its messages are in the outbox then.
                self.fall_behind(rows.iter().map(Committed::lane));
                works.note_tried(round, &came);
            }
            return Err(error.into());
        }
        if asked > 0 {
            self.pace.took(asked, begun.elapsed());
        }
        let (committed, ahead_us) = (self.now(), self.clock_offset_us);
        self.publish(rows);
        let changed = works.all.iter_mut().chain(round.starting.iter_mut().map(|it| &mut it.work));
        self.telemetry.committed(changed, &Times { decided, committing, committed, ahead_us });
        self.finish(std::mem::take(round), works, came);
        Ok(())
    }

    /// Decides on everything that has happened to the sagas of a round.
    async fn decide(
        &mut self,
        round: &mut Round,
        now: Timestamp,
    ) -> Result<(Works, Vec<Came>), StoreError> {
        let mut works = self.load(round).await?;
        self.settle_tried(round, &mut works).await?;
        let mut came: Vec<_> = round.happenings.iter().map(|it| works.happen(it, now)).collect();
        self.doubt(round, &mut works, &mut came).await?;
        for happening in &round.happenings {
            if let (Event::TimerFired { .. }, Some(work)) =
                (&happening.event, works.get(happening.saga))
            {
                work.touch(now, &*self.store);
            }
        }
        Ok((works, came))
    }

    /// Commits a tick, with the effects of local commands if there are any, and deletes what was sent.
    async fn commit(
        &mut self,
        mut tick: Tick,
        transaction: Option<Box<dyn OpenTransaction + '_>>,
    ) -> Result<(), StoreError> {
        if let Some(outlet) = &mut self.outlet {
            tick.sent = outlet.take_acknowledged();
        }
        if transaction.is_none() && tick.is_empty() {
            return Ok(());
        }
        let (sent, sagas) = (tick.sent.clone(), tick.commits.len());
        let committed = match transaction {
            Some(transaction) => transaction.commit(tick).await,
            None => self.store.commit(tick).await,
        };
        self.counting.count(sagas, &committed);
        if committed.is_err()
            && let Some(outlet) = &mut self.outlet
        {
            outlet.put_back_acknowledged(sent);
        }
        committed
    }

    /// Keeps what is still running at hand and answers whoever waits.
    fn finish(&mut self, round: Round, works: Works, came: Vec<Came>) {
        for call in &round.local {
            self.local_ids.remove(&call.command.id);
        }
        let woken =
            round.happenings.iter().filter(|it| matches!(it.event, Event::TimerFired { .. }));
        let woken: HashSet<_> = woken.map(|it| it.saga).collect();
        for work in works.all {
            let is_woken = woken.contains(&work.saga);
            self.keep(work, is_woken);
        }
        for mut start in round.starting {
            let saga = start.work.saga;
            start.accept(saga, true);
            self.keep(start.work, false);
        }
        for (happening, came) in round.happenings.into_iter().zip(came) {
            if let Came::Of(Verdict::Ignored(reason)) = came {
                self.telemetry.ignored(reason.as_str());
            }
            happening.respond(&came);
        }
    }

    pub(super) fn keep(&mut self, mut work: Work, is_woken: bool) {
        let again = if is_woken { work.outstanding() } else { Vec::new() };
        for command in work.commands.drain(..).chain(again) {
            if self.store.is_local(&command.participant) {
                self.put_in_line(work.saga, command);
            }
        }
        work.committed();
        self.set_timer(&work);
        let status = work.status();
        if status.is_at_rest() {
            for watcher in self.watchers.remove(&work.saga).unwrap_or_default() {
                let _ = watcher.send(Ok(status));
            }
        }
        if !status.is_at_rest() {
            self.cache.put(work);
        }
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
