//! The private object-safe face of a store, with the participants that run inside its transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::message::{Envelope, Kind};
use crate::participant::{Answer, Answers, LocalAnswers, LocalFailure, Participant};
use crate::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga, OutboxRow,
    SagaFilter, SagaStore, Snapshot, StoreError, Tick,
};
use crate::{IdempotencyKey, MessageId, MessageType, OutboxId, ParticipantName, SagaId, SagaName};

pub(crate) type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

pub(crate) trait DynSagaStore: Send + Sync {
    fn load<'a>(&'a self, sagas: &'a [SagaId]) -> StoreFuture<'a, Vec<Snapshot>>;
    fn find<'a>(
        &'a self,
        keys: &'a [(SagaName, IdempotencyKey)],
    ) -> StoreFuture<'a, Vec<(SagaName, IdempotencyKey, SagaId)>>;
    fn commit(&self, tick: Tick) -> StoreFuture<'_, ()>;
    fn due(&self, horizon: Duration, limit: usize) -> StoreFuture<'_, DueSagas>;
    fn in_use(&self) -> StoreFuture<'_, Vec<DefinitionInUse>>;
    fn list<'a>(
        &'a self,
        filter: &'a SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<ListedSaga>>;
    fn history(&self, saga: SagaId) -> StoreFuture<'_, Vec<HistoryRecord>>;
    fn unsent<'a>(&'a self, lanes: &'a [Lane], bytes: usize) -> StoreFuture<'a, Vec<OutboxRow>>;
    fn sent<'a>(&'a self, rows: &'a [OutboxId]) -> StoreFuture<'a, ()>;
    fn redriven<'a>(
        &'a self,
        consumer: &'a ParticipantName,
        partitions: &'a [u32],
        lease: Duration,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>>;
    fn settled<'a>(&'a self, letters: &'a [MessageId]) -> StoreFuture<'a, ()>;
    fn held<'a>(&'a self, consumer: &'a ParticipantName) -> StoreFuture<'a, Vec<HeldKey>>;
    /// Returns true if the participant runs inside this store's transactions.
    fn is_local(&self, participant: &ParticipantName) -> bool;
    fn has_local_handler(&self, participant: &ParticipantName, command: &MessageType) -> bool;
    /// Begins a transaction for the effects of local commands.
    fn begin(&self) -> StoreFuture<'_, Box<dyn OpenTransaction + '_>>;
}

/// A command for a participant that runs inside the engine's transactions.
#[derive(Debug, Clone)]
pub(crate) struct LocalCommand {
    pub(crate) participant: ParticipantName,
    pub(crate) envelope: Envelope,
}

impl LocalCommand {
    /// Returns the id of the command and the number of the attempt.
    pub(crate) const fn attempt(&self) -> Option<(MessageId, u32)> {
        match &self.envelope.kind {
            Kind::Command(headers) => Some((self.envelope.id, headers.attempt)),
            Kind::Fact | Kind::Reply(_) => None,
        }
    }
}

/// A transaction with the effects of local commands in it.
pub(crate) trait OpenTransaction: Send {
    /// Carries out commands, none twice of one saga; the answers are in their order.
    fn carry_out<'a>(&'a mut self, commands: &'a [LocalCommand]) -> BoxFuture<'a, LocalAnswers>;
    /// Commits it together with a tick.
    fn commit<'a>(self: Box<Self>, tick: Tick) -> StoreFuture<'a, ()>
    where
        Self: 'a;
}

/// A store and the participants that run inside its transactions.
pub(crate) struct LocalStore<S: SagaStore> {
    pub(crate) store: S,
    /// Asked in the order of their names, so that two engines lock the rows of two in the same order.
    pub(crate) participants: BTreeMap<ParticipantName, Participant<S::Connection>>,
}

struct Open<'s, S: SagaStore> {
    store: &'s LocalStore<S>,
    transaction: S::Transaction,
}

impl<S: SagaStore> OpenTransaction for Open<'_, S> {
    fn carry_out<'a>(&'a mut self, commands: &'a [LocalCommand]) -> BoxFuture<'a, LocalAnswers> {
        Box::pin(Open::carry_out(self, commands))
    }

    fn commit<'a>(self: Box<Self>, tick: Tick) -> StoreFuture<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async move { self.store.store.commit_with(self.transaction, tick).await })
    }
}

