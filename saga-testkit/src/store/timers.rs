//! Laws of wake times: which sagas are due, and when.

use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{Commit, DueSagas, SagaStore, WakeAt};
use saga_core::{SagaId, SagaName, Timestamp};

use crate::Fixture;
use crate::given::{
    ALL, CANCEL_ORDER, HOUR, PLACE_ORDER, commit, next, start, start_due, stored, tick,
};

/// A saga is due if its wake time is past, or comes within the horizon, by the store's clock.
pub async fn a_saga_is_due_from_its_wake_time_on<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let now = now(store).await;
    let (past, future, never) = (SagaId::now(), SagaId::now(), SagaId::now());
    let (past_at, future_at) = (now - Duration::from_secs(1), now + HOUR);
    let mut home = start_due(past, past_at);
    home.new.as_mut().expect("a start has a new saga").home = 5;
    commit(store, tick([start(never), start_due(future, future_at), home]), "a start").await;

    let at_once = due(store, Duration::ZERO).await;
    assert_eq!(at_once.sagas.len(), 1, "one wake time is past: {at_once:?}");
    assert_eq!(at_once.sagas[0].saga, past, "the saga whose wake time is past must be due");
    assert_eq!(at_once.sagas[0].wake_at, past_at, "with its wake time");
    assert_eq!(at_once.sagas[0].home, 5, "and its home partition");
    assert!(at_once.now >= now, "the store's clock must not go back: {} < {now}", at_once.now);
    assert_eq!(ids(&due(store, HOUR / 2).await), [past], "the other one is not due that early");
    let later = due(store, 2 * HOUR).await;
    assert_eq!(ids(&later), [past, future], "within the horizon it is due");
    assert_eq!(later.sagas[1].wake_at, future_at, "with its wake time");
}

/// A wake time stays over commits that keep it, and moves and goes with those that say so.
pub async fn a_kept_wake_time_stays<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, saga, kept_never) = (fixture.store(), SagaId::now(), SagaId::now());
    let now = now(store).await;
    let (early, late) = (now - HOUR, now + HOUR);
    let keeps = Commit { wake_at: WakeAt::Keep, ..start(kept_never) };
    commit(store, tick([start_due(saga, early), keeps]), "a start").await;
    let unset = stored(store, kept_never).await.wake_at;
    assert_eq!(unset, None, "a saga that starts has no wake time to keep");

    let turns = [
        (WakeAt::Keep, Some(early)),
        (WakeAt::Keep, Some(early)),
        (WakeAt::At(late), Some(late)),
        (WakeAt::Keep, Some(late)),
        (WakeAt::Never, None),
        (WakeAt::Keep, None),
        (WakeAt::At(early), Some(early)),
    ];
    for (version, (wake_at, expected)) in (1..).zip(turns) {
        let step = Commit { wake_at, ..next(saga, version, "step") };
        commit(store, tick([step]), "a next step").await;
        let loaded = stored(store, saga).await.wake_at;
        assert_eq!(loaded, expected, "the wake time after {wake_at:?}, at version {version}");
        let listed = due(store, 2 * HOUR).await.sagas;
        let listed: Vec<_> = listed.iter().map(|due| (due.saga, due.wake_at)).collect();
        let due: Vec<_> = expected.map(|wake_at| (saga, wake_at)).into_iter().collect();
        assert_eq!(listed, due, "what is due after {wake_at:?}, at version {version}");
    }
}

/// A saga that has ended is not due any more, whatever it waited for before.
pub async fn an_ended_saga_is_never_due<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let past = now(store).await - HOUR;
    for status in [Status::Completed, Status::Compensated] {
        let saga = SagaId::now();
        commit(store, tick([start_due(saga, past)]), "a start").await;
        assert_eq!(ids(&due(store, HOUR).await), [saga], "a running saga must be due");
        let end = Commit { status, wake_at: WakeAt::Never, ..next(saga, 1, "ended") };
        commit(store, tick([end]), "the end of a saga").await;
        let due = due(store, HOUR).await;
        assert!(due.sagas.is_empty(), "an ended saga must not be due: {due:?}");
        assert_eq!(stored(store, saga).await.status, status, "and it is still there");
    }
}

