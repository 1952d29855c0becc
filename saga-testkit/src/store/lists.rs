//! Laws of lists: which sagas are in one, in which order, and what is told of each.

use saga_core::machine::Status;
use saga_core::store::{Commit, ListedSaga, NewSaga, SagaFilter, SagaStore, WakeAt};
use saga_core::{SagaId, SagaName, Timestamp};

use super::timers::now;
use crate::Fixture;
use crate::given::{
    ALL, CANCEL_ORDER, HOUR, PLACE_ORDER, commit, key, next, start, start_due, start_under, tick,
};

const EVERY_STATUS: [Status; 5] =
    [Status::Running, Status::Compensating, Status::Completed, Status::Compensated, Status::Parked];

/// Every saga is in one page, by its id, with what is stored of it; what starts meanwhile shifts nothing.
pub async fn sagas_are_listed_in_pages_newest_first<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let sagas: Vec<_> = (0..7).map(|_| SagaId::now()).collect();
    assert_eq!(list(store, &SagaFilter::all(), None, ALL).await, [], "nothing has started");
    let started_under = key("order-1");
    for index in [3, 0, 6, 1, 5, 2, 4] {
        let mut start = start_under(sagas[index], CANCEL_ORDER, &started_under);
        let new = start.new.as_mut().expect("a start has a new saga");
        new.definition_version = 7;
        new.key = (index == 2).then(|| started_under.clone());
        commit(store, tick([start]), "a start").await;
    }
    let (mut pages, mut after) = (Vec::new(), None);
    for _ in 0..4 {
        let page = list(store, &SagaFilter::all(), after, 3).await;
        after = page.last().map(|saga| saga.saga).or(after);
        pages.push(ids(&page));
        commit(store, tick([start(SagaId::now())]), "a start meanwhile").await;
    }
    let newest_first: Vec<_> = sagas.iter().rev().copied().collect();
    let expected: [&[SagaId]; 4] =
        [&newest_first[..3], &newest_first[3..6], &newest_first[6..], &[]];
    assert_eq!(pages, expected, "each saga must be in one page, newest first");
    let gone = SagaId::now();
    commit(store, tick([start(SagaId::now())]), "a start").await;
    let older = list(store, &SagaFilter::all(), Some(gone), 1).await;
    assert!(older[0].saga < gone, "a page can begin behind a saga that is not there");

    let listed = only(store, sagas[2]).await;
    let expected = ListedSaga {
        saga: sagas[2],
        name: CANCEL_ORDER,
        definition_version: 7,
        key: Some(started_under),
        status: Status::Running,
        ..listed.clone()
    };
    assert_eq!(listed, expected, "a saga must be listed as it is stored");
    assert_eq!(listed.updated_at, listed.started_at, "its start is its last change");
    assert_eq!(only(store, sagas[1]).await.key, None, "a saga without a key has none");
    later_than(store, listed.updated_at).await;
    let parks = Commit { status: Status::Parked, ..next(sagas[2], 1, "parked") };
    commit(store, tick([parks]), "a next step").await;
    let parked = only(store, sagas[2]).await;
    assert_eq!(parked.status, Status::Parked, "where it stands must be told");
    assert_eq!(parked.started_at, listed.started_at, "when it started never changes");
    assert!(parked.updated_at > listed.updated_at, "when it changed does: {parked:?}");
}

/// A filter leaves out the other definitions and those that stand elsewhere, before the limit counts.
pub async fn a_filter_of_sagas_leaves_the_others_out<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let soon = now(store).await + HOUR;
    let mut sagas = Vec::new();
    for _ in 0..2 {
        for name in [PLACE_ORDER, CANCEL_ORDER] {
            for status in EVERY_STATUS {
                let saga = SagaId::now();
                commit(store, tick([start_of(saga, &name, soon)]), "a start").await;
                stands(store, saga, 1, status).await;
                sagas.push((saga, name.clone(), status));
            }
        }
    }
    // One that was parked and goes on is where it is now, and nowhere else.
    let (goes_on, ..) = sagas[4];
    stands(store, goes_on, 2, Status::Running).await;
    sagas[4].2 = Status::Running;

    let mut filters = vec![SagaFilter::all()];
    for name in [PLACE_ORDER, CANCEL_ORDER, SagaName::new("return-order")] {
        filters.push(SagaFilter::all().name(name.clone()));
        filters.extend(EVERY_STATUS.map(|it| SagaFilter::all().name(name.clone()).status(it)));
    }
    filters.extend(EVERY_STATUS.map(|it| SagaFilter::all().status(it)));
    for filter in filters {
        let is_one = |(_, name, status): &&(SagaId, SagaName, Status)| {
            filter.name.as_ref().is_none_or(|it| it == name)
                && filter.status.is_none_or(|it| it == *status)
        };
        let expected: Vec<_> = sagas.iter().rev().filter(is_one).map(|(saga, ..)| *saga).collect();
        let listed = ids(&list(store, &filter, None, ALL).await);
        assert_eq!(listed, expected, "the sagas of {filter:?}");
        let mut paged = Vec::new();
        for _ in 0..expected.len() {
            paged.extend(ids(&list(store, &filter, paged.last().copied(), 1).await));
        }
        assert_eq!(paged, expected, "the sagas of {filter:?}, one by one");
    }
}

fn start_of(saga: SagaId, name: &SagaName, wake_at: Timestamp) -> Commit {
    let start = start_due(saga, wake_at);
    let new = start.new.map(|new| NewSaga { name: name.clone(), ..new });
    Commit { new, ..start }
}

/// Puts a saga where it is to stand. What is at rest has no wake time, what is under way has one.
async fn stands(store: &impl SagaStore, saga: SagaId, expected: u64, status: Status) {
    let soon = now(store).await + HOUR;
    let wake_at = if status.is_at_rest() { WakeAt::Never } else { WakeAt::At(soon) };
    let turn = Commit { status, wake_at, ..next(saga, expected, "turned") };
    commit(store, tick([turn]), "a next step").await;
}

/// Waits until the store's clock has moved on.
async fn later_than(store: &impl SagaStore, time: Timestamp) {
    while now(store).await <= time {}
}

async fn list(
    store: &impl SagaStore,
    filter: &SagaFilter,
    after: Option<SagaId>,
    limit: usize,
) -> Vec<ListedSaga> {
    store.list(filter, after, limit).await.expect("list")
}

/// Returns a saga as it is listed among all.
async fn only(store: &impl SagaStore, saga: SagaId) -> ListedSaga {
    let mut all = list(store, &SagaFilter::all(), None, ALL).await;
    all.retain(|listed| listed.saga == saga);
    assert_eq!(all.len(), 1, "a saga must be listed once");
    all.remove(0)
}

fn ids(listed: &[ListedSaga]) -> Vec<SagaId> {
    listed.iter().map(|saga| saga.saga).collect()
}
