//! The laws of [`Purge`], for a store that is a [`SagaStore`] and an [`Inbox`] as well.
//!
//! Each law is a function that takes a fresh [`Fixture`] and panics with what is broken.
//! [`purge_conformance!`](crate::purge_conformance) makes a test of each.

use std::time::Duration;

use bytes::Bytes;
use saga_core::machine::Status;
use saga_core::participant::{Handled, InboxRecord, Remembered};
use saga_core::store::{Commit, Purge, PurgedSagas, SagaStore, WakeAt};
use saga_core::{Clock as _, Inbox, MessageId, SagaId, SystemClock};
use uuid::Uuid;

use crate::Fixture;
use crate::given::{
    ALL, HOUR, PLACE_ORDER, assert_conflict, begin_with_effect, commit, key, lane, load, next, row,
    start, start_under, tick, unsent,
};

/// Hands the names of all laws of a purge to another macro, after what is in the brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __purge_laws {
    ($then:ident [$($given:tt)*]) => {
        $crate::$then! {
            [$($given)*]
            an_ended_saga_is_purged_whole
            a_saga_that_has_not_ended_is_never_purged
            a_saga_that_ended_lately_is_not_purged
            a_purge_looks_at_one_page_after_another
            a_purged_record_is_told_from_one_that_never_was
            a_purged_command_cannot_be_recorded
            attempts_at_old_commands_are_forgotten
        }
    };
}

/// The names of all laws in this module.
pub const LAWS: &[&str] = crate::__purge_laws!(__names []);

/// Makes a `#[test]` of each law of a purge, each on what `fixture().await` gives.
///
/// `fixture` is the path of an async function without arguments that returns a fresh
/// [`Fixture`](crate::Fixture) whose store is a [`Purge`](saga_core::store::Purge), a
/// [`SagaStore`](saga_core::SagaStore) and an [`Inbox`](saga_core::Inbox). The crate page has an example.
#[macro_export]
macro_rules! purge_conformance {
    ($fixture:path) => {
        $crate::__purge_laws! { __tests [purge, $fixture] }
    };
}

/// A saga that ended is gone with its history, and its key can start another; its neighbours stay.
pub async fn an_ended_saga_is_purged_whole<F: Fixture<Store: Purge + SagaStore>>(fixture: F) {
    let (store, order) = (fixture.store(), key("order-1"));
    let (first, unfinished) = (SagaId(old(3)), SagaId(old(2)));
    commit(store, tick([start_under(first, PLACE_ORDER, &order)]), "a start").await;
    commit(store, tick([start(unfinished)]), "a start").await;
    commit(store, tick([end(first, Status::Completed)]), "the end of the saga").await;

    let purged = purge_sagas(store, Duration::ZERO, None, ALL).await;
    assert_eq!(purged, PurgedSagas { sagas: 1, last: Some(unfinished) }, "one saga has ended");
    assert!(load(store, first).await.is_none(), "the saga must be gone");
    let history = store.history(first).await.expect("history");
    assert!(history.is_empty(), "its history must be gone: {history:?}");
    let kept = store.history(unfinished).await.expect("history");
    assert_eq!(kept.len(), 1, "the history of another saga must stay");
    let found = store.find(&[(PLACE_ORDER, order.clone())]).await.expect("find");
    assert_eq!(found, [], "its key must be free");
    let second = SagaId::now();
    commit(store, tick([start_under(second, PLACE_ORDER, &order)]), "a start under the key").await;
}

/// A saga that runs, compensates or is parked stays, however old it is.
pub async fn a_saga_that_has_not_ended_is_never_purged<F: Fixture<Store: Purge + SagaStore>>(
    fixture: F,
) {
    let store = fixture.store();
    let statuses = [Status::Running, Status::Compensating, Status::Parked];
    let sagas = [old(4), old(3), old(2)].map(SagaId);
    commit(store, tick(sagas.map(start)), "three starts").await;
    let ends = sagas.into_iter().zip(statuses).map(|(saga, status)| end(saga, status));
    commit(store, tick(ends), "what they are at").await;
    let purged = purge_sagas(store, Duration::ZERO, None, ALL).await;
    assert_eq!(purged.sagas, 0, "no saga has ended");
    for (saga, status) in sagas.into_iter().zip(statuses) {
        assert!(load(store, saga).await.is_some(), "a saga that is {status:?} must stay");
    }
}

/// A saga stays as long as the policy says after its *end*, however long ago it started.
pub async fn a_saga_that_ended_lately_is_not_purged<F: Fixture<Store: Purge + SagaStore>>(
    fixture: F,
) {
    let (store, saga) = (fixture.store(), SagaId(old(3)));
    commit(store, tick([start(saga)]), "a start").await;
    commit(store, tick([end(saga, Status::Compensated)]), "the end of the saga").await;
    assert_eq!(purge_sagas(store, HOUR, None, ALL).await.sagas, 0, "it ended just now");
    assert!(load(store, saga).await.is_some(), "it must stay for an hour");
    assert_eq!(purge_sagas(store, Duration::ZERO, None, ALL).await.sagas, 1, "now it may go");
}

