//! What nobody sound would send, to every consumer, in memory.

use saga_core::MemoryTransport;
use saga_core::store::{DeadLetter, MemoryConnection, MemoryStore};
use saga_testkit::{Fixture, poison};

/// A store whose application state is the effects of commands and facts.
struct Fresh(MemoryStore<Vec<String>>);

impl Fixture for Fresh {
    type Store = MemoryStore<Vec<String>>;

    fn store(&self) -> &Self::Store {
        &self.0
    }

    async fn write_effect(&self, effects: &mut MemoryConnection<Vec<String>>, key: &str) {
        effects.push(key.to_owned());
    }

    async fn effects(&self) -> Vec<String> {
        self.0.read(Vec::clone)
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.dead_letters()
    }
}

fn fresh() -> (Fresh, MemoryTransport) {
    (Fresh(MemoryStore::default()), MemoryTransport::new())
}

/// F30, F31, F33, F34, I12.
#[test]
fn commands_one_by_one() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_commands_are_carried_out(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn commands_together() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_commands_are_carried_out_together(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn external_calls() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_external_calls_are_made(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn replies() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_replies_are_taken(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn facts() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_facts_start_sagas(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn participant_facts() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_facts_are_handled(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn participant_facts_together() {
    let (store, transport) = fresh();
    let hostile = transport.clone();
    saga_testkit::run(async move {
        poison::behind_poison_facts_are_handled_together(store, transport, &hostile).await;
    });
}

/// F30, I12.
#[test]
fn outbox_rows() {
    let (store, transport) = fresh();
    saga_testkit::run(poison::behind_poison_outbox_rows_are_sent(store, transport));
}
