//! What is to be proved.

use saga_core::store::Transactional;
use saga_core::{Inbox, Participant, Saga, SagaData, Status};

use super::clock::SimulatedClock;

/// A saga with the participants that carry it out, and what must hold when it has ended.
///
/// See [`prove`](super::prove).
pub trait Subject {
    /// What the saga knows.
    type Data: SagaData;
    /// The participants' database, such as a [`MemoryStore`](saga_core::MemoryStore) with the
    /// tables of the participants as its state. It is in memory: a run has no input or output, and its time jumps.
    type Store: Inbox + Clone;

    /// Returns the definition.
    fn saga(&self) -> Saga<Self::Data>;

    /// Returns the data that the saga is started with.
    fn data(&self) -> Self::Data;

    /// Makes an empty database for one run, on the clock of the run.
    fn store(&self, clock: &SimulatedClock) -> Self::Store;

    /// Makes the participants; they are made anew after every crash.
    fn participants(&self) -> Vec<Participant<<Self::Store as Transactional>::Connection>>;

    /// Says what is wrong with the participants' database once the saga has ended so.
    ///
    /// Who handles facts hears of them after the saga's end, so what is wrong is a flaw only if it stays wrong: this is
    /// asked again every second, for five minutes of the run's time. Return what is wrong rather than panic, for that prints
    /// it each time.
    ///
    /// # Errors
    ///
    /// What must hold and does not, in words.
    fn check(&self, store: &Self::Store, status: Status) -> Result<(), String>;
}
