//! Laws of ticks: what they change, what they refuse, and how it is read back.

use bytes::Bytes;
use saga_core::machine::Status;
use saga_core::store::{Commit, NewSaga, SagaStore, Snapshot, Tick, Version, WakeAt};
use saga_core::{IdempotencyKey, SagaId, SagaName, Timestamp};

use crate::Fixture;
use crate::given::{
    PLACE_ORDER, assert_conflict, bytes, commit, dead_letter, key, lane, load, next, row, start,
    start_under, stored, tick, unsent,
};

/// Sagas, history, outbox, deletions and dead letters change together or not at all.
pub async fn a_tick_is_all_or_nothing<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane) = (fixture.store(), lane(0));
    let (old, stale, new) = (SagaId::now(), SagaId::now(), SagaId::now());
    let (earlier, later) = (row(&lane, "earlier"), row(&lane, "later"));
    let before = Tick { outbox: vec![earlier.clone()], ..tick([start(old), start(stale)]) };
    commit(store, before, "a start of two sagas").await;
    commit(store, tick([next(stale, 1, "moved")]), "a next step").await;

    let order = key("order-1");
    let change = |stale_version| Tick {
        commits: vec![
            start_under(new, PLACE_ORDER, &order),
            next(old, 1, "moved"),
            next(stale, stale_version, "moved again"),
        ],
        outbox: vec![later.clone()],
        sent: vec![earlier.id],
        dead_letters: vec![dead_letter(1)],
    };
    assert_conflict(&store.commit(change(1)).await, "a tick with a stale commit");
    assert_eq!(stored(store, old).await.version, Version(1), "no other saga may change");
    assert_eq!(history_len(store, old).await, 1, "no history may be added");
    assert!(load(store, new).await.is_none(), "no saga may start");
    let found = store.find(&[(PLACE_ORDER, order.clone())]).await.expect("find");
    assert_eq!(found, [], "no key may be taken");
    assert_eq!(unsent(store, &lane).await, vec![earlier.clone()], "the outbox may not change");
    let letters = fixture.dead_letters().await;
    assert!(letters.is_empty(), "nothing may be set aside: {letters:?}");

    commit(store, change(2), "the same tick without the stale commit").await;
    for (saga, version) in [(new, 1), (old, 2), (stale, 3)] {
        assert_eq!(stored(store, saga).await.version, Version(version), "every saga must change");
        assert_eq!(history_len(store, saga).await, version, "every history must grow");
    }
    let found = store.find(&[(PLACE_ORDER, order.clone())]).await.expect("find");
    assert_eq!(found, [(PLACE_ORDER, order.clone(), new)], "the key must be taken");
    assert_eq!(unsent(store, &lane).await, vec![later.clone()], "the outbox must change");
    let letters = fixture.dead_letters().await;
    assert_eq!(letters.len(), 1, "the message must be set aside: {letters:?}");
    assert_eq!(letters[0].value, dead_letter(1).value, "a dead letter is kept byte for byte");
}

/// Every field comes back as it was committed, at its extremes and for every status.
pub async fn a_committed_saga_is_loaded_as_it_was_committed<F: Fixture<Store: SagaStore>>(
    fixture: F,
) {
    let store = fixture.store();
    let (saga, new) = (SagaId::now(), extreme());
    let mut expected = Snapshot {
        saga,
        version: Version(0),
        new: new.clone(),
        status: Status::Running,
        wake_at: None,
        state: Bytes::new(),
    };
    let statuses = [
        Status::Running,
        Status::Compensating,
        Status::Parked,
        Status::Completed,
        Status::Compensated,
    ];
    let wake_at = Timestamp::from_micros(1_767_225_600_123_457);
    let states = [Bytes::new(), Bytes::from_static(b"\x00\xff\xfe"), vec![0xa5; 100_000].into()];
    for (turn, status) in statuses.into_iter().enumerate() {
        let commit = Commit {
            saga,
            expected: expected.version,
            new: (turn == 0).then(|| new.clone()),
            status,
            wake_at: if status.is_final() { WakeAt::Never } else { WakeAt::At(wake_at) },
            state: states[turn % states.len()].clone(),
            history: Bytes::new(),
        };
        expected.version = expected.version.next();
        expected.status = status;
        expected.wake_at = (!status.is_final()).then_some(wake_at);
        expected.state = commit.state.clone();
        self::commit(store, tick([commit]), "a saga that is up to date").await;
        assert_same(&stored(store, saga).await, &expected);
    }
}