/// Page follows page, each within its limit, and the last one says that nothing is left.
pub async fn a_purge_looks_at_one_page_after_another<F: Fixture<Store: Purge + SagaStore>>(
    fixture: F,
) {
    let store = fixture.store();
    let sagas: Vec<_> = (0..10).map(|n| SagaId(old(20 - n))).collect();
    commit(store, tick(sagas.iter().copied().map(start)), "ten starts").await;
    let ended = sagas.iter().skip(1).step_by(2);
    let ends = ended.map(|&saga| end(saga, Status::Completed));
    commit(store, tick(ends), "the end of every second saga").await;

    let mut after = None;
    for page in [&sagas[..4], &sagas[4..8], &sagas[8..]] {
        let purged = purge_sagas(store, Duration::ZERO, after, 4).await;
        let expected = PurgedSagas { sagas: page.len() / 2, last: page.last().copied() };
        assert_eq!(purged, expected, "a page must begin after {after:?}");
        after = purged.last;
    }
    let purged = purge_sagas(store, Duration::ZERO, after, 4).await;
    assert_eq!(purged, PurgedSagas::default(), "nothing is left to look at");
    let left = store.load(&sagas).await.expect("load");
    assert_eq!(left.len(), 5, "the sagas that have not ended must stay");
}

/// What may have been purged is known, so that nobody takes an old command for a new one.
pub async fn a_purged_record_is_told_from_one_that_never_was<F: Fixture<Store: Purge + Inbox>>(
    fixture: F,
) {
    let store = fixture.store();
    let (older, old, new) = (MessageId(old(4)), MessageId(old(3)), MessageId::now());
    for command in [older, old, new] {
        record(&fixture, handled(command)).await.expect("a first record must commit");
    }
    assert_eq!(remembered(store, new).await.purged_below, None, "nothing was purged yet");

    assert_eq!(purge_inbox(store, 2 * HOUR, 1).await, 1, "one record at most was asked for");
    assert_eq!(remembered(store, old).await.records.len(), 1, "the oldest goes first");
    assert_eq!(purge_inbox(store, 2 * HOUR, ALL).await, 1, "one old record was left");
    assert_eq!(purge_inbox(store, 2 * HOUR, ALL).await, 0, "no old record was left");
    assert_eq!(purge_inbox(store, 100 * HOUR, ALL).await, 0, "what was purged stays purged");
    for command in [older, old] {
        let Remembered { records, purged_below } = remembered(store, command).await;
        assert_eq!(records, [], "an old record must be gone");
        assert!(purged_below.is_some_and(|below| command < below), "and it must be said");
    }
    let Remembered { records, purged_below } = remembered(store, new).await;
    assert_eq!(records.len(), 1, "a new record must stay");
    assert!(purged_below.is_some_and(|below| below <= new), "and no new record may be missing");
}

/// Whoever looked before the purge and records after it is in conflict, and nothing is written.
pub async fn a_purged_command_cannot_be_recorded<F: Fixture<Store: Purge + Inbox>>(fixture: F) {
    let (store, lane, command) = (fixture.store(), lane(0), MessageId(old(3)));
    record(&fixture, handled(command)).await.expect("a first record must commit");
    purge_inbox(store, 2 * HOUR, ALL).await;
    let again = Handled { outbox: vec![row(&lane, "again")], ..handled(command) };
    assert_conflict(&record(&fixture, again).await, "a record of a purged command");
    assert_eq!(fixture.effects().await.len(), 1, "the second effect must be undone");
    assert_eq!(unsent(store, &lane).await, [], "a conflict must send nothing");
}

/// Nobody asks any more how often a command was begun that is not carried out again.
pub async fn attempts_at_old_commands_are_forgotten<F: Fixture<Store: Purge + Inbox>>(fixture: F) {
    let (store, commands) = (fixture.store(), [MessageId(old(3)), MessageId::now()]);
    let unfinished = async || store.unfinished(&commands).await.expect("unfinished");
    store.begin_attempts(&commands).await.expect("begin_attempts");
    purge_inbox(store, 100 * HOUR, ALL).await;
    assert_eq!(unfinished().await.len(), 2, "neither is as old as that");
    assert_eq!(purge_inbox(store, 2 * HOUR, ALL).await, 0, "there is no record to purge");
    assert_eq!(unfinished().await, [(commands[1], 1)], "that of the old one is forgotten");
}

/// An id as it was made some hours ago.
fn old(hours: u32) -> Uuid {
    let time = (SystemClock::new().now() - hours * HOUR).as_micros().cast_unsigned();
    let (seconds, nanos) = (time / 1_000_000, u32::try_from(time % 1_000_000).unwrap_or(0) * 1_000);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

fn end(saga: SagaId, status: Status) -> Commit {
    Commit { status, wake_at: WakeAt::Never, ..next(saga, 1, "ended") }
}

fn handled(command: MessageId) -> Handled {
    let record = InboxRecord { command, reply: Bytes::from_static(b"reserved") };
    Handled { records: vec![record], ..Handled::default() }
}

async fn record<F: Fixture<Store: Inbox>>(
    fixture: &F,
    handled: Handled,
) -> Result<(), saga_core::StoreError> {
    let transaction = begin_with_effect(fixture, "reserve").await;
    fixture.store().record(transaction, handled).await
}

async fn remembered(store: &impl Inbox, command: MessageId) -> Remembered {
    let mut transaction = store.begin().await.expect("begin");
    store.recorded(&mut transaction, &[command]).await.expect("recorded")
}

async fn purge_sagas(
    store: &impl Purge,
    age: Duration,
    after: Option<SagaId>,
    limit: usize,
) -> PurgedSagas {
    store.purge_sagas(age, after, limit).await.expect("purge sagas")
}

async fn purge_inbox(store: &impl Purge, age: Duration, limit: usize) -> usize {
    store.purge_inbox(age, limit).await.expect("purge the inbox")
}
