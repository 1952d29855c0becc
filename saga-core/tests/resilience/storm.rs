//! What many sagas that failed together do to whom they wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use saga_core::{
    Backoff, Context, Engine, Handle, HandlerResult, Participant, Reply, RetryPolicy, Saga, SagaId,
};
use saga_testkit::ManualClock;

use crate::support::{Conn, Done, Order, Reserve, SHOP, STOCK, key, order};
use crate::{ReserveOnly, database};

const SAGAS: usize = 500;
const SECOND: Duration = Duration::from_secs(1);
/// How long nobody is served.
const OUTAGE_SECONDS: usize = 300;
/// How long a saga waits at most between two attempts.
const WAIT_SECONDS: u32 = 60;

/// Serves nobody until it is up, and counts who asks.
#[derive(Clone, Default)]
struct Counter {
    is_up: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Handle<Reserve, Conn> for Counter {
    async fn handle(&self, _: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !self.is_up.load(Ordering::SeqCst) {
            return Err("closed".into());
        }
        cx.connection().push(String::new());
        Ok(Reply::succeeded(Done {}))
    }
}

/// F74: the longer it is away the less often it is asked, and those who wait do not come all at once.
#[tokio::test]
async fn f74_a_participant_that_comes_back_is_not_flooded_by_those_who_waited() {
    let (clock, counter) = (ManualClock::new(), Counter::default());
    let db = database().clock(clock.clone());
    let backoff = Backoff::exponential(SECOND, SECOND * WAIT_SECONDS);
    let saga = Saga::<Order>::builder()
        .then(ReserveOnly)
        .retry(RetryPolicy::attempts(100).backoff(backoff))
        .build()
        .expect("sound");
    let stock = Participant::builder(STOCK).handle::<Reserve>(counter.clone()).build();
    let engine = Engine::builder(SHOP, db.clone())
        .saga(saga)
        .local(stock.expect("sound"))
        .clock(clock.clone())
        .start()
        .expect("the parts fit");
    let starts = (0..SAGAS).map(|n| {
        let name = format!("o-{n}");
        let engine = engine.clone();
        async move { engine.start(key(&name), order(&name, "")).await }
    });
    try_join_all(starts).await.expect("accepted");

    // Returns how many ask within the next second. The engine answers only after it has looked at what is due.
    let next_second = async || {
        let before = counter.asked.load(Ordering::SeqCst);
        clock.advance(SECOND);
        loop {
            let now = counter.asked.load(Ordering::SeqCst);
            for _ in 0..2 {
                engine.cancel(SagaId::now()).await.expect_err("no such saga");
            }
            if now == counter.asked.load(Ordering::SeqCst) {
                return now - before;
            }
        }
    };
    let mut by_second = Vec::new();
    for _ in 0..OUTAGE_SECONDS {
        by_second.push(next_second().await);
    }
    counter.is_up.store(true, Ordering::SeqCst);
    let mut served = Vec::new();
    while db.read(Vec::len) < SAGAS {
        assert!(served.len() <= WAIT_SECONDS as usize, "served so far: {served:?}");
        served.push(next_second().await);
    }
    let (at_first, later) = (by_second[0], by_second[OUTAGE_SECONDS / 2..].iter().max());
    assert!(later < Some(&(at_first / 10)), "{at_first} in the first second: {by_second:?}");
    assert!(served.iter().max() < Some(&(SAGAS / 10)), "too many at once: {served:?}");
    engine.shutdown().await.expect("an orderly end");
}