impl<S: SagaStore> Open<'_, S> {
    /// Carries commands out. If that fails, the database may be to blame.
    async fn carry_out(&mut self, commands: &[LocalCommand]) -> LocalAnswers {
        match self.try_to_carry_out(commands).await {
            Ok(answers) => Ok(answers),
            Err(failure) => {
                let (store, error) = (&self.store.store, failure.error.source());
                let excuse = store.examine(&mut self.transaction, error).await.err();
                Err(LocalFailure { outcome: failure.outcome(), excuse })
            }
        }
    }

    async fn try_to_carry_out(&mut self, commands: &[LocalCommand]) -> Answers {
        let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
        let mut facts = Vec::new();
        for (name, participant) in &self.store.participants {
            let indices: Vec<_> =
                (0..commands.len()).filter(|&index| &commands[index].participant == name).collect();
            if indices.is_empty() {
                continue;
            }
            let group: Vec<_> = indices.iter().map(|&index| &commands[index].envelope).collect();
            let connection = S::connection(&mut self.transaction);
            let (answered, told) = participant.carry_out(&group, connection).await?;
            facts.extend(told);
            indices.iter().zip(answered).for_each(|(&index, it)| answers[index] = Some(it));
        }
        let answers = answers.into_iter().map(|answer| answer.expect("only local ones are given"));
        Ok((answers.collect(), facts))
    }
}

impl<S: SagaStore> LocalStore<S> {
    /// Returns a fact that a participant in here is to handle, if there is one.
    pub(crate) fn a_local_fact(&self) -> Option<(ParticipantName, MessageType)> {
        let mut facts =
            self.participants.iter().filter_map(|(name, it)| Some((name, it.a_fact()?)));
        facts.next().map(|(name, fact)| (name.clone(), fact.clone()))
    }
}

impl<S: SagaStore> DynSagaStore for LocalStore<S> {
    fn load<'a>(&'a self, sagas: &'a [SagaId]) -> StoreFuture<'a, Vec<Snapshot>> {
        Box::pin(self.store.load(sagas))
    }

    fn find<'a>(
        &'a self,
        keys: &'a [(SagaName, IdempotencyKey)],
    ) -> StoreFuture<'a, Vec<(SagaName, IdempotencyKey, SagaId)>> {
        Box::pin(self.store.find(keys))
    }

    fn commit(&self, tick: Tick) -> StoreFuture<'_, ()> {
        Box::pin(self.store.commit(tick))
    }

    fn due(&self, horizon: Duration, limit: usize) -> StoreFuture<'_, DueSagas> {
        Box::pin(self.store.due(horizon, limit))
    }

    fn in_use(&self) -> StoreFuture<'_, Vec<DefinitionInUse>> {
        Box::pin(self.store.in_use())
    }

    fn list<'a>(
        &'a self,
        filter: &'a SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<ListedSaga>> {
        Box::pin(self.store.list(filter, after, limit))
    }

    fn history(&self, saga: SagaId) -> StoreFuture<'_, Vec<HistoryRecord>> {
        Box::pin(self.store.history(saga))
    }

    fn unsent<'a>(&'a self, lanes: &'a [Lane], bytes: usize) -> StoreFuture<'a, Vec<OutboxRow>> {
        Box::pin(self.store.unsent(lanes, bytes))
    }

    fn sent<'a>(&'a self, rows: &'a [OutboxId]) -> StoreFuture<'a, ()> {
        Box::pin(self.store.sent(rows))
    }

    fn redriven<'a>(
        &'a self,
        consumer: &'a ParticipantName,
        partitions: &'a [u32],
        lease: Duration,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        Box::pin(self.store.redriven(consumer, partitions, lease, limit))
    }

    fn settled<'a>(&'a self, letters: &'a [MessageId]) -> StoreFuture<'a, ()> {
        Box::pin(self.store.settled(letters))
    }

    fn held<'a>(&'a self, consumer: &'a ParticipantName) -> StoreFuture<'a, Vec<HeldKey>> {
        Box::pin(self.store.held(consumer))
    }

    fn is_local(&self, participant: &ParticipantName) -> bool {
        self.participants.contains_key(participant)
    }

    fn has_local_handler(&self, participant: &ParticipantName, command: &MessageType) -> bool {
        self.participants.get(participant).is_some_and(|it| it.has_handler(command))
    }

    fn begin(&self) -> StoreFuture<'_, Box<dyn OpenTransaction + '_>> {
        Box::pin(async move {
            let transaction = self.store.begin().await?;
            Ok(Box::new(Open { store: self, transaction }) as _)
        })
    }
}
