//! The tick: everything that was gathered, decided in memory, made durable in one commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tracing::{debug, error, trace, warn};

use super::request::{Accepted, Batch, Happening, Input, Requester, Start};
use super::routing::envelope;
use super::work::{Broken, Work};
use super::worker::{Worker, dead_letter_of};
use crate::machine::{Event, OutgoingCommand, Progress, ReplyEvent, Verdict};
use crate::message::Outcome;
use crate::outage::Outage;
use crate::participant::Answer;
use crate::store::erased::{CarriedOut, DynSagaStore, LocalCommand, LocalSetback};
use crate::store::{DeadLetter, Lane, NewSaga, OutboxRow, StoreError, Tick};
use crate::transport::{Position, Record};
use crate::{BoxError, Error, OutboxId, SagaId};

/// What one commit deals with.
#[derive(Default)]
struct Round {
    starting: Vec<Starting>,
    happenings: Vec<Happening>,
    local: Vec<LocalCall>,
}

/// A saga that was decided to start and is not committed yet.
struct Starting {
    work: Work,
    requesters: Vec<Requester>,
}

/// A command for a participant inside the engine.
struct LocalCall {
    saga: SagaId,
    command: OutgoingCommand,
    /// The answer, if it is known without asking the participant.
    answer: Option<Answer>,
}

/// Why a round was not committed. Nothing was written, or nobody knows.
enum Setback {
    Store(StoreError),
    /// A participant inside the engine failed at one of the commands.
    Local(Outcome),
    /// These sagas cannot take the answers that they got from inside; the effects must not stay.
    Untaken(Vec<(SagaId, String)>),
    /// The local commands must wait for another round.
    LocalLater,
}

/// The sagas of a round, in the order that they were met.
#[derive(Default)]
struct Works {
    all: Vec<Work>,
    index: HashMap<SagaId, usize>,
    broken: Vec<(SagaId, Broken)>,
}

/// What came of something that happened to a saga.
enum Came {
    Of(Verdict),
    ToNobody,
    ToNothing,
}

/// Records by the lane that they leave through.
type Outgoing = BTreeMap<u32, Vec<Record>>;

impl Worker {
    /// Decides on everything in a batch and makes it durable; returns what to acknowledge.
    ///
    /// A conflict, a lost connection or an element that is refused changes nothing and is overcome here.
    pub(super) async fn tick(&mut self, batch: Batch) -> Result<Vec<Position>, Error> {
        let Batch { inputs, dead_letters, positions } = batch;
        if !dead_letters.is_empty() {
            self.set_aside(dead_letters).await?;
        }
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
        self.carry_through(round).await?;
        if !self.unstartable.is_empty() {
            let unstartable = std::mem::take(&mut self.unstartable);
            self.set_aside(unstartable).await?;
        }
        Ok(positions)
    }

