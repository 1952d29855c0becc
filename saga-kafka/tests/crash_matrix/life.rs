//! One life of the process: engine, participant and relay, from start to end or to death.

use std::collections::HashSet;
use std::env;
use std::time::Duration;

use saga_core::machine::{HistoryEntry, HistoryKind, Operation, OperatorAction};
use saga_core::store::{DeadLetters as _, Lane, LetterFilter, OutboxRow};
use saga_core::{Engine, IdempotencyKey, Outbox as _, Relay, SagaData as _, SagaId, Status};
use saga_kafka::KafkaTransport;
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::{Cursors, Defect, Planted};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::broker;
use super::late::Late;
use super::mine::Mine;
use super::mined::Mined;
use super::points::{Call, Case, Moment, Scenario, Service, Since, cases};
use super::private::Private;
use super::shop::{Order, OrderPlaced, SHOP, STOCK, saga, stock};

const LIFE: &str = "CRASH_MATRIX_LIFE";
/// A topic gets so many, unless it is told otherwise.
const PARTITIONS: u32 = 8;
/// Longer than a letter's lease and the broker's session, twice, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);
const PATIENCE_WITH_DEFECT: Duration = Duration::from_secs(30);
/// How long a message is on its way that others are to overtake.
const DETOUR: Duration = Duration::from_secs(1);

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
    /// What is done wrong on purpose: a place in [`Defect::ALL`].
    pub(crate) planted: Option<usize>,
}

impl Told {
    /// Returns what this process was told, if it is one of the matrix.
    pub(crate) fn here() -> Option<Self> {
        let told = env::var(LIFE).ok()?;
        Some(serde_json::from_str(&told).expect("it was written by this program"))
    }

    pub(crate) fn defect(&self) -> Option<Defect> {
        self.planted.map(|place| Defect::ALL[place])
    }

    /// How long a life may last. Where something is done wrong, it need not end.
    fn patience(&self) -> Duration {
        if self.planted.is_some() { PATIENCE_WITH_DEFECT } else { PATIENCE }
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
    let (life, patience) = (told.life, told.patience());
    let lived = tokio::time::timeout(patience, go_through(told, &case)).await;
    lived.unwrap_or_else(|_| panic!("{case}: not over after {patience:?}, in life {life}"));
}

type Wire = Mined<Planted<Late<Private<KafkaTransport>>>>;
type Store = Mined<Planted<PostgresStore>>;

/// What the services of a process are made of.
struct Parts<'a> {
    told: &'a Told,
    scenario: Scenario,
    mine: Mine,
    broker: Private<KafkaTransport>,
    late: Late<Private<KafkaTransport>>,
    read: Cursors,
}

impl<'a> Parts<'a> {
    async fn new(told: &'a Told, case: &Case) -> Self {
        let scenario = case.point.scenario;
        let broker = Private::new(broker::transport().await, &told.prefix);
        let late = Late::new(broker.clone(), scenario, &told.order);
        let (mine, read) = (Mine::new(case, told.life), Cursors::default());
        Self { told, scenario, mine, broker, late, read }
    }

    /// Every row that an earlier life has left is one that it has read.
    async fn has_read(&self, store: &PostgresStore) {
        let rows = if self.told.life > 0 { unsent(store).await } else { Vec::new() };
        let mut read = self.read.lock().expect("nobody has panicked");
        read.extend(rows.into_iter().map(|row| (row.lane, row.id)));
    }

    fn store(&self, store: &PostgresStore, service: Service) -> Store {
        let planted = Planted::new(store.clone(), self.told.defect()).reading(&self.read);
        Mined::new(planted, service, &self.mine)
    }

    fn wire(&self, service: Service) -> Wire {
        let mut late = self.late.clone();
        if service == Service::OtherEngine {
            let broker = self.broker.clone().in_groups("other");
            late = Late::new(broker, self.scenario, &self.told.order);
        }
        let planted = Planted::new(late, self.told.defect()).detour(DETOUR);
        Mined::new(planted, service, &self.mine)
    }

    fn engine(&self, sagas: &PostgresStore, service: Service) -> Engine {
        Engine::builder(SHOP, self.store(sagas, service))
            .saga(saga(self.scenario))
            .transport(self.wire(service))
            .start_on::<OrderPlaced, Order>(|fact| {
                let OrderPlaced { order, trouble } = fact;
                Some((IdempotencyKey::new(&*order).ok()?, Order { order, trouble }))
            })
            .start()
            .expect("the parts fit")
    }
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
    one_outcome_each(&engine.history(saga).await.expect("history"));
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
        Scenario::Refused => "refused",
        Scenario::Retried => "retried",
        Scenario::Parked => "parked",
        _ => "",
    }
}

/// Returns what waits in all lanes that an engine, a participant or a relay may have.
pub(crate) async fn unsent(store: &PostgresStore) -> Vec<OutboxRow> {
    let lanes = [SHOP, STOCK]
        .into_iter()
        .flat_map(|owner| (0..PARTITIONS).map(move |number| Lane::new(owner.clone(), number)));
    let lanes: Vec<_> = lanes.chain([Lane::application()]).collect();
    store.unsent(&lanes, 1_000_000).await.expect("unsent")
}

async fn until(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
