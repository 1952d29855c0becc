//! The private object-safe face of a store, with the participants that run inside its transactions.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::message::{Envelope, Outcome};
use crate::participant::{Answer, Participant};
use crate::store::{
    DueSagas, HistoryRecord, Lane, OutboxRow, SagaStore, Snapshot, StoreError, Tick,
};
use crate::transport::Record;
use crate::{IdempotencyKey, MessageType, OutboxId, ParticipantName, SagaId, SagaName};

pub(crate) type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

pub(crate) trait DynSagaStore: Send + Sync {
    fn load<'a>(&'a self, sagas: &'a [SagaId]) -> StoreFuture<'a, Vec<Snapshot>>;
    fn find<'a>(
        &'a self,
        keys: &'a [(SagaName, IdempotencyKey)],
    ) -> StoreFuture<'a, Vec<(SagaName, IdempotencyKey, SagaId)>>;
    fn commit(&self, tick: Tick) -> StoreFuture<'_, ()>;
    fn due(&self, horizon: Duration, limit: usize) -> StoreFuture<'_, DueSagas>;
    fn history(&self, saga: SagaId) -> StoreFuture<'_, Vec<HistoryRecord>>;
    fn unsent<'a>(&'a self, lanes: &'a [Lane], limit: usize) -> StoreFuture<'a, Vec<OutboxRow>>;
    fn sent<'a>(&'a self, rows: &'a [OutboxId]) -> StoreFuture<'a, ()>;
    /// Returns true if the participant runs inside this store's transactions.
    fn is_local(&self, participant: &ParticipantName) -> bool;
    fn has_local_handler(&self, participant: &ParticipantName, command: &MessageType) -> bool;
    /// Carries out commands, none twice of one saga, in a transaction that is left open.
    fn carry_out<'a>(&'a self, commands: &'a [LocalCommand]) -> BoxFuture<'a, LocalResult<'a>>;
}

/// What came of local commands, or why nothing did.
pub(crate) type LocalResult<'a> = Result<CarriedOut<'a>, LocalSetback>;

/// Local commands that were carried out in a transaction that is still open.
pub(crate) struct CarriedOut<'a> {
    /// In the order of the commands.
    pub(crate) answers: Vec<Answer>,
    /// The facts that handlers told.
    pub(crate) facts: Vec<Record>,
    pub(crate) transaction: Box<dyn OpenTransaction + 'a>,
}

/// A command for a participant that runs inside the engine's transactions.
#[derive(Debug, Clone)]
pub(crate) struct LocalCommand {
    pub(crate) participant: ParticipantName,
    pub(crate) envelope: Envelope,
}

/// Why local commands were not carried out.
pub(crate) enum LocalSetback {
    Store(StoreError),
    /// A handler failed; which one is not known if there are many commands.
    Handler(Outcome),
}

/// A transaction with the effects of local commands in it.
pub(crate) trait OpenTransaction: Send {
    /// Commits it together with a tick.
    fn commit<'a>(self: Box<Self>, tick: Tick) -> StoreFuture<'a, ()>
    where
        Self: 'a;
}

/// A store and the participants that run inside its transactions.
pub(crate) struct LocalStore<S: SagaStore> {
    pub(crate) store: S,
    pub(crate) participants: HashMap<ParticipantName, Participant<S::Connection>>,
}

struct Open<'s, S: SagaStore> {
    store: &'s S,
    transaction: S::Transaction,
}

impl<S: SagaStore> OpenTransaction for Open<'_, S> {
    fn commit<'a>(self: Box<Self>, tick: Tick) -> StoreFuture<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async move { self.store.commit_with(self.transaction, tick).await })
    }
}

impl<S: SagaStore> LocalStore<S> {
    async fn carry_out(&self, commands: &[LocalCommand]) -> LocalResult<'_> {
        let mut transaction = self.store.begin().await.map_err(LocalSetback::Store)?;
        let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
        let mut facts = Vec::new();
        for (name, participant) in &self.participants {
            let indices: Vec<_> =
                (0..commands.len()).filter(|&index| &commands[index].participant == name).collect();
            if indices.is_empty() {
                continue;
            }
            let group: Vec<_> = indices.iter().map(|&index| &commands[index].envelope).collect();
            let connection = S::connection(&mut transaction);
            let answered = participant.carry_out_locally(&group, connection).await;
            let (answered, told) = answered.map_err(|failure| LocalSetback::Handler(failure.0))?;
            facts.extend(told);
            indices.iter().zip(answered).for_each(|(&index, it)| answers[index] = Some(it));
        }
        let answers = answers.into_iter().map(|answer| answer.expect("only local ones are given"));
        let transaction = Box::new(Open { store: &self.store, transaction });
        Ok(CarriedOut { answers: answers.collect(), facts, transaction })
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

    fn history(&self, saga: SagaId) -> StoreFuture<'_, Vec<HistoryRecord>> {
        Box::pin(self.store.history(saga))
    }

    fn unsent<'a>(&'a self, lanes: &'a [Lane], limit: usize) -> StoreFuture<'a, Vec<OutboxRow>> {
        Box::pin(self.store.unsent(lanes, limit))
    }

    fn sent<'a>(&'a self, rows: &'a [OutboxId]) -> StoreFuture<'a, ()> {
        Box::pin(self.store.sent(rows))
    }

    fn is_local(&self, participant: &ParticipantName) -> bool {
        self.participants.contains_key(participant)
    }

    fn has_local_handler(&self, participant: &ParticipantName, command: &MessageType) -> bool {
        self.participants.get(participant).is_some_and(|it| it.has_handler(command))
    }

    fn carry_out<'a>(&'a self, commands: &'a [LocalCommand]) -> BoxFuture<'a, LocalResult<'a>> {
        Box::pin(LocalStore::carry_out(self, commands))
    }
}