    /// Tries a round until it is committed.
    async fn carry_through(&mut self, mut round: Round) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        while !round.is_empty() {
            match self.attempt(&mut round).await {
                Ok(()) => return Ok(()),
                Err(Setback::Local(outcome)) => self.narrow(&mut round, outcome),
                Err(Setback::Untaken(sagas)) => round.fail_local(sagas),
                Err(Setback::LocalLater) => self.postpone(round.local.drain(..)),
                Err(Setback::Store(StoreError::Conflict)) => {
                    debug!("another engine or another start came first; deciding again");
                    self.settle_started(&mut round.starting).await?;
                }
                Err(Setback::Store(StoreError::Refused { source, .. })) if round.is_one_call() => {
                    let saga = round.local[0].saga;
                    round.fail_local(vec![(saga, format!("the store refuses it: {source}"))]);
                }
                Err(Setback::Store(StoreError::Refused { operation, source })) => {
                    let parts = round.split();
                    if parts.len() > 1 {
                        for part in parts {
                            Box::pin(self.carry_through(part)).await?;
                        }
                    } else {
                        parts.into_iter().for_each(|it| self.reject(it, operation, &*source));
                    }
                    return Ok(());
                }
                Err(Setback::Store(StoreError::Corrupt { saga, source })) => {
                    round.leave_out(saga, &*source);
                }
                Err(Setback::Store(error)) => {
                    outage.outlast(error).await?;
                    // The commit that seemed to fail may have been made; then its messages are in the outbox.
                    self.to_recover.extend(self.routing.owned());
                    self.to_recover.extend(round.starting.iter().map(|it| it.work.home));
                    self.recover_lanes().await?;
                    self.settle_started(&mut round.starting).await?;
                }
            }
        }
        Ok(())
    }

    /// Tries to commit a round. Nothing is taken out of it unless that succeeds.
    async fn attempt(&mut self, round: &mut Round) -> Result<(), Setback> {
        let now = self.now();
        let mut works = self.load(round).await?;
        let mut came: Vec<_> = round.happenings.iter().map(|it| works.happen(it, now)).collect();
        self.doubt(round, &mut works, &mut came).await?;
        for happening in &round.happenings {
            if let (Event::TimerFired, Some(work)) = (&happening.event, works.get(happening.saga)) {
                work.touch(now, &*self.store);
            }
        }
        let store = Arc::clone(&self.store);
        let calls = self.local_commands(&mut works, &round.local, now);
        let carried_out = match calls.is_empty() {
            true => None,
            false => Some(store.carry_out(&calls).await?),
        };
        let (answers, facts, transaction) = match carried_out {
            Some(CarriedOut { answers, facts, transaction }) => (answers, facts, Some(transaction)),
            None => (Vec::new(), Vec::new(), None),
        };
        works.answer(&round.local, &calls, answers, now);

        let mut tick = Tick::default();
        works.encode(now, &*store, &mut tick);
        if transaction.is_some() {
            let untaken = works.broken_among(&round.local);
            if !untaken.is_empty() {
                return Err(Setback::Untaken(untaken));
            }
            if !works.broken.is_empty() {
                // Parking reads the store, which must not be done with a transaction open.
                return Err(Setback::LocalLater);
            }
        }
        self.park_broken(&mut works, &mut tick).await?;
        self.encode_starts(&mut round.starting, &mut tick);
        let rows = self.outbox(&works, &round.starting, facts, &mut tick);
        if let Some(outlet) = &mut self.outlet {
            tick.sent = outlet.take_acknowledged();
        }
        let sent = tick.sent.clone();
        let committed = match transaction {
            Some(transaction) => transaction.commit(tick).await,
            None if tick.is_empty() => Ok(()),
            None => store.commit(tick).await,
        };
        if let Err(error) = committed {
            if let Some(outlet) = &mut self.outlet {
                outlet.put_back_acknowledged(sent);
            }
            return Err(error.into());
        }
        self.publish(rows);
        self.finish(std::mem::take(round), works, came);
        Ok(())
    }

    /// Decides the start of new sagas. Starts under one key are one start.
    fn begin(&mut self, starts: Vec<Start>) -> Vec<Starting> {
        let (home, now) = (self.routing.next_home(), self.now());
        let mut starting: Vec<Starting> = Vec::with_capacity(starts.len());
        let mut by_key = HashMap::new();
        for start in starts {
            let Start { saga, definition, key, origin, data, requester } = start;
            let name = definition.name().clone();
            if let Some(key) = &key {
                let index = *by_key.entry((name.clone(), key.clone())).or_insert(starting.len());
                if let Some(first) = starting.get_mut(index) {
                    first.requesters.push(requester);
                    continue;
                }
            }
            let new = NewSaga {
                name,
                definition_version: definition.version(),
                fingerprint: definition.fingerprint(),
                key,
                home,
            };
            let cause = origin.causation;
            let progress = Progress::start_erased(&definition, saga, origin, data);
            let mut work = Work::start(definition, progress, new, cause);
            let decided = work.decide(Event::Started, now);
            let start = Starting { work, requesters: vec![requester] };
            match decided {
                Ok(_) => starting.push(start),
                Err(Broken(problem)) => {
                    by_key.retain(|_, index| *index != starting.len());
                    self.refuse(start, &problem);
                }
            }
        }
        starting
    }

    /// Says that a saga does not start: to its callers as an error, of its facts by setting them aside.
    fn refuse(&mut self, start: Starting, problem: &str) {
        let saga = start.work.saga;
        error!(%saga, problem, "saga cannot start");
        for requester in start.requesters {
            match requester {
                Requester::Caller(caller) => {
                    let reason = "its data or its first command cannot be made or stored";
                    let _ = caller.send(Err(Error::Refused { saga, reason }));
                }
                Requester::Fact(delivery) => {
                    self.unstartable.push(dead_letter_of(*delivery, "unstartable", problem));
                }
            }
        }
    }

    /// Brings the sagas of a round together, from the cache or else from the store.
    async fn load(&mut self, round: &Round) -> Result<Works, StoreError> {
        let happenings = round.happenings.iter().map(|it| it.saga);
        let sagas = happenings.chain(round.local.iter().map(|it| it.saga));
        let mut works = Works::default();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for saga in sagas.filter(|saga| seen.insert(*saga)) {
            match self.cache.take(saga) {
                Some(work) => works.add(work),
                None => missing.push(saga),
            }
        }
        if !missing.is_empty() {
            let now = self.now();
            for snapshot in self.store.load(&missing).await? {
                works.add(Work::load(&self.registry, &snapshot, now));
            }
        }
        Ok(works)
    }

    /// Decides again, on what is stored, where a saga from the cache found nothing to do.
    ///
    /// Another engine may have moved the saga on. A decision that is committed meets the version
    /// check; one that changes nothing is never committed, and a reply must not be lost to an old copy.
    async fn doubt(
        &mut self,
        round: &Round,
        works: &mut Works,
        came: &mut [Came],
    ) -> Result<(), StoreError> {
        let happened = round.happenings.iter().zip(came.iter());
        let doubtful = happened.filter(|(_, came)| !matches!(came, Came::Of(Verdict::Applied)));
        let doubtful: HashSet<_> = doubtful
            .map(|(happening, _)| happening.saga)
            .filter(|saga| works.get(*saga).is_some_and(|work| work.is_cached))
            .collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let sagas: Vec<_> = doubtful.iter().copied().collect();
        works.broken.retain(|(saga, _)| !doubtful.contains(saga));
        for snapshot in self.store.load(&sagas).await? {
            if let Some(work) = works.get(snapshot.saga) {
                *work = Work::load(&self.registry, &snapshot, now);
            }
        }
        for (happening, came) in round.happenings.iter().zip(came) {
            if doubtful.contains(&happening.saga) {
                *came = works.happen(happening, now);
            }
        }
        Ok(())
    }

    /// Returns the local commands that are to be carried out: those that are still awaited.
    fn local_commands(
        &self,
        works: &mut Works,
        calls: &[LocalCall],
        now: crate::Timestamp,
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

    /// Adds the new sagas of a round to its tick. What cannot be stored is not started.
    fn encode_starts(&mut self, starting: &mut Vec<Starting>, tick: &mut Tick) {
        let now = self.now();
        let mut startable = Vec::with_capacity(starting.len());
        for mut start in starting.drain(..) {
            match start.work.commit(now, &*self.store) {
                Ok(commit) => {
                    tick.commits.extend(commit);
                    startable.push(start);
                }
                Err(Broken(problem)) => self.refuse(start, &problem),
            }
        }
        *starting = startable;
    }

    /// Parks the sagas whose definition failed: what was stored last is what counts.
    async fn park_broken(&mut self, works: &mut Works, tick: &mut Tick) -> Result<(), StoreError> {
        if works.broken.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let broken: HashMap<_, _> = works.broken.drain(..).collect();
        let sagas: Vec<_> = broken.keys().copied().collect();
        tick.commits.retain(|commit| !broken.contains_key(&commit.saga));
        for snapshot in self.store.load(&sagas).await? {
            let Some(Broken(problem)) = broken.get(&snapshot.saga) else { continue };
            error!(saga = %snapshot.saga, problem, "saga parked: its definition fails");
            let mut work = Work::parked(&snapshot, problem.clone(), now);
            if let Ok(commit) = work.commit(now, &*self.store) {
                tick.commits.extend(commit);
            }
            if let Some(place) = works.get(work.saga) {
                *place = work;
            }
        }
        Ok(())
    }

    /// Adds what is to be sent to the tick, one row per lane; returns the records for the outlet.
    fn outbox(
        &self,
        works: &Works,
        starting: &[Starting],
        facts: Vec<Record>,
        tick: &mut Tick,
    ) -> Vec<(OutboxId, Vec<Record>)> {
        let now = self.now();
        let mut outgoing = Outgoing::new();
        for work in works.all.iter().chain(starting.iter().map(|it| &it.work)) {
            for command in &work.commands {
                if !self.store.is_local(&command.participant)
                    && let Some(record) = self.routing.record(&self.name, work, command, now)
                {
                    outgoing.entry(work.home).or_default().push(record);
                }
            }
        }
        if !facts.is_empty() {
            if self.outlet.is_some() {
                outgoing.entry(0).or_default().extend(facts);
            } else {
                // Nothing here publishes; a relay of the same store does.
                tick.outbox.push(OutboxRow::new(Lane::application(), &facts));
            }
        }
        self.rows(&outgoing, tick)
    }

    fn publish(&mut self, rows: Vec<(OutboxId, Vec<Record>)>) {
        if let Some(outlet) = &mut self.outlet {
            rows.into_iter().for_each(|(id, records)| outlet.push(id, records));
        }
    }

    /// Keeps what is still running at hand and answers whoever waits.
    fn finish(&mut self, round: Round, works: Works, came: Vec<Came>) {
        for call in &round.local {
            self.local_ids.remove(&call.command.id);
        }
        let woken = round.happenings.iter().filter(|it| matches!(it.event, Event::TimerFired));
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
            happening.respond(&came);
        }
    }

    fn keep(&mut self, mut work: Work, is_woken: bool) {
        let again = if is_woken { work.outstanding() } else { Vec::new() };
        for command in work.commands.drain(..).chain(again) {
            if self.store.is_local(&command.participant) && self.local_ids.insert(command.id) {
                self.local.push_back((work.saga, command));
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

    /// Takes the local commands of a tick from the queue, none twice of one saga.
    fn take_local(&mut self) -> Vec<LocalCall> {
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

    /// One of the local commands fails, and which one is not known: halves them until it stands alone.
    fn narrow(&mut self, round: &mut Round, outcome: Outcome) {
        let mut open = round.local.iter_mut().filter(|call| call.answer.is_none());
        if let (Some(failed), None) = (open.next(), open.next()) {
            warn!(saga = %failed.saga, step = %failed.command.step, ?outcome, "local command failed");
            failed.answer = Some(Answer::failed(outcome));
            return;
        }
        let half = round.local.len().div_ceil(2);
        self.postpone(round.local.drain(half..));
    }

    fn postpone(&mut self, calls: impl DoubleEndedIterator<Item = LocalCall>) {
        calls.rev().for_each(|call| self.local.push_front((call.saga, call.command)));
    }

    /// Makes dead letters durable, with the records for their topics.
    async fn set_aside(&mut self, dead_letters: Vec<(DeadLetter, Record)>) -> Result<(), Error> {
        let mut outgoing = Outgoing::new();
        let mut letters = Vec::with_capacity(dead_letters.len());
        for (letter, record) in dead_letters {
            outgoing.entry(letter.partition).or_default().push(record);
            letters.push(letter);
        }
        let mut outage = Outage::new(&self.stop);
        loop {
            // Rows of their own for each try: an earlier one may have been written, and a record
            // that is sent twice does no harm.
            let mut tick = Tick { dead_letters: letters.clone(), ..Tick::default() };
            let rows = self.rows(&outgoing, &mut tick);
            match self.store.commit(tick).await {
                Ok(()) => {
                    self.publish(rows);
                    return Ok(());
                }
                Err(error) => outage.outlast(error).await?,
            }
        }
    }

    /// Adds one outbox row per lane to a tick; returns their records for the outlet.
    fn rows(&self, outgoing: &Outgoing, tick: &mut Tick) -> Vec<(OutboxId, Vec<Record>)> {
        let mut rows = Vec::with_capacity(outgoing.len());
        for (&lane, records) in outgoing {
            let row = OutboxRow::new(Lane::new(self.name.clone(), lane), records);
            rows.push((row.id, records.clone()));
            tick.outbox.push(row);
        }
        rows
    }

    /// Answers the starts whose saga exists: started under the same key before, or by a commit that seemed to fail.
    async fn settle_started(&mut self, starting: &mut Vec<Starting>) -> Result<(), Error> {
        if starting.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = starting.iter().map(|it| it.work.saga).collect();
        let keys: Vec<_> = starting.iter().filter_map(|it| it.work.key()).collect();
        let mut outage = Outage::new(&self.stop);
        let (written, found) = loop {
            let asked = async {
                let found =
                    if keys.is_empty() { Vec::new() } else { self.store.find(&keys).await? };
                Ok::<_, StoreError>((self.store.load(&ids).await?, found))
            };
            match asked.await {
                Ok(answer) => break answer,
                Err(error) => outage.outlast(error).await?,
            }
        };
        let written: HashSet<_> = written.into_iter().map(|snapshot| snapshot.saga).collect();
        let found: HashMap<_, _> =
            found.into_iter().map(|(name, key, saga)| ((name, key), saga)).collect();
        let mut open = Vec::new();
        for mut start in starting.drain(..) {
            let saga = start.work.saga;
            let known = start.work.key().and_then(|key| found.get(&key).copied());
            match known {
                _ if written.contains(&saga) => {
                    start.accept(saga, true);
                    self.keep(start.work, false);
                }
                Some(saga) => start.accept(saga, false),
                None => open.push(start),
            }
        }
        *starting = open;
        Ok(())
    }
}

impl Round {
    fn is_empty(&self) -> bool {
        self.starting.is_empty() && self.happenings.is_empty() && self.local.is_empty()
    }

    /// Returns true if all that is left is one local command, and its participant was asked.
    fn is_one_call(&self) -> bool {
        self.starting.is_empty()
            && self.happenings.is_empty()
            && matches!(self.local.as_slice(), [LocalCall { answer: None, .. }])
    }

    /// Answers the local commands of some sagas with a failure instead of asking their participants.
    fn fail_local(&mut self, sagas: Vec<(SagaId, String)>) {
        for (saga, problem) in sagas {
            for call in self.local.iter_mut().filter(|call| call.saga == saga) {
                error!(%saga, step = %call.command.step, problem, "local command failed for good");
                let outcome = Outcome::FailedPermanently(problem.clone());
                call.answer = Some(Answer::failed(outcome));
            }
        }
    }

    /// Takes the round apart into rounds of one element each.
    fn split(&mut self) -> Vec<Self> {
        let round = std::mem::take(self);
        let starts =
            round.starting.into_iter().map(|it| Self { starting: vec![it], ..Self::default() });
        let events =
            round.happenings.into_iter().map(|it| Self { happenings: vec![it], ..Self::default() });
        let local = round.local.into_iter().map(|it| Self { local: vec![it], ..Self::default() });
        starts.chain(events).chain(local).collect()
    }

    /// Leaves out a saga whose stored state cannot be read: a person must look, and the others go on.
    fn leave_out(&mut self, saga: SagaId, source: &(dyn std::error::Error + Send + Sync)) {
        error!(%saga, %source, "stored state of the saga cannot be read; what happens to it is dropped");
        self.local.retain(|call| call.saga != saga);
        for happening in self.happenings.extract_if(.., |it| it.saga == saga) {
            if let Some(responder) = happening.responder {
                let source: BoxError = source.to_string().into();
                let _ = responder.send(Err(StoreError::Corrupt { saga, source }.into()));
            }
        }
    }
}

impl Worker {
    /// Gives up on elements that the store refuses.
    fn reject(
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

impl Starting {
    /// Tells whoever asked that the saga is durable; only the first can be the one that started it.
    fn accept(&mut self, saga: SagaId, mut is_new: bool) {
        for requester in self.requesters.drain(..) {
            if let Requester::Caller(caller) = requester {
                // A caller that has gone away is no error: the saga is durable.
                let _ = caller.send(Ok(Accepted { saga, is_new }));
            }
            is_new = false;
        }
    }
}

impl Happening {
    fn respond(self, came: &Came) {
        match came {
            Came::Of(Verdict::Ignored(reason)) => {
                trace!(saga = %self.saga, reason = reason.as_str(), "nothing to do");
            }
            Came::ToNobody => debug!(saga = %self.saga, "message for an unknown saga dropped"),
            Came::Of(_) | Came::ToNothing => {}
        }
        let Some(responder) = self.responder else { return };
        let saga = self.saga;
        let _ = responder.send(match came {
            Came::Of(Verdict::Applied | Verdict::Ignored(_)) => Ok(()),
            Came::Of(Verdict::Refused(reason)) => Err(Error::Refused { saga, reason }),
            Came::ToNobody => Err(Error::UnknownSaga { saga }),
            Came::ToNothing => {
                Err(Error::Refused { saga, reason: "its definition fails; it is parked" })
            }
        });
    }
}

impl Works {
    fn add(&mut self, work: Work) {
        self.index.insert(work.saga, self.all.len());
        self.all.push(work);
    }

    fn get(&mut self, saga: SagaId) -> Option<&mut Work> {
        self.index.get(&saga).map(|&index| &mut self.all[index])
    }

    fn happen(&mut self, happening: &Happening, now: crate::Timestamp) -> Came {
        let Some(work) = self.get(happening.saga) else {
            return Came::ToNobody;
        };
        match work.decide(happening.event.clone(), now) {
            Ok(verdict) => {
                work.cause = happening.message.or(work.cause);
                Came::Of(verdict)
            }
            Err(broken) => {
                self.broken.push((happening.saga, broken));
                Came::ToNothing
            }
        }
    }

    /// Adds the sagas that changed to a tick, and those that cannot be stored to the broken ones.
    fn encode(&mut self, now: crate::Timestamp, store: &dyn DynSagaStore, tick: &mut Tick) {
        for work in &mut self.all {
            match work.commit(now, store) {
                Ok(commit) => tick.commits.extend(commit),
                Err(broken) => self.broken.push((work.saga, broken)),
            }
        }
    }

    /// Returns the broken sagas that a local command was carried out for.
    fn broken_among(&self, calls: &[LocalCall]) -> Vec<(SagaId, String)> {
        let asked: HashSet<_> =
            calls.iter().filter(|call| call.answer.is_none()).map(|call| call.saga).collect();
        let broken = self.broken.iter().filter(|(saga, _)| asked.contains(saga));
        broken.map(|(saga, Broken(problem))| (*saga, problem.clone())).collect()
    }

    /// Decides on the answers to local commands.
    fn answer(
        &mut self,
        calls: &[LocalCall],
        carried_out: &[LocalCommand],
        answers: Vec<Answer>,
        now: crate::Timestamp,
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
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LocalSetback> for Setback {
    fn from(setback: LocalSetback) -> Self {
        match setback {
            LocalSetback::Store(error) => Self::Store(error),
            LocalSetback::Handler(outcome) => Self::Local(outcome),
        }
    }
}
