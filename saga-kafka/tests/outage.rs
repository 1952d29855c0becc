//! The broker and the database go away for a minute while orders keep coming.
//!
//! It stops the services, so it is not part of `make test`: `make test-long` runs it.
//! `OUTAGE_SECONDS=300` makes it longer; without it, they are away for 5 seconds.

mod broker;
#[path = "../../saga-postgres/tests/support/mod.rs"]
mod database;
mod private;
#[path = "../../saga-postgres/tests/support/shop.rs"]
mod shop;

use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, Instant};

use saga_core::machine::HistoryKind;
use saga_core::{Engine, IdempotencyKey, StartedSaga, Status};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::Fixture as _;
use sqlx::ConnectOptions as _;

use private::Private;
use shop::{Order, SHOP, Stock, insist};

/// Orders in a second.
const RATE: u32 = 20;

/// F10, F40, I1, I3, I4, I14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it stops the services: make test-long"]
async fn an_outage_of_each_service_parks_no_saga_and_sets_nothing_aside() {
    let (sagas, effects) = (database::fresh().await, database::fresh().await);
    let transport = Private::new(broker::transport().await, &broker::prefix("outage"));
    let participant =
        shop::stock(&Stock::default()).start(store(&effects).await, transport.clone());
    let engine = Engine::builder(SHOP, store(&sagas).await).saga(shop::saga());
    let engine = engine.transport(transport).start().expect("the parts fit");

    let mut all = 0;
    for service in ["kafka", "postgres"] {
        let began = Instant::now();
        let outage = outage();
        let away = tokio::task::spawn_blocking(move || restart(service, outage));
        let mut started = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
        let mut goes_on = RATE * 3;
        while goes_on > 0 {
            tick.tick().await;
            let order = format!("{service}-{}", started.len());
            started.push(tokio::spawn(start(engine.clone(), order)));
            // For a while after it is back, too.
            goes_on -= u32::from(away.is_finished());
        }
        let away = away.await.expect("the script does not panic");
        assert!(away >= outage, "it was away for {away:?}");
        let orders = started.len();
        all += orders;
        for saga in started {
            completes(&engine, saga.await.expect("it is started")).await;
        }
        println!("{service}: {orders} orders in {:?}, all completed", began.elapsed());
    }

    for pool in [&sagas.pool, &effects.pool] {
        // Its connections of before are of no use any more.
        for _ in 0..pool.size() {
            insist(|| sqlx::query("select 1").execute(pool)).await;
        }
    }
    let mut seen = effects.effects().await;
    let total = seen.len();
    seen.sort();
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!((total, different.len()), (2 * all, 2 * all), "each effect once");
    for store in [&sagas, &effects] {
        assert!(store.dead_letters().await.is_empty(), "nothing is set aside");
    }
    participant.shutdown().await.expect("an orderly end");
    engine.shutdown().await.expect("an orderly end");
}

async fn store(fresh: &database::Fresh) -> PostgresStore {
    let url = database::database().await.to_url_lossy();
    let url = format!("{url}&options[search_path]={}", fresh.schema);
    let store = PostgresStore::connect(&url).await.expect("it answers");
    store.schema(SchemaName::parse(&fresh.schema).expect("a name")).timeout(Duration::from_secs(3))
}

async fn start(engine: Engine, order: String) -> StartedSaga {
    let key = IdempotencyKey::new(&*order).expect("a short key");
    insist(|| engine.start(key.clone(), Order { order: order.clone() })).await
}

/// Waits for the end of a saga; the outage used up none of its attempts.
async fn completes(engine: &Engine, saga: StartedSaga) {
    let end = insist(|| saga.outcome()).await;
    let history = insist(|| engine.history(saga.saga())).await;
    assert_eq!(end, Status::Completed, "{history:#?}");
    let used = |kind| matches!(kind, HistoryKind::AttemptFailed | HistoryKind::TimedOut);
    assert!(history.iter().all(|entry| !used(entry.kind)), "no attempt: {history:#?}");
}

/// Returns how long a service is away.
fn outage() -> Duration {
    let seconds = env::var("OUTAGE_SECONDS").unwrap_or_else(|_| "5".to_owned());
    Duration::from_secs(seconds.parse().expect("OUTAGE_SECONDS is a number"))
}

/// Kills a service and starts it again after the outage; returns how long that took.
fn restart(service: &str, outage: Duration) -> Duration {
    let began = Instant::now();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services");
    let mut restart = std::process::Command::new(script);
    restart.args(["restart", service, "--hard", "--for", &outage.as_secs().to_string()]);
    let restarted = restart.status().expect("the script can be run");
    assert!(restarted.success(), "{service} comes back");
    began.elapsed()
}
