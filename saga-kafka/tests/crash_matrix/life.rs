//! One life of the process: engine, participant and relay, from start to end or to death.

use std::collections::HashSet;
use std::time::Duration;

use saga_core::machine::{HistoryEntry, HistoryKind, Operation, OperatorAction};
use saga_core::store::{DeadLetters as _, LetterFilter};
use saga_core::{Engine, IdempotencyKey, Relay, SagaData as _, SagaId, Status};

use super::mine::Mine;
use super::parts::Parts;
use super::points::{Call, Case, Moment, Scenario, Service, Since, cases};
use super::shop::{Order, stock, trouble};
use super::stores::{stores, unsent};
use super::told::Told;

/// Lives until everything has ended, unless it dies.
pub(crate) async fn live(told: &Told) {
    let case = cases().swap_remove(told.case);
    let (life, patience) = (told.life, told.patience());
    let lived = tokio::time::timeout(patience, go_through(told, &case)).await;
    lived.unwrap_or_else(|_| panic!("{case}: not over after {patience:?}, in life {life}"));
}

async fn go_through(told: &Told, case: &Case) {
    let (parts, scenario) = (Parts::new(told, case).await, case.point.scenario);
    let mine = &parts.mine;
    let (sagas, effects) = stores(told).await;
    parts.has_read(&sagas).await;
    parts.has_read(&effects).await;
    let engine = parts.engine(&sagas, Service::Engine);
    let is_doubled = scenario == Scenario::Doubled;
    let other = is_doubled.then(|| parts.engine(&sagas, Service::OtherEngine));
    let stored = parts.store(&effects, Service::Participant);
    let participant = stock(mine).start(stored, parts.wire(Service::Participant));
    let relay = Relay::start(parts.store(&effects, Service::Relay), parts.wire(Service::Relay));

    let saga = started(told, scenario, &engine, mine).await;
    if engine.outcome(saga).await.expect("outcome") == Status::Parked {
        skip(&engine, saga, mine).await;
        assert_ne!(engine.outcome(saga).await.expect("outcome"), Status::Parked);
    }
    until(async || mine.is_over() && parts.late.is_over()).await;
    until(async || sagas.letters(&LetterFilter::all(), None, 1).await.expect("letters").is_empty())
        .await;
    until(async || unsent(&sagas).await.is_empty() && unsent(&effects).await.is_empty()).await;
    let history = engine.history(saga).await.expect("history");
    one_outcome_each(&history);
    let acted = history.iter().filter(|it| it.kind == HistoryKind::Operator).count();
    assert_eq!(acted, usize::from(scenario == Scenario::Parked), "a person acts once (I1)");
    relay.shutdown().await.expect("the relay ends in order");
    participant.shutdown().await.expect("the participant ends in order");
    engine.shutdown().await.expect("the engine ends in order");
    if let Some(other) = other {
        other.shutdown().await.expect("the other engine ends in order");
    }
}

/// No step has succeeded twice, or has succeeded and been refused.
fn one_outcome_each(history: &[HistoryEntry]) {
    let mut settled = HashSet::new();
    for HistoryEntry { kind, step, .. } in history {
        if matches!(kind, HistoryKind::Succeeded | HistoryKind::Rejected) {
            assert!(settled.insert(step), "{step:?} has two outcomes (I2, I10)");
        }
    }
}

/// Starts the saga, or waits until a fact has.
async fn started(told: &Told, scenario: Scenario, engine: &Engine, mine: &Mine) -> SagaId {
    let key = || IdempotencyKey::new(&*told.order).expect("a short key");
    if matches!(scenario, Scenario::Told | Scenario::Redriven) {
        loop {
            if let Some(saga) = engine.find(Order::SAGA, key()).await.expect("find") {
                return saga;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if scenario != Scenario::Parked {
        mine.since(Since::Asked);
    }
    mine.at(Service::Engine, Call::Start, Moment::Before);
    let order = Order { order: told.order.clone(), trouble: trouble(scenario).to_owned() };
    let saga = engine.start(key(), order).await.expect("accepted").saga();
    mine.at(Service::Engine, Call::Start, Moment::After);
    saga
}

async fn skip(engine: &Engine, saga: SagaId, mine: &Mine) {
    mine.since(Since::Asked);
    mine.at(Service::Engine, Call::Operate, Moment::Before);
    let (by, reason) = ("ada".to_owned(), "no box is needed".to_owned());
    let skip = Operation { by, reason, action: OperatorAction::Skip };
    engine.operate(saga, skip).await.expect("it is parked");
    mine.at(Service::Engine, Call::Operate, Moment::After);
}

async fn until(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
