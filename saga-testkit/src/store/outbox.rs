//! Laws of the outbox: what was committed waits, in order, until it is known to be sent.

use std::sync::Arc;
use std::time::Duration;

use saga_core::store::{Lane, OutboxRow, SagaStore, Tick};
use saga_core::{Outbox, OutboxId};
use tokio::time::{Instant, sleep};

use crate::Fixture;
use crate::given::{ALL, HOUR, commit, lane, outbox_tick, row, unsent};
use crate::run::race;

/// What waits in a lane comes back in the order of its ids, whole, and a limit of bytes cuts off the latest.
pub async fn unsent_rows_come_back_in_order<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane) = (fixture.store(), lane(0));
    let rows: Vec<_> = (0..24).map(|n| row(&lane, &format!("\u{0}row {n}"))).collect();
    for rows in rows.chunks(5) {
        commit(store, outbox_tick(rows.to_vec()), "an append").await;
    }
    assert_eq!(unsent(store, &lane).await, rows, "every row must come back as appended, in order");
    for count in [1, 7, 24] {
        let limit = bytes(&rows[..count]);
        for limit in [limit - 1, limit] {
            let first = store.unsent(std::slice::from_ref(&lane), limit).await.expect("unsent");
            assert_eq!(first, rows[..count], "{limit} bytes must give the first {count} rows");
        }
    }
}

/// A lane is told apart by its owner and its number, and keeps its own order.
pub async fn lanes_are_separate<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let lanes = [lane(0), lane(1), lane(10), Lane::application()];
    let rows: Vec<_> = (0..12).map(|n| row(&lanes[n % 4], &format!("row {n}"))).collect();
    commit(store, outbox_tick(rows.clone()), "an append to four lanes").await;
    for lane in &lanes {
        assert_eq!(unsent(store, lane).await, of(&rows, lane), "lane {lane} must have its rows");
    }
    assert_eq!(unsent(store, &self::lane(2)).await, [], "an unused lane is empty");
    let several = store.unsent(&lanes[1..], ALL).await.expect("unsent");
    assert_eq!(several.len(), 9, "three lanes were asked for: {several:?}");
    for lane in &lanes[1..] {
        assert_eq!(of(&several, lane), of(&rows, lane), "lane {lane} must keep its order");
    }
    let limit = bytes(&rows[..5]);
    let some = store.unsent(&lanes, limit).await.expect("unsent");
    assert!(bytes(&some) >= limit, "a limit must be filled: {some:?}");
    assert!(bytes(&some[1..]) < limit, "a limit must be kept: {some:?}");
    for lane in &lanes {
        let (some, all) = (of(&some, lane), of(&rows, lane));
        assert_eq!(some, all[..some.len()], "a limit must not leave gaps in lane {lane}");
    }
    assert_eq!(store.unsent(&[], ALL).await.expect("unsent"), [], "no lane was asked for");
}

fn bytes(rows: &[OutboxRow]) -> usize {
    rows.iter().map(|row| row.body.len()).sum()
}

/// A row is there until it is named as sent, alone or in a tick. Naming it again is no error.
pub async fn sent_rows_are_gone_and_only_those<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, other) = (fixture.store(), lane(0), lane(1));
    let rows: Vec<_> = (0..6).map(|n| row(&lane, &format!("row {n}"))).collect();
    let elsewhere = row(&other, "elsewhere");
    let all = [rows.clone(), vec![elsewhere.clone()]].concat();
    commit(store, outbox_tick(all), "an append").await;

    store.sent(&[rows[1].id, rows[4].id]).await.expect("sent");
    let left = [0, 2, 3, 5].map(|n| rows[n].clone());
    assert_eq!(unsent(store, &lane).await, left, "the rows that were sent must be gone");
    store.sent(&[rows[1].id, OutboxId::now()]).await.expect("rows that are gone are no error");
    store.sent(&[]).await.expect("nothing was sent");

    let sent = vec![rows[0].id, rows[4].id, rows[5].id];
    commit(store, Tick { sent, ..Tick::default() }, "a tick that only deletes").await;
    let left = [2, 3].map(|n| rows[n].clone());
    assert_eq!(unsent(store, &lane).await, left, "the rows that a tick names must be gone");
    assert_eq!(unsent(store, &other).await, [elsewhere], "other lanes must stay as they are");
}

/// A lane is leased to one holder at a time, until the lease ends or is released.
pub async fn a_lease_has_one_holder<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, other) = (fixture.store(), lane(0), lane(1));
    let (first, second) = (OutboxId::now(), OutboxId::now());
    assert!(lease(store, &lane, first, HOUR).await, "a free lane must be leased");
    assert!(!lease(store, &lane, second, HOUR).await, "a held lane must be refused");
    assert!(lease(store, &lane, first, HOUR).await, "the holder must be able to renew");
    assert!(lease(store, &other, second, HOUR).await, "another lane must be free");
    lease(store, &lane, second, Duration::ZERO).await;
    assert!(!lease(store, &lane, second, HOUR).await, "only the holder can release");
    lease(store, &lane, first, Duration::ZERO).await;
    assert!(lease(store, &lane, second, HOUR).await, "a released lane must be free");

    assert!(
        lease(store, &lane, second, Duration::from_millis(1)).await,
        "a lease can be cut short"
    );
    a_lease_ends(store, &lane, first).await;
    assert!(!lease(store, &lane, second, HOUR).await, "the new holder has it then");
    leases_at_once_have_one_winner(fixture).await;
}

async fn a_lease_ends(store: &impl Outbox, lane: &Lane, next: OutboxId) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !lease(store, lane, next, HOUR).await {
        assert!(Instant::now() < deadline, "a lease of 1 ms must have ended after 2 s");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn leases_at_once_have_one_winner<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (fixture, free) = (Arc::new(fixture), lane(2));
    let relays = (0..8).map(|_| {
        let (fixture, free) = (Arc::clone(&fixture), free.clone());
        async move { lease(fixture.store(), &free, OutboxId::now(), HOUR).await }
    });
    let winners = race(relays.collect()).await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1, "one of the relays must get the lane: {winners} did");
}

async fn lease(store: &impl Outbox, lane: &Lane, holder: OutboxId, duration: Duration) -> bool {
    store.lease(lane, holder, duration).await.expect("lease")
}

fn of(rows: &[OutboxRow], lane: &Lane) -> Vec<OutboxRow> {
    rows.iter().filter(|row| row.lane == *lane).cloned().collect()
}
