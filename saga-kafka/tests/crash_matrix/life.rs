//! One life of the process: engine, participant and relay, from start to end or to death.

use std::env;
use std::time::Duration;

use saga_core::machine::{Operation, OperatorAction};
use saga_core::store::{DeadLetters as _, Lane, LetterFilter};
use saga_core::{Engine, IdempotencyKey, Outbox as _, Relay, SagaData as _, SagaId, Status};
use saga_kafka::KafkaTransport;
use saga_postgres::{PostgresStore, SchemaName};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::broker;
use super::mine::Mine;
use super::mined::Mined;
use super::points::{Call, Case, Moment, Scenario, Service, Since, cases};
use super::private::Private;
use super::shop::{Order, OrderPlaced, SHOP, STOCK, saga, stock};

const LIFE: &str = "CRASH_MATRIX_LIFE";
/// A topic gets so many, unless it is told otherwise.
const PARTITIONS: u32 = 8;
/// Longer than a letter's lease and the broker's session, twice, on a busy machine.
const LIFE_MAX: Duration = Duration::from_mins(4);

/// What a process of the matrix is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) case: usize,
    pub(crate) life: u32,
    pub(crate) url: String,
    pub(crate) sagas: String,
    pub(crate) effects: String,
    pub(crate) prefix: String,
    pub(crate) order: String,
}

impl Told {
    /// Returns what this process was told, if it is one of the matrix.
    pub(crate) fn here() -> Option<Self> {
        let told = env::var(LIFE).ok()?;
        Some(serde_json::from_str(&told).expect("it was written by this program"))
    }

    pub(crate) fn tell(&self, process: &mut std::process::Command) {
        process.env(LIFE, serde_json::to_string(self).expect("plain data"));
    }
}

/// Connects to the stores of the engine and of the participant.
pub(crate) async fn stores(told: &Told) -> (PostgresStore, PostgresStore) {
    let options: PgConnectOptions = told.url.parse().expect("a URL");
    let pool = |schema: &str| {
        let options = options.clone().options([("search_path", schema)]);
        PgPoolOptions::new().max_connections(3).connect_lazy_with(options)
    };
    let store = |schema: &str| {
        let name = SchemaName::parse(schema).expect("a schema");
        PostgresStore::new(pool(schema)).schema(name)
    };
    (store(&told.sagas), store(&told.effects))
}

/// Lives until everything has ended, unless it dies.
pub(crate) async fn live(told: &Told) {
    let case = cases().swap_remove(told.case);
    let lived = tokio::time::timeout(LIFE_MAX, go_through(told, &case)).await;
    lived.unwrap_or_else(|_| panic!("{case}: not over after {LIFE_MAX:?}, in life {}", told.life));
}

async fn go_through(told: &Told, case: &Case) {
    let mine = Mine::new(case, told.life);
    let (sagas, effects) = stores(told).await;
    let transport = Private::new(broker::transport().await, &told.prefix);
    let of = |service| Mined::new(transport.clone(), service, &mine);
    let engine = engine(&sagas, of(Service::Engine), &mine);
    let effects_of = |service| Mined::new(effects.clone(), service, &mine);
    let participant =
        stock(&mine).start(effects_of(Service::Participant), of(Service::Participant));
    let relay = Relay::start(effects_of(Service::Relay), of(Service::Relay));

    let saga = started(told, case.point.scenario, &engine, &mine).await;
    if engine.outcome(saga).await.expect("outcome") == Status::Parked {
        skip(&engine, saga, &mine).await;
        assert_ne!(engine.outcome(saga).await.expect("outcome"), Status::Parked);
    }
    until(async || mine.is_over()).await;
    until(async || sagas.letters(&LetterFilter::all(), None, 1).await.expect("letters").is_empty())
        .await;
    until(async || unsent(&sagas).await + unsent(&effects).await == 0).await;
    relay.shutdown().await.expect("the relay ends in order");
    participant.shutdown().await.expect("the participant ends in order");
    engine.shutdown().await.expect("the engine ends in order");
}

fn engine(sagas: &PostgresStore, transport: Mined<Private<KafkaTransport>>, mine: &Mine) -> Engine {
    Engine::builder(SHOP, Mined::new(sagas.clone(), Service::Engine, mine))
        .saga(saga())
        .transport(transport)
        .start_on::<OrderPlaced, Order>(|fact| {
            let OrderPlaced { order, trouble } = fact;
            Some((IdempotencyKey::new(&*order).ok()?, Order { order, trouble }))
        })
        .start()
        .expect("the parts fit")
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
    mine.since(Since::Asked);
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

pub(crate) const fn trouble(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Called | Scenario::Told | Scenario::Redriven => "",
        Scenario::Refused => "refused",
        Scenario::Retried => "retried",
        Scenario::Parked => "parked",
    }
}

/// Returns how many rows wait in all lanes that an engine, a participant or a relay may have.
pub(crate) async fn unsent(store: &PostgresStore) -> usize {
    let lanes = [SHOP, STOCK]
        .into_iter()
        .flat_map(|owner| (0..PARTITIONS).map(move |number| Lane::new(owner.clone(), number)));
    let lanes: Vec<_> = lanes.chain([Lane::application()]).collect();
    store.unsent(&lanes, 1_000_000).await.expect("unsent").len()
}

async fn until(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
