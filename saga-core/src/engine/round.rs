//! What one commit deals with, and how it is made smaller when something in it cannot be committed.

use std::collections::HashMap;

use tracing::error;

use super::local::{Attempt, LocalCall};
use super::request::Happening;
use super::starts::Starting;
use super::worker::Worker;
use crate::machine::Event;
use crate::participant::Answer;
use crate::store::StoreError;
use crate::{BoxError, SagaId, Timestamp};

/// What one commit deals with.
#[derive(Default)]
pub(super) struct Round {
    pub(super) starting: Vec<Starting>,
    pub(super) happenings: Vec<Happening>,
    pub(super) local: Vec<LocalCall>,
    /// Whether its sagas go on with the local commands that are decided on in this round.
    pub(super) goes_on: bool,
    /// What the participants inside the engine are not asked, because they were asked in vain.
    pub(super) known: HashMap<Attempt, Answer>,
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.starting.is_empty() && self.happenings.is_empty() && self.local.is_empty()
    }

    /// Notes that participants could not be reached before this.
    pub(super) fn reachable_since(&mut self, time: Timestamp) {
        for happening in &mut self.happenings {
            if let Event::TimerFired { reachable_since } = &mut happening.event {
                *reachable_since = time.max(*reachable_since);
            }
        }
    }

    /// Returns true if a participant may be asked more than one thing in one transaction.
    pub(super) fn asks_several(&self) -> bool {
        self.goes_on || self.local.len() > 1
    }

    /// Returns the only command that is carried out, if there is nothing else that can be to blame.
    pub(super) fn only_call(&self) -> Option<Attempt> {
        let [LocalCall { command, .. }] = self.local.as_slice() else { return None };
        let is_alone = self.starting.is_empty() && self.happenings.is_empty() && !self.goes_on;
        (is_alone && self.answer(command).is_none()).then_some((command.id, command.attempt))
    }

    /// Takes the round apart into rounds of one element each.
    pub(super) fn split(&mut self) -> Vec<Self> {
        let Self { starting, happenings, local, mut known, .. } = std::mem::take(self);
        let starts = starting.into_iter().map(|it| Self { starting: vec![it], ..Self::default() });
        let happenings =
            happenings.into_iter().map(|it| Self { happenings: vec![it], ..Self::default() });
        let local = local.into_iter().map(|it| {
            let attempt = (it.command.id, it.command.attempt);
            let known = known.remove(&attempt).map(|answer| (attempt, answer));
            Self { local: vec![it], known: known.into_iter().collect(), ..Self::default() }
        });
        starts.chain(happenings).chain(local).collect()
    }
}

impl Worker {
    /// Leaves out a saga whose stored state cannot be read: a person must look, and the others go on.
    pub(super) fn leave_out(
        &mut self,
        saga: SagaId,
        round: &mut Round,
        source: &(dyn std::error::Error + Send + Sync),
    ) {
        error!(%saga, %source, "stored state of the saga cannot be read; what happens to it is dropped");
        for call in round.local.extract_if(.., |call| call.saga == saga) {
            self.local_ids.remove(&call.command.id);
        }
        for happening in round.happenings.extract_if(.., |it| it.saga == saga) {
            if let Some(responder) = happening.responder {
                let source: BoxError = source.to_string().into();
                let _ = responder.send(Err(StoreError::Corrupt { saga, source }.into()));
            }
        }
    }

    /// Gives up on elements that the store refuses.
    pub(super) fn reject(
        &mut self,
        round: Round,
        operation: &'static str,
        source: &(dyn std::error::Error + Send + Sync),
    ) {
        for start in round.starting {
            self.refuse(start, &format!("the store refuses it during {operation}: {source}"));
        }
        for happening in round.happenings {
            error!(saga = %happening.saga, %source, "the store refuses what happened to the saga; it is dropped");
            if let Some(responder) = happening.responder {
                let source: BoxError = source.to_string().into();
                let _ = responder.send(Err(StoreError::Refused { operation, source }.into()));
            }
        }
        for call in round.local {
            error!(saga = %call.saga, step = %call.command.step, %source, "the store refuses the outcome of a local command");
            self.local_ids.remove(&call.command.id);
        }
    }
}
