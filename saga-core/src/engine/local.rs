//! Commands for participants inside the engine: carried out in the transaction of the tick that commits their answers.

use std::collections::{HashMap, HashSet};

use tracing::warn;

use super::round::Round;
use super::routing::envelope;
use super::tick::Setback;
use super::work::Broken;
use super::worker::Worker;
use super::works::Works;
use crate::machine::{Event, OutgoingCommand, ReplyEvent};
use crate::message::Outcome;
use crate::participant::Answer;
use crate::store::erased::{CarriedOut, DynSagaStore, LocalCommand, OpenTransaction};
use crate::transport::Record;
use crate::{SagaId, Timestamp};

/// A command for a participant inside the engine.
pub(super) struct LocalCall {
    pub(super) saga: SagaId,
    pub(super) command: OutgoingCommand,
    /// The answer, if it is known without asking the participant.
    pub(super) answer: Option<Answer>,
}

/// What came of the local commands of a round. Without any there is no transaction.
#[derive(Default)]
pub(super) struct Effects<'a> {
    pub(super) answers: Vec<Answer>,
    pub(super) facts: Vec<Record>,
    pub(super) transaction: Option<Box<dyn OpenTransaction + 'a>>,
}

impl Worker {
    /// Takes the local commands of a tick from the queue, none twice of one saga.
    pub(super) fn take_local(&mut self) -> Vec<LocalCall> {
        let mut sagas = HashSet::new();
        let mut calls = Vec::new();
        let mut later = Vec::new();
        while calls.len() < self.tick_max
            && let Some((saga, command)) = self.local.pop_front()
        {
            if !sagas.insert(saga) {
                later.push((saga, command));
                continue;
            }
            // Without a known success there is no effect: a local step's effect and its success are one commit.
            let is_idle = command.compensates.is_some() && !command.succeeded;
            let answer = is_idle.then(Answer::nothing_to_undo);
            calls.push(LocalCall { saga, command, answer });
        }
        later.into_iter().rev().for_each(|it| self.local.push_front(it));
        calls
    }

    /// Returns the local commands that are to be carried out: those that are still awaited.
    pub(super) fn local_commands(
        &self,
        works: &mut Works,
        calls: &[LocalCall],
        now: Timestamp,
    ) -> Vec<LocalCommand> {
        let awaited = calls.iter().filter(|call| call.answer.is_none());
        awaited
            .filter_map(|call| {
                let work = works.get(call.saga)?;
                if !work.awaits(call.command.id, call.command.attempt) {
                    return None;
                }
                let envelope = envelope(&self.name, work, &call.command, None, now)?;
                Some(LocalCommand { participant: call.command.participant.clone(), envelope })
            })
            .collect()
    }

    /// One of the local commands fails, and which one is not known: halves them until it stands alone.
    pub(super) fn narrow(&mut self, round: &mut Round, outcome: Outcome) {
        let mut open = round.local.iter_mut().filter(|call| call.answer.is_none());
        if let (Some(failed), None) = (open.next(), open.next()) {
            warn!(saga = %failed.saga, step = %failed.command.step, ?outcome, "local command failed");
            failed.answer = Some(Answer::failed(outcome));
            return;
        }
        let half = round.local.len().div_ceil(2);
        self.postpone(round.local.split_off(half));
    }

    pub(super) fn postpone(&mut self, calls: Vec<LocalCall>) {
        calls.into_iter().rev().for_each(|call| self.local.push_front((call.saga, call.command)));
    }
}

/// Carries out local commands in a transaction that is left open.
pub(super) async fn carry_out<'a>(
    store: &'a dyn DynSagaStore,
    commands: &'a [LocalCommand],
) -> Result<Effects<'a>, Setback> {
    if commands.is_empty() {
        return Ok(Effects::default());
    }
    let CarriedOut { answers, facts, transaction } = store.carry_out(commands).await?;
    Ok(Effects { answers, facts, transaction: Some(transaction) })
}

impl Works {
    /// Decides on the answers to local commands.
    pub(super) fn answer(
        &mut self,
        calls: &[LocalCall],
        carried_out: &[LocalCommand],
        answers: Vec<Answer>,
        now: Timestamp,
    ) {
        let answers = carried_out.iter().map(|it| it.envelope.id).zip(answers);
        let mut answers: HashMap<_, _> = answers.collect();
        for call in calls {
            let Some(answer) = answers.remove(&call.command.id).or_else(|| call.answer.clone())
            else {
                continue;
            };
            let reply = ReplyEvent {
                command: call.command.id,
                attempt: call.command.attempt,
                outcome: answer.outcome,
                payload: answer.payload,
            };
            let Some(work) = self.get(call.saga) else { continue };
            if let Err(broken) = work.decide(Event::Reply(reply), now) {
                self.broken.push((call.saga, broken));
            }
        }
    }

    /// Makes sure that every saga can go on, before the effects of local commands are committed.
    pub(super) fn check_taken(&self, calls: &[LocalCall]) -> Result<(), Setback> {
        let untaken = self.broken_among(calls);
        if !untaken.is_empty() {
            return Err(Setback::Untaken(untaken));
        }
        if !self.broken.is_empty() {
            // Parking reads the store, which must not be done with a transaction open.
            return Err(Setback::LocalLater);
        }
        Ok(())
    }

    /// Returns the broken sagas that a local command was carried out for.
    fn broken_among(&self, calls: &[LocalCall]) -> Vec<(SagaId, String)> {
        let asked: HashSet<_> =
            calls.iter().filter(|call| call.answer.is_none()).map(|call| call.saga).collect();
        let broken = self.broken.iter().filter(|(saga, _)| asked.contains(saga));
        broken.map(|(saga, Broken(problem))| (*saga, problem.clone())).collect()
    }
}
