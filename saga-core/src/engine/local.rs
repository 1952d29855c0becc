//! Participants inside the engine: their effects are made in the transaction that commits the answers.
//!
//! A saga goes on in that transaction as long as the next command is for such a participant too, so
//! that a saga with no other takes one commit from its start to its end. What is committed is what
//! a commit per step would have left, the history included. If anything comes in between, nothing
//! of it has happened: the new sagas are put back to where they began, and the round is tried again
//! without whatever is to blame, or, if nobody knows what is, with one step of each saga.

use std::collections::{HashMap, HashSet};

use tracing::{error, warn};

use super::round::Round;
use super::routing::envelope;
use super::starts::Starting;
use super::tick::Setback;
use super::work::{Broken, Work};
use super::worker::Worker;
use super::works::Works;
use crate::machine::{Event, OutgoingCommand, ReplyEvent};
use crate::message::Outcome;
use crate::participant::{Answer, LocalFailure};
use crate::store::erased::{DynSagaStore, LocalCommand, OpenTransaction};
use crate::transport::Record;
use crate::{MessageId, Payload, SagaId};

/// How many steps of a saga one commit holds: a long saga lets go of the rows that its handlers locked.
const STEPS_MAX: usize = 8;

/// Most bytes of commands that wait for their turn in memory. Of those beyond, the payload is made again.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// A command for a participant inside the engine that is committed as outstanding.
pub(super) struct LocalCall {
    pub(super) saga: SagaId,
    pub(super) command: OutgoingCommand,
    /// The payload was left out, for too much waits already.
    is_light: bool,
}

impl LocalCall {
    fn bytes(&self) -> usize {
        self.command.payload.0.len()
    }
}

/// An attempt of a command.
pub(super) type Attempt = (MessageId, u32);

/// What came of the local commands of a round. Without any there is no transaction.
#[derive(Default)]
pub(super) struct Effects<'a> {
    pub(super) facts: Vec<Record>,
    pub(super) transaction: Option<Box<dyn OpenTransaction + 'a>>,
    /// How many commands were asked for in it.
    pub(super) asked: usize,
    /// What each saga was answered last.
    answered: HashMap<SagaId, Attempt>,
}

/// A command that is to be carried out now, and the place of its saga in the round.
struct Call {
    place: usize,
    command: OutgoingCommand,
}

impl Worker {
    /// Takes the local commands of a tick from the queue, as many as go well together, and none twice of
    /// one saga.
    pub(super) fn take_local(&mut self) -> Vec<LocalCall> {
        let mut sagas = HashSet::new();
        let mut calls = Vec::new();
        let mut later = Vec::new();
        while calls.len() < self.pace.commands()
            && let Some(call) = self.local.pop_front()
        {
            self.local_bytes -= call.bytes();
            let is_first = sagas.insert(call.saga);
            if is_first { &mut calls } else { &mut later }.push(call);
        }
        self.postpone(later);
        calls
    }

    pub(super) fn postpone(&mut self, calls: Vec<LocalCall>) {
        for call in calls.into_iter().rev() {
            self.local_bytes += call.bytes();
            self.local.push_front(call);
        }
    }

    /// Lets a command wait for its turn, unless it does already.
    pub(super) fn put_in_line(&mut self, saga: SagaId, mut command: OutgoingCommand) {
        if !self.local_ids.insert(command.id) {
            return;
        }
        let is_light = self.local_bytes >= BYTES_MAX;
        if is_light {
            command.payload = Payload::default();
        }
        let call = LocalCall { saga, command, is_light };
        self.local_bytes += call.bytes();
        self.local.push_back(call);
    }