/// A commit based on another version than the stored one changes nothing.
pub async fn a_stale_commit_is_a_conflict<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, saga) = (fixture.store(), lane(0), SagaId::now());
    commit(store, tick([start(saga)]), "a start").await;
    commit(store, tick([next(saga, 1, "second")]), "a next step").await;
    for (expected, what) in [(1, "a superseded version"), (3, "a version that is still to come")] {
        let stale = next(saga, expected, "stale");
        let stale = Tick { outbox: vec![row(&lane, "stale")], ..tick([stale]) };
        assert_conflict(&store.commit(stale).await, what);
    }
    let unknown = store.commit(tick([next(SagaId::now(), 1, "unknown")])).await;
    assert_conflict(&unknown, "a next step of a saga that never started");

    let kept = stored(store, saga).await;
    assert_eq!(kept.version, Version(2), "a conflict must not advance the saga");
    assert_eq!(kept.state, bytes("second"), "a conflict must not change the saga");
    assert_eq!(history_len(store, saga).await, 2, "a conflict must not add to the history");
    assert_eq!(unsent(store, &lane).await, [], "a conflict must send nothing");
}

/// A second start under one id changes nothing.
pub async fn a_second_start_of_a_saga_is_a_conflict<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, saga) = (fixture.store(), lane(0), SagaId::now());
    commit(store, tick([start(saga)]), "a start").await;
    let again = Commit { state: bytes("again"), ..start_under(saga, PLACE_ORDER, &key("again")) };
    let again = Tick { outbox: vec![row(&lane, "again")], ..tick([again]) };
    assert_conflict(&store.commit(again).await, "a second start");

    let kept = stored(store, saga).await;
    assert_eq!(kept.version, Version(1), "a second start must not advance the saga");
    assert_eq!(kept.state, bytes("started"), "a second start must not change the saga");
    assert_eq!(kept.new.key, None, "a second start must not change what never changes");
    assert_eq!(history_len(store, saga).await, 1, "a second start must not add to the history");
    assert_eq!(unsent(store, &lane).await, [], "a second start must send nothing");
}

/// A load gives those sagas that exist and nothing else.
pub async fn unknown_sagas_are_left_out_of_a_load<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let (first, unknown, second, other) =
        (SagaId::now(), SagaId::now(), SagaId::now(), SagaId::now());
    commit(store, tick([start(first), start(second), start(other)]), "a start of three").await;
    let found = store.load(&[first, unknown, second]).await.expect("load");
    let mut found: Vec<_> = found.into_iter().map(|snapshot| snapshot.saga).collect();
    found.sort();
    assert_eq!(found, [first, second], "a load must give the sagas that exist of those asked for");
    assert!(load(store, unknown).await.is_none(), "an unknown saga is no error and not there");
    let none = store.load(&[]).await.expect("load");
    assert!(none.is_empty(), "nothing was asked for and {} sagas were loaded", none.len());
}

/// A saga's history is what its commits recorded, oldest first; commits that recorded nothing are left out.
pub async fn history_is_kept_in_order<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let (saga, other) = (SagaId::now(), SagaId::now());
    commit(store, tick([start(saga), start(other)]), "a start of two sagas").await;
    // Beyond 10, so that versions that are sorted as text are out of order.
    for version in 1..12 {
        let mut step = next(saga, version, &format!("step {version}"));
        if version % 4 == 0 {
            step.history = Bytes::new();
        }
        commit(store, tick([step]), "a next step").await;
    }
    let history = store.history(saga).await.expect("history");
    let history: Vec<_> = history.into_iter().map(|kept| (kept.version.0, kept.entries)).collect();
    let mut expected = vec![(1, bytes("started"))];
    let recorded = (1..12).filter(|version| version % 4 != 0);
    expected.extend(recorded.map(|version| (version + 1, bytes(&format!("step {version}")))));
    assert_eq!(history, expected, "history must be there whole, oldest first");
    assert_eq!(history_len(store, other).await, 1, "histories must not be mixed");
    assert_eq!(history_len(store, SagaId::now()).await, 0, "an unknown saga has no history");
}

/// What never changes of a saga, with the longest and largest values that are allowed.
fn extreme() -> NewSaga {
    NewSaga {
        name: SagaName::parse("n".repeat(128)).expect("the longest name is valid"),
        definition_version: i32::MAX.unsigned_abs(),
        fingerprint: u64::MAX,
        key: Some(IdempotencyKey::new("\u{1f6d2}'%\\".repeat(36)).expect("a long key is valid")),
        home: i32::MAX.unsigned_abs(),
    }
}

fn assert_same(loaded: &Snapshot, committed: &Snapshot) {
    assert_eq!(loaded.saga, committed.saga, "the id must be loaded as it was committed");
    assert_eq!(loaded.version, committed.version, "a commit must advance the version by one");
    assert_eq!(loaded.new, committed.new, "what a saga starts with must never change");
    assert_eq!(loaded.status, committed.status, "the status must be loaded as it was committed");
    assert_eq!(loaded.wake_at, committed.wake_at, "so must the wake time, to the microsecond");
    assert!(loaded.state == committed.state, "the state must be loaded byte for byte");
}

async fn history_len(store: &impl SagaStore, saga: SagaId) -> u64 {
    store.history(saga).await.expect("history").len() as u64
}
