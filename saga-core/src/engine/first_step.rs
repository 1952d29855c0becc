//! The first step of a new saga, carried out in the very transaction that starts it.
//!
//! A saga whose first participant is inside the engine needs one commit less: its start, the first
//! step's effect and its answer are durable together, or none of them is. If anything comes in
//! between, the new sagas are put back to where they began and are started alone, and their first
//! step is one like every other. So one that fails or waits costs nobody more than a second try.

use bytes::Bytes;

use super::round::Round;
use super::routing::envelope;
use super::starts::Starting;
use super::tick::Setback;
use super::worker::Worker;
use crate::machine::{Event, HistoryEntry, OutgoingCommand, ReplyEvent};
use crate::message::Outcome;
use crate::participant::Answer;
use crate::store::erased::LocalCommand;
use crate::{MessageId, ParticipantName, Timestamp};

/// What becomes of the first step in the commit that starts its saga.
#[derive(Default)]
pub(super) enum FirstStep {
    /// Its participant is asked.
    #[default]
    Ask,
    /// Its participant was asked in vain: this is what it came to, and it is not asked again.
    Answered(Answer),
    /// It is left for a tick of its own.
    Leave,
}

/// A new saga as it began, before its first step.
pub(super) struct Begun {
    pub(super) state: Bytes,
    pub(super) history: Vec<HistoryEntry>,
}

/// The first command of a saga that starts in the round.
pub(super) struct FirstCall {
    /// Which of the round's new sagas.
    start: usize,
    command: MessageId,
    attempt: u32,
    /// The answer, if it is known without asking the participant.
    answer: Option<Answer>,
}

impl Worker {
    /// Adds the first commands of new sagas to what participants inside the engine are asked.
    ///
    /// A saga that cannot be stored as it began is left out: nothing must happen for it.
    pub(super) fn first_calls(
        &self,
        starting: &mut [Starting],
        commands: &mut Vec<LocalCommand>,
        now: Timestamp,
    ) -> Vec<FirstCall> {
        let mut calls = Vec::new();
        for (index, start) in starting.iter_mut().enumerate() {
            let answer = match &start.first_step {
                FirstStep::Ask => None,
                FirstStep::Answered(answer) => Some(answer.clone()),
                FirstStep::Leave => continue,
            };
            let is_local = |participant: &ParticipantName| self.store.is_local(participant);
            let first = start.work.commands.iter().find(|it| is_local(&it.participant));
            let Some(command) = first.cloned() else { continue };
            let Some(begun) = start.work.begun(now, &*self.store) else { continue };
            if answer.is_none() {
                let envelope = envelope(&self.name, &start.work, &command, None, now);
                let Some(envelope) = envelope else { continue };
                commands.push(LocalCommand { participant: command.participant, envelope });
            }
            start.begun = Some(begun);
            let OutgoingCommand { id: command, attempt, .. } = command;
            calls.push(FirstCall { start: index, command, attempt, answer });
        }
        calls
    }
}

impl Round {
    /// Decides on the answers to first commands: those that are known and those that came.
    pub(super) fn answer_first(
        &mut self,
        calls: Vec<FirstCall>,
        came: Vec<Answer>,
        now: Timestamp,
    ) -> Result<(), Setback> {
        let mut came = came.into_iter();
        for FirstCall { start, command, attempt, answer } in calls {
            let Some(Answer { outcome, payload, .. }) = answer.or_else(|| came.next()) else {
                continue;
            };
            let work = &mut self.starting[start].work;
            work.commands.retain(|it| it.id != command);
            let reply = ReplyEvent { command, attempt, outcome, payload };
            let decided = work.decide(Event::Reply(reply), now);
            decided.map_err(|broken| Setback::FirstStep { start, problem: broken.0 })?;
        }
        Ok(())
    }

    /// Puts the new sagas back to where they began, and those whose first step is to blame to where
    /// it has failed; returns false if there is nothing to be put back.
    pub(super) fn take_back_first_steps(&mut self, setback: &Setback) -> bool {
        let blamed = self.blamed(setback);
        let mut had_gone_on = false;
        for (index, start) in self.starting.iter_mut().enumerate() {
            let Some(begun) = start.begun.take() else { continue };
            had_gone_on = true;
            start.work.begin_again(begun);
            start.first_step = match (&start.first_step, &blamed) {
                (FirstStep::Ask, Some((blamed, outcome))) if *blamed == index => {
                    FirstStep::Answered(Answer::failed(outcome.clone()))
                }
                _ => FirstStep::Leave,
            };
        }
        had_gone_on
    }

    /// Returns the new saga whose first step made the round fail, if it is known.
    fn blamed(&self, setback: &Setback) -> Option<(usize, Outcome)> {
        match setback {
            Setback::FirstStep { start, problem } => {
                Some((*start, Outcome::FailedPermanently(problem.clone())))
            }
            // It was the only one that was asked.
            Setback::Local(outcome) if self.local.iter().all(|it| it.answer.is_some()) => {
                let mut asked = self.starting.iter().enumerate().filter(|(_, it)| it.was_asked());
                let (only, None) = (asked.next()?.0, asked.next()) else { return None };
                Some((only, outcome.clone()))
            }
            _ => None,
        }
    }
}

impl Starting {
    const fn was_asked(&self) -> bool {
        self.begun.is_some() && matches!(self.first_step, FirstStep::Ask)
    }
}
