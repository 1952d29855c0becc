//! Commands whose effect is a call to another system: made first, recorded afterwards.
//!
//! Calls are made apart from everything else. One that takes long holds up the commands that have to
//! do with it, and no others.

use std::collections::{HashMap, HashSet};
use std::iter::{from_fn, once};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::Instrument as _;
use uuid::Uuid;

use super::Inbox;
use super::barrier::{Barrier, Ruling, apart, ids};
use super::incoming::Incoming;
use super::route::{Answer, DynCall, Route};
use super::service::{BATCH_MAX, QUICK_BACKOFF, QUICK_TRIES, Service};
use super::telemetry::Times;
use super::writing::Written;
use crate::message::Envelope;
use crate::outage::Outage;
use crate::store::StoreError;
use crate::time::now;
use crate::{Error, Timestamp};

/// Calls that are being made, and the commands that wait for the end of one.
#[derive(Default)]
pub(super) struct Calls {
    made: JoinSet<Called>,
    /// Commands that have to do with one that is called for or waits, in the order that they came.
    waiting: Vec<Incoming>,
    /// How many of those have to do with each of these ids.
    touched: HashMap<Uuid, u32>,
}

/// What came of a call.
pub(super) struct Called {
    incoming: Incoming,
    begun: Timestamp,
    answer: Answer,
}

impl Calls {
    /// Returns true if calls are being made.
    pub(super) fn are_made(&self) -> bool {
        !self.made.is_empty()
    }

    /// Returns how many more commands may be taken on.
    pub(super) fn room(&self) -> usize {
        BATCH_MAX.saturating_sub(self.made.len() + self.waiting.len())
    }

    /// Waits until calls are answered. Never returns while none is made.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn answered(&mut self) -> Vec<Called> {
        let Some(first) = self.made.join_next().await else { return std::future::pending().await };
        let all = once(first).chain(from_fn(|| self.made.try_join_next()));
        all.map(|it| it.expect("panics of handlers are caught, and no call is aborted")).collect()
    }

    /// Makes a call, of a command that was split off.
    fn make(&mut self, incoming: Incoming, handler: Arc<dyn DynCall>, limit: Duration) {
        let call = async move {
            let begun = now();
            let answer = call(&*handler, &incoming.envelope, limit).await;
            Called { incoming, begun, answer }
        };
        self.made.spawn(call.in_current_span());
    }

    /// Splits commands into those that are to be called for, and those that are to be carried out in
    /// a transaction; what has to do with a command before it that is called for must wait.
    fn split(
        &mut self,
        commands: Vec<Incoming>,
        is_external: impl Fn(&Envelope) -> bool,
    ) -> (Vec<Incoming>, Vec<Incoming>) {
        let (mut external, mut transactional) = (Vec::new(), Vec::new());
        let mut carried_out: HashSet<Uuid> = HashSet::new();
        for command in commands {
            let ids = || command.touched();
            let is_external = is_external(&command.envelope);
            let must_wait = ids().any(|id| self.touched.contains_key(&id))
                || (is_external && ids().any(|id| carried_out.contains(&id)));
            if must_wait || is_external {
                ids().for_each(|id| *self.touched.entry(id).or_default() += 1);
            } else {
                carried_out.extend(ids());
            }
            match (must_wait, is_external) {
                (true, _) => self.waiting.push(command),
                (false, true) => external.push(command),
                (false, false) => transactional.push(command),
            }
        }
        (external, transactional)
    }

    /// Takes the commands that wait; some of them may go on.
    fn take_waiting(&mut self) -> Vec<Incoming> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|it| self.end(it));
        waiting
    }

    /// Notes that a command does not hold up others any more.
    fn end(&mut self, command: &Incoming) {
        for id in command.touched() {
            if let Some(commands) = self.touched.get_mut(&id) {
                *commands -= 1;
                if *commands == 0 {
                    self.touched.remove(&id);
                }
            }
        }
    }
}

impl<S: Inbox> Service<S> {
    /// Carries out commands in transactions, and begins the calls of those that call other systems.
    pub(super) async fn carry_out_at_once(
        &mut self,
        mut commands: Vec<Incoming>,
    ) -> Result<(), Error> {
        let calls_out = self.participant.calls_out();
        loop {
            let (external, transactional) = match calls_out {
                true => self.calls.split(commands, |it| self.participant.is_external(it)),
                false => (Vec::new(), commands),
            };
            if external.is_empty() && transactional.is_empty() {
                return Ok(());
            }
            self.make_calls(external).await?;
            // One that fails again does not take back what others have done.
            let (first, again) = apart(transactional);
            for commands in [first, again] {
                self.handle_transactionals(&commands).await?;
                self.finish(commands).await?;
            }
            commands = self.calls.take_waiting();
        }
    }