    /// Carries out the local commands of a round and those that follow from their answers.
    pub(super) async fn carry_out<'a>(
        &mut self,
        store: &'a dyn DynSagaStore,
        round: &mut Round,
        works: &mut Works,
    ) -> Result<Effects<'a>, Setback> {
        let mut effects = Effects::default();
        let mut calls = works.awaited(&round.local);
        for _ in 0..STEPS_MAX {
            if round.goes_on {
                self.add_next(&mut calls, works, &mut round.starting, &effects);
            }
            if calls.is_empty() {
                break;
            }
            let calls = std::mem::take(&mut calls);
            self.carry_out_step(store, calls, round, works, &mut effects).await?;
        }
        Ok(effects)
    }

    /// Takes the first local command that was decided on of every saga that is not called already, and
    /// takes on no more sagas than go well together.
    fn add_next(
        &self,
        calls: &mut Vec<Call>,
        works: &mut Works,
        starting: &mut [Starting],
        effects: &Effects<'_>,
    ) {
        let called: HashSet<_> = calls.iter().map(|call| call.place).collect();
        let mut room =
            self.pace.commands().saturating_sub(called.len().max(effects.answered.len()));
        let all = works.all.iter_mut().chain(starting.iter_mut().map(|it| &mut it.work));
        for (place, work) in all.enumerate().filter(|(place, _)| !called.contains(place)) {
            let is_new = !effects.answered.contains_key(&work.saga);
            if is_new && room == 0 {
                continue;
            }
            let is_local = |it: &OutgoingCommand| self.store.is_local(&it.participant);
            let Some(index) = work.commands.iter().position(is_local) else { continue };
            // Nothing must happen for a new saga that cannot be stored as it began.
            if work.remember_begin(self.now(), &*self.store) {
                let command = work.commands.remove(index);
                calls.push(Call { place, command });
                room -= usize::from(is_new);
            }
        }
    }

    /// Carries out one step of some sagas, and decides on the answers.
    async fn carry_out_step<'a>(
        &mut self,
        store: &'a dyn DynSagaStore,
        calls: Vec<Call>,
        round: &mut Round,
        works: &mut Works,
        effects: &mut Effects<'a>,
    ) -> Result<(), Setback> {
        let mut asked = Vec::with_capacity(calls.len());
        let mut commands = Vec::with_capacity(calls.len());
        for Call { place, command } in calls {
            if let Some(answer) = round.answer(&command) {
                self.answer(place, &command, answer, round, works, effects);
                continue;
            }
            let work = place_of(works, round, place);
            let envelope = envelope(&self.name, work, &command, None, self.now());
            let Some(envelope) = envelope else { continue };
            commands.push(LocalCommand { participant: command.participant.clone(), envelope });
            asked.push(Call { place, command });
        }
        let answers = effects.ask(store, &commands).await?;
        for (Call { place, command }, answer) in asked.into_iter().zip(answers) {
            self.answer(place, &command, answer, round, works, effects);
        }
        Ok(())
    }

    /// Decides on the answer to a local command.
    fn answer(
        &self,
        place: usize,
        command: &OutgoingCommand,
        answer: Answer,
        round: &mut Round,
        works: &mut Works,
        effects: &mut Effects<'_>,
    ) {
        let OutgoingCommand { id, attempt, .. } = *command;
        let Answer { outcome, payload, .. } = answer;
        let reply = ReplyEvent { command: id, attempt, outcome, payload };
        let work = place_of(works, round, place);
        let saga = work.saga;
        effects.answered.insert(saga, (id, attempt));
        if let Err(broken) = work.decide(Event::Reply(reply), self.now()) {
            works.broken.push((saga, broken));
        }
    }

    /// One of the local commands fails, and which one is not known: there will be one step of each
    /// saga in the next try, and then half of them, until one stands alone.
    pub(super) fn narrow(&mut self, round: &mut Round) {
        if !std::mem::take(&mut round.goes_on) {
            let half = round.local.len().div_ceil(2);
            self.postpone(round.local.split_off(half));
        }
    }
}

