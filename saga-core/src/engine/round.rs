//! What one commit deals with, and how it is made smaller when something in it cannot be committed.

use tracing::error;

use super::local::LocalCall;
use super::request::Happening;
use super::starts::Starting;
use super::worker::Worker;
use crate::message::Outcome;
use crate::participant::Answer;
use crate::store::StoreError;
use crate::{BoxError, SagaId};

/// What one commit deals with.
#[derive(Default)]
pub(super) struct Round {
    pub(super) starting: Vec<Starting>,
    pub(super) happenings: Vec<Happening>,
    pub(super) local: Vec<LocalCall>,
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.starting.is_empty() && self.happenings.is_empty() && self.local.is_empty()
    }

    /// Returns true if all that is left is one local command, and its participant was asked.
    pub(super) fn is_one_call(&self) -> bool {
        self.starting.is_empty()
            && self.happenings.is_empty()
            && matches!(self.local.as_slice(), [LocalCall { answer: None, .. }])
    }

    /// Answers the local commands of some sagas with a failure instead of asking their participants.
    pub(super) fn fail_local(&mut self, sagas: Vec<(SagaId, String)>) {
        for (saga, problem) in sagas {
            for call in self.local.iter_mut().filter(|call| call.saga == saga) {
                error!(%saga, step = %call.command.step, problem, "local command failed for good");
                let outcome = Outcome::FailedPermanently(problem.clone());
                call.answer = Some(Answer::failed(outcome));
            }
        }
    }

    /// Takes the round apart into rounds of one element each.
    pub(super) fn split(&mut self) -> Vec<Self> {
        let round = std::mem::take(self);
        let starts =
            round.starting.into_iter().map(|it| Self { starting: vec![it], ..Self::default() });
        let events =
            round.happenings.into_iter().map(|it| Self { happenings: vec![it], ..Self::default() });
        let local = round.local.into_iter().map(|it| Self { local: vec![it], ..Self::default() });
        starts.chain(events).chain(local).collect()
    }

    /// Takes out the local commands whose participant must still be asked.
    pub(super) fn take_unanswered(&mut self) -> Vec<LocalCall> {
        self.local.extract_if(.., |call| call.answer.is_none()).collect()
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
