//! What the laws of a store need besides the store.

use std::future::Future;

use saga_core::store::{DeadLetter, Transactional};

/// A fresh, empty store, and the ways to see what its contract does not show.
///
/// Make it a type of the test suite that wraps the store: the crate page has an example of the
/// whole thing. A fixture that cannot reach its database panics and says how to start it.
///
/// The laws keep at most one transaction per task open, and use up to eight tasks at a time.
pub trait Fixture: Send + Sync + 'static {
    /// The store under test.
    type Store: Transactional;

    /// Returns the store.
    fn store(&self) -> &Self::Store;

    /// Writes `key` into a table of the application, through an open transaction.
    ///
    /// Writing the same key twice is no error; then [`effects`](Self::effects) lists it twice.
    fn write_effect(
        &self,
        connection: &mut <Self::Store as Transactional>::Connection,
        key: &str,
    ) -> impl Future<Output = ()> + Send;

    /// Returns the keys that were written and committed, in any order.
    fn effects(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Returns the messages that the store has set aside, in any order: all of them, where a page of
    /// [`DeadLetters::letters`](saga_core::store::DeadLetters::letters) has as many as fit.
    fn dead_letters(&self) -> impl Future<Output = Vec<DeadLetter>> + Send;
}