impl<'a> Effects<'a> {
    /// Asks the participants, in a transaction that is left open.
    async fn ask(
        &mut self,
        store: &'a dyn DynSagaStore,
        commands: &[LocalCommand],
    ) -> Result<Vec<Answer>, Setback> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let is_first = self.transaction.is_none();
        if is_first {
            self.transaction = Some(store.begin().await?);
        }
        self.asked += commands.len();
        let transaction = self.transaction.as_mut().expect("it was just begun");
        match transaction.carry_out(commands).await {
            Ok((answers, told)) => {
                self.facts.extend(told);
                Ok(answers)
            }
            Err(LocalFailure { outcome, excuse }) => {
                let failed = match commands {
                    [only] if is_first => only.attempt(),
                    _ => None,
                };
                Err(Setback::Local { failed, outcome, excuse })
            }
        }
    }

    /// Makes sure that every saga can go on, before the effects are committed.
    pub(super) fn check_taken(&self, works: &Works, round: &Round) -> Result<(), Setback> {
        let untaken = works.broken.iter().filter_map(|(saga, Broken(problem))| {
            let attempt = self.answered.get(saga)?;
            // One that is asked no more and still cannot go on is parked.
            let is_open = round.goes_on || !round.known.contains_key(attempt);
            is_open.then(|| (*attempt, problem.clone()))
        });
        let untaken: Vec<_> = untaken.collect();
        if !untaken.is_empty() {
            return Err(Setback::Untaken(untaken));
        }
        if self.transaction.is_some() && !works.broken.is_empty() {
            // Parking reads the store, which must not be done with a transaction open.
            return Err(Setback::LocalLater);
        }
        Ok(())
    }

    /// Returns what a saga was answered last.
    pub(super) fn answered(&self, saga: SagaId) -> Option<Attempt> {
        self.answered.get(&saga).copied()
    }
}

impl Round {
    /// Returns the answer to a command, if it is known without asking its participant.
    pub(super) fn answer(&self, command: &OutgoingCommand) -> Option<Answer> {
        // Without a known success there is no effect: a local step's effect and its success are one commit.
        if command.compensates.is_some() && !command.succeeded {
            return Some(Answer::nothing_to_undo());
        }
        self.known.get(&(command.id, command.attempt)).cloned()
    }

    /// Takes out the local commands whose participant must still be asked.
    pub(super) fn take_unanswered(&mut self) -> Vec<LocalCall> {
        let (open, known) = std::mem::take(&mut self.local)
            .into_iter()
            .partition(|call| self.answer(&call.command).is_none());
        self.local = known;
        open
    }

    /// Answers an attempt with a failure, from now on.
    pub(super) fn fail(&mut self, attempt: Attempt, outcome: Outcome) {
        warn!(command = %attempt.0, attempt = attempt.1, ?outcome, "local command failed");
        self.known.insert(attempt, Answer::failed(outcome));
    }

    /// Answers what sagas could not take the answers of with a failure for good.
    pub(super) fn fail_untaken(&mut self, untaken: Vec<(Attempt, String)>) {
        for (attempt, problem) in untaken {
            error!(command = %attempt.0, problem, "local command failed for good");
            let failed = Answer::failed(Outcome::FailedPermanently(problem));
            // A saga that cannot take the failure either is found out when it is on its own.
            self.goes_on &= self.known.insert(attempt, failed).is_none();
        }
    }

    /// Puts the new sagas back to where they began.
    pub(super) fn take_back_starts(&mut self) {
        self.starting.iter_mut().for_each(|it| it.work.begin_again());
    }
}

impl Works {
    /// Returns the calls for the commands that are still awaited.
    fn awaited(&self, local: &[LocalCall]) -> Vec<Call> {
        let calls = local.iter().filter_map(|LocalCall { saga, command, is_light }| {
            let place = self.place(*saga)?;
            let work = &self.all[place];
            if !work.awaits(command.id, command.attempt) {
                return None;
            }
            let command = match is_light {
                true => work.outstanding().into_iter().find(|it| it.id == command.id)?,
                false => command.clone(),
            };
            Some(Call { place, command })
        });
        calls.collect()
    }
}

/// Returns a saga of a round by its place: the loaded ones first, then the new ones.
fn place_of<'a>(works: &'a mut Works, round: &'a mut Round, place: usize) -> &'a mut Work {
    match place.checked_sub(works.all.len()) {
        None => &mut works.all[place],
        Some(index) => &mut round.starting[index].work,
    }
}
