//! Live sagas in a store, of which each tick moves some on.

use bytes::Bytes;
use saga_core::machine::Status;
use saga_core::store::{Commit, Lane, NewSaga, OutboxRow, SagaStore, Tick, Version, WakeAt};
use saga_core::transport::Record;
use saga_core::{
    Command as _, MessageId, OutboxId, ParticipantName, SagaData as _, SagaId, StoreError,
};

use crate::{Do, Order, command, encode_state, half_way};

/// How many sagas are started in one commit.
const CHUNK: usize = 500;
/// As many bytes as the history of a step that succeeds and starts the next one.
const HISTORY: &[u8] = &[0x2a; 56];

/// Sagas that were started and have not ended.
#[derive(Debug)]
pub struct LiveSagas {
    sagas: Vec<(SagaId, Version)>,
    next: usize,
    state: Bytes,
    record: Record,
    unsent: Option<OutboxId>,
}

impl LiveSagas {
    /// Starts a saga for each of these wake times.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn start(
        store: &impl SagaStore,
        wake_times: impl IntoIterator<Item = WakeAt>,
    ) -> Result<Self, StoreError> {
        let state = encode_state(&half_way());
        let starts = wake_times.into_iter().map(|wake_at| start(wake_at, &state));
        let starts: Vec<_> = starts.collect();
        for chunk in starts.chunks(CHUNK) {
            store.commit(Tick { commits: chunk.to_vec(), ..Tick::default() }).await?;
        }
        let sagas = starts.iter().map(|start| (start.saga, Version(1))).collect();
        Ok(Self { sagas, next: 0, state, record: record(), unsent: None })
    }

    /// Returns the sagas.
    pub fn ids(&self) -> impl Iterator<Item = SagaId> {
        self.sagas.iter().map(|(saga, _)| *saga)
    }

    /// Moves the next `size` sagas on: their history, one outbox row with a command of each, and the
    /// row of the tick before deleted.
    pub fn tick(&mut self, size: usize) -> Tick {
        let commits = (0..size).map(|_| self.advance()).collect();
        let lane = Lane::new(ParticipantName::new("bench"), 0);
        let row = OutboxRow::new(lane, &vec![self.record.clone(); size]);
        let sent = self.unsent.replace(row.id).into_iter().collect();
        Tick { commits, outbox: vec![row], sent, ..Tick::default() }
    }

    fn advance(&mut self) -> Commit {
        let count = self.sagas.len();
        let (saga, version) = &mut self.sagas[self.next];
        self.next = (self.next + 1) % count;
        let expected = std::mem::replace(version, version.next());
        commit(*saga, expected, &self.state)
    }
}

fn start(wake_at: WakeAt, state: &Bytes) -> Commit {
    let new =
        NewSaga { name: Order::SAGA, definition_version: 1, fingerprint: 1, key: None, home: 0 };
    Commit { new: Some(new), wake_at, ..commit(SagaId::now(), Version(0), state) }
}

fn commit(saga: SagaId, expected: Version, state: &Bytes) -> Commit {
    Commit {
        saga,
        expected,
        new: None,
        status: Status::Running,
        wake_at: WakeAt::Keep,
        state: state.clone(),
        history: Bytes::from_static(HISTORY),
    }
}

fn record() -> Record {
    let saga = SagaId::now();
    Record {
        topic: Do::PARTICIPANT.commands(),
        partition: Some(0),
        key: Bytes::copy_from_slice(saga.as_bytes()),
        value: command(MessageId::now(), saga, 1).encode(),
        headers: Vec::new(),
    }
}