/// Due sagas come earliest first, and a limit cuts off the latest.
pub async fn due_sagas_come_earliest_first_and_within_the_limit<F: Fixture<Store: SagaStore>>(
    fixture: F,
) {
    let store = fixture.store();
    let now = now(store).await;
    let sagas: Vec<_> = (0..6).map(|_| SagaId::now()).collect();
    // Neither the order of ids nor the order of commits is the order of wake times.
    let seconds_ago = [2, 5, 1, 6, 3, 4];
    for (&saga, ago) in sagas.iter().zip(seconds_ago) {
        let start = start_due(saga, now - Duration::from_secs(ago));
        commit(store, tick([start]), "a start").await;
    }
    let expected = [3, 1, 5, 4, 0, 2].map(|index| sagas[index]);
    for limit in [1, 4, 6] {
        let due = store.due(Duration::ZERO, limit).await.expect("due");
        assert_eq!(ids(&due), expected[..limit], "the {limit} earliest must be due, in order");
    }
    assert_eq!(ids(&due(store, HOUR).await), expected, "a higher limit adds nothing");
}

/// Returns the time by the store's clock.
pub(super) async fn now(store: &impl SagaStore) -> Timestamp {
    due(store, Duration::ZERO).await.now
}

/// The shapes of definitions are listed that sagas are under way on, each once, with how many.
pub async fn definitions_in_use_are_those_of_sagas_under_way<F: Fixture<Store: SagaStore>>(
    fixture: F,
) {
    let store = fixture.store();
    let soon = now(store).await + HOUR;
    let of = |name: SagaName, version: u32, fingerprint: u64| {
        let mut commit = start_due(SagaId::now(), soon);
        let new = commit.new.as_mut().expect("a start has a new saga");
        (new.name, new.definition_version, new.fingerprint) = (name, version, fingerprint);
        commit
    };
    let (ended, parked) = (of(CANCEL_ORDER, 1, 1), of(CANCEL_ORDER, 2, 1));
    let compensating = of(CANCEL_ORDER, 1, 1);
    let turns = [
        (ended.saga, Status::Completed, WakeAt::Never),
        (parked.saga, Status::Parked, WakeAt::Never),
        (compensating.saga, Status::Compensating, WakeAt::Keep),
    ];
    let starts = [
        ended,
        parked,
        compensating,
        of(PLACE_ORDER, 2, u64::MAX),
        of(PLACE_ORDER, 1, 8),
        of(PLACE_ORDER, 1, 7),
        of(PLACE_ORDER, 1, 8),
        of(CANCEL_ORDER, 1, 1),
    ];
    commit(store, tick(starts), "some starts").await;
    for (saga, status, wake_at) in turns {
        let turn = Commit { status, wake_at, ..next(saga, 1, "turned") };
        commit(store, tick([turn]), "a next step").await;
    }
    let in_use = store.in_use().await.expect("in_use");
    let in_use: Vec<_> =
        in_use.into_iter().map(|it| (it.saga, it.version, it.fingerprint, it.sagas)).collect();
    let expected = [
        (CANCEL_ORDER, 1, 1, 2),
        (PLACE_ORDER, 1, 7, 1),
        (PLACE_ORDER, 1, 8, 2),
        (PLACE_ORDER, 2, u64::MAX, 1),
    ];
    assert_eq!(in_use, expected, "the definitions that sagas are under way on");
}

async fn due(store: &impl SagaStore, horizon: Duration) -> DueSagas {
    store.due(horizon, ALL).await.expect("due")
}

fn ids(due: &DueSagas) -> Vec<SagaId> {
    due.sagas.iter().map(|due| due.saga).collect()
}