    /// Makes calls, unless the inbox knows the answer.
    async fn make_calls(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let are_answered = self.answer_what_is_known(&commands).await?;
        let mut answered = Vec::new();
        for (command, is_answered) in commands.into_iter().zip(are_answered) {
            match self.participant.routes.get(&command.envelope.message_type) {
                Some(Route::External(handler)) if !is_answered => {
                    let (handler, limit) = (Arc::clone(handler), self.participant.handler_timeout);
                    self.calls.make(command, handler, limit);
                }
                _ => answered.push(command),
            }
        }
        answered.iter().for_each(|it| self.calls.end(it));
        self.finish(answered).await
    }

    /// Answers the commands that the inbox knows the answer of, and says which ones.
    pub(super) async fn answer_what_is_known(
        &mut self,
        commands: &[Incoming],
    ) -> Result<Vec<bool>, Error> {
        let mut outage = Outage::new(&self.stop);
        loop {
            match self.answer_known(commands).await {
                Ok(are_answered) => return Ok(are_answered),
                Err(error) => outage.outlast(error).await?,
            }
        }
    }

    async fn answer_known(&mut self, commands: &[Incoming]) -> Result<Vec<bool>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let begun = now();
        let (transaction, mut barrier) = self.ask(commands.iter()).await?;
        let mut written = Written::default();
        let mut duplicates = 0;
        let mut are_answered = Vec::with_capacity(commands.len());
        for command in commands {
            duplicates += u64::from(barrier.knows(command.id));
            let ruling = barrier.rule(command, true);
            match &ruling {
                Ruling::Answer(recorded) => self.answer(&mut written, command, recorded),
                Ruling::Forgotten => self.answer_forgotten(&mut written, command),
                Ruling::CarryOut => {}
            }
            are_answered.push(!matches!(ruling, Ruling::CarryOut));
        }
        if are_answered.contains(&true) {
            let times = Times::begun(begun);
            self.commit(transaction, barrier.into_records(), &written).await?;
            self.telemetry.duplicates(duplicates);
            let answered = commands.iter().zip(&are_answered).filter(|(_, is)| **is);
            answered.for_each(|(it, _)| self.telemetry.answered(it, times, None));
        }
        Ok(are_answered)
    }

    /// Records what came of calls, answers them, and goes on with what waited for them.
    pub(super) async fn record_calls(&mut self, called: Vec<Called>) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        while let Err(error) = self.record_at_once(&called).await {
            outage.outlast(error).await?;
        }
        called.iter().for_each(|it| self.calls.end(&it.incoming));
        self.finish(called.into_iter().map(|it| it.incoming).collect()).await?;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let waiting = self.calls.take_waiting();
        self.carry_out_at_once(waiting).await
    }

    /// Records what came of calls. If somebody else made the same call meanwhile this is a conflict,
    /// and at the next try what was recorded first stands.
    async fn record_at_once(&mut self, called: &[Called]) -> Result<(), StoreError> {
        let (transaction, mut barrier) = self.ask(called.iter().map(|it| &it.incoming)).await?;
        let mut written = Written::default();
        for Called { incoming, answer, .. } in called {
            let recorded = match barrier.rule(incoming, true) {
                Ruling::Answer(recorded) => recorded,
                Ruling::Forgotten => {
                    self.answer_forgotten(&mut written, incoming);
                    continue;
                }
                Ruling::CarryOut => barrier.record(incoming, answer.clone()),
            };
            self.answer(&mut written, incoming, &recorded);
        }
        let committing = now();
        self.commit(transaction, barrier.into_records(), &written).await?;
        for Called { incoming, begun, answer } in called {
            let times = Times { begun: *begun, committing };
            self.telemetry.answered(incoming, times, answer.failure());
        }
        Ok(())
    }

    /// Begins a transaction with what the inbox knows of commands.
    async fn ask(
        &self,
        commands: impl Iterator<Item = &Incoming> + Send,
    ) -> Result<(S::Transaction, Barrier), StoreError> {
        let ids = ids(commands);
        let mut transaction = self.store.begin().await?;
        let remembered = self.store.recorded(&mut transaction, &ids).await?;
        Ok((transaction, Barrier::new(remembered)?))
    }

    /// Waits until no call is made, and nothing waits for one.
    pub(super) async fn await_calls(&mut self) -> Result<(), Error> {
        while self.calls.are_made() {
            let called = self.calls.answered().await;
            self.record_calls(called).await?;
        }
        Ok(())
    }
}

/// Calls another system, a few times at once if it fails.
async fn call(handler: &dyn DynCall, command: &Envelope, limit: Duration) -> Answer {
    let mut tries = 0;
    loop {
        tries += 1;
        match handler.call(command, limit).await {
            Ok(answer) => return answer,
            Err(failure) if failure.error.is_terminal() || tries >= QUICK_TRIES => {
                return Answer::failed(failure.outcome());
            }
            Err(_) => tokio::time::sleep(QUICK_BACKOFF.delay(tries, 0)).await,
        }
    }
}
