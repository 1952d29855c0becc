//! What the processes of a test share: schemas, topics, and the orders that are placed.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use saga_core::machine::{HistoryEntry, HistoryKind};
use saga_core::store::{ListedSaga, SagaFilter};
use saga_core::transport::Record;
use saga_core::{Engine, Fact as _, Publisher as _, SagaStore as _, Status, Topic, Transport as _};
use saga_kafka::{KafkaConfig, KafkaPublisher, KafkaTransport};
use saga_testkit::Fixture as _;
use sqlx::{ConnectOptions as _, Decode, Encode, Postgres, Type};

use super::life::{Process, Told};
use super::private::Private;
use super::shop::{Order, OrderPlaced, SHOP, SLOW, STOCK};
use super::{broker, database};

/// Longer than anything takes that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    told: Told,
    pub(crate) sagas: database::Fresh,
    pub(crate) effects: database::Fresh,
    publisher: Private<KafkaPublisher>,
}

impl World {
    pub(crate) async fn new(partitions: u32) -> Self {
        let (sagas, effects) = (database::fresh().await, database::fresh().await);
        let told = Told {
            url: database::database().await.to_url_lossy().to_string(),
            sagas: sagas.schema.clone(),
            effects: effects.schema.clone(),
            prefix: broker::prefix("processes"),
        };
        effects
            .execute(
                "alter table {schema}.effect add at timestamptz not null default clock_timestamp();
                 create table {schema}.call (
                     key text not null,
                     attempt bigint not null,
                     process bigint not null,
                     at timestamptz not null default clock_timestamp()
                 );
                 create table {schema}.placed (
                     \"order\" text not null,
                     at timestamptz not null default clock_timestamp()
                 );
                 create table {schema}.mended (\"order\" text not null)",
            )
            .await;
        broker::transport().await;
        let brokers = env::var("KAFKA_BROKERS").expect("there is a broker");
        let config = KafkaConfig::new(brokers).partitions(partitions);
        let transport = KafkaTransport::new(config).expect("the configuration is valid");
        let transport = Private::new(transport, &told.prefix);
        let topics = [STOCK.commands(), STOCK.events(), OrderPlaced::SOURCE.events()];
        transport.ensure_topics(&topics).await.expect("topics");
        let publisher = transport.publisher().await.expect("a publisher");
        Self { told, sagas, effects, publisher }
    }

    /// Starts some processes, and waits until each has its share.
    pub(crate) async fn start(&self, count: usize) -> Vec<Process> {
        let processes = (0..count).map(|_| Process::start(&self.told)).collect();
        self.has_members(count).await;
        processes
    }

    /// Starts one more beside some others.
    pub(crate) async fn start_beside(&self, others: usize) -> Process {
        let process = Process::start(&self.told);
        self.has_members(others + 1).await;
        process
    }

    /// Starts those that have died again, and returns how many that were.
    pub(crate) fn revive(&self, processes: &mut [Process]) -> usize {
        let mut deaths = 0;
        for process in processes.iter_mut().filter_map(|it| it.is_dead().then_some(it)) {
            *process = Process::start(&self.told);
            deaths += 1;
        }
        deaths
    }

    async fn has_members(&self, count: usize) {
        until("the groups have settled", async || self.members().await == [count; 2]).await;
    }

    /// Returns how many members the engines' and the participants' groups have; none while they settle.
    pub(crate) async fn members(&self) -> [usize; 2] {
        let groups = [SHOP, STOCK].map(|group| format!("{}.{group}", self.told.prefix));
        let ask = || groups.map(|group| members(&group));
        tokio::task::spawn_blocking(ask).await.expect("the broker answers")
    }

    /// Places orders, each under a key of its own.
    pub(crate) async fn place(&self, orders: &[String], trouble: &str) {
        let note = "insert into {schema}.placed (\"order\") select unnest($1)";
        let note = sqlx::query(self.effects.sql(note)).bind(orders);
        note.execute(&self.effects.pool).await.expect("noted");
        self.publish(orders.iter().map(|order| placed(order, order, trouble)).collect()).await;
    }

    pub(crate) async fn publish(&self, records: Vec<Record>) {
        self.publisher.publish(records).await.expect("acknowledged");
    }

    /// Publishes bytes that are no message.
    pub(crate) async fn publish_broken(&self, topic: Topic, key: &'static str) {
        let (key, value) = (key.into(), b"\xffno message"[..].into());
        let broken = Record { topic, partition: None, key, value, headers: Vec::new() };
        self.publish(vec![broken]).await;
    }

    /// Places slow orders until something is so.
    pub(crate) async fn place_until(
        &self,
        placed: &mut Vec<String>,
        what: &str,
        is_so: impl AsyncFn() -> bool,
    ) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            let order = format!("o-{}", placed.len());
            self.place(std::slice::from_ref(&order), SLOW).await;
            placed.push(order);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Lets the troubled command of an order succeed from now on.
    pub(crate) async fn mend(&self, order: &str) {
        let mend = self.effects.sql("insert into {schema}.mended values ($1)");
        sqlx::query(mend).bind(order).execute(&self.effects.pool).await.expect("mended");
    }

    /// Reads one value from the participants' tables.
    pub(crate) async fn read<T>(&self, query: &str, about: impl Parameter) -> T
    where
        T: Send + Unpin + Type<Postgres> + for<'r> Decode<'r, Postgres>,
    {
        let query = sqlx::query_scalar(self.effects.sql(query)).bind(about);
        query.fetch_one(&self.effects.pool).await.expect("a value")
    }

    /// Reads one number of rows from the participants' tables.
    pub(crate) async fn count(&self, query: &str, about: impl Parameter) -> usize {
        self.read::<i64>(query, about).await.try_into().expect("not negative")
    }

    pub(crate) async fn list(&self, status: Status) -> Vec<ListedSaga> {
        let filter = SagaFilter::all().status(status);
        self.sagas.store.list(&filter, None, 1_000_000).await.expect("listed")
    }

    /// Waits until so many sagas have this end.
    pub(crate) async fn have_ended(&self, count: usize, end: Status) {
        let what = format!("{count} sagas are {end:?}");
        until(&what, async || self.list(end).await.len() >= count).await;
    }

    /// Returns the histories of all sagas with an end, by their orders.
    pub(crate) async fn histories(&self, end: Status) -> BTreeMap<String, Vec<HistoryEntry>> {
        // It knows no saga and is there to read.
        let reader = Engine::builder(SHOP, self.sagas.store.clone()).start().expect("a reader");
        let mut histories = BTreeMap::new();
        for ListedSaga { saga, key, .. } in self.list(end).await {
            let history = reader.history(saga).await.expect("a history");
            let order = key.expect("each has one").as_str().to_owned();
            assert!(histories.insert(order, history).is_none(), "one saga of a key (I3)");
        }
        reader.shutdown().await.expect("an orderly end");
        histories
    }

    /// No command of these orders failed, as far as their sagas know.
    pub(crate) async fn used_up_no_attempt(&self, orders: &[String]) {
        let histories = self.histories(Status::Completed).await;
        let failed = |entry: &HistoryEntry| {
            matches!(entry.kind, HistoryKind::AttemptFailed | HistoryKind::TimedOut)
        };
        for history in orders.iter().map(|order| &histories[order]) {
            assert!(!history.iter().any(failed), "no attempt: {history:#?}");
        }
    }

    /// Whatever happened to these orders' processes: each is complete, and done once.
    pub(crate) async fn audit(&self, orders: &[String]) {
        let histories = self.histories(Status::Completed).await;
        assert_eq!(histories.len(), orders.len(), "all that were placed, and no other");
        for history in histories.values() {
            one_end(history);
        }
        for saga in self.list(Status::Completed).await {
            let snapshot = self.sagas.store.load(&[saga.saga]).await.expect("load").pop();
            let version = snapshot.expect("it was listed").version;
            let history = self.sagas.store.history(saga.saga).await.expect("history");
            let versions: Vec<_> = history.iter().map(|record| record.version.0).collect();
            // A commit that only says when to look again has no history.
            let is_one_line =
                versions.is_sorted_by(|a, b| a < b) && versions.last() <= Some(&version.0);
            assert!(is_one_line, "no fork (I10): {versions:?} up to {version:?}");
        }
        let mut effects = self.effects.effects().await;
        effects.sort();
        let of = |order| [format!("{order} Reserve"), format!("{order} Ship")];
        let mut expected: Vec<_> = orders.iter().flat_map(of).collect();
        expected.sort();
        assert_eq!(effects, expected, "each effect once (I4)");
        for store in [&self.sagas, &self.effects] {
            let letters = store.dead_letters().await;
            assert!(letters.is_empty(), "nothing is set aside: {letters:?}");
        }
    }
}

/// What a query is about.
pub(crate) trait Parameter: Send + Type<Postgres> + for<'q> Encode<'q, Postgres> {}

impl<T: Send + Type<Postgres> + for<'q> Encode<'q, Postgres>> Parameter for T {}

/// Returns the record of an order that is placed under a key.
pub(crate) fn placed(key: &str, order: &str, trouble: &str) -> Record {
    let (order, trouble) = (order.to_owned(), trouble.to_owned());
    Record::fact(&OrderPlaced(Order { order, trouble }), key).expect("encodable")
}

/// A saga has one end, the last that happens to it, and each of its steps one outcome.
fn one_end(history: &[HistoryEntry]) {
    let is_end = |kind| {
        matches!(kind, HistoryKind::Completed | HistoryKind::SagaCompensated | HistoryKind::Parked)
    };
    let ends = history.iter().filter(|entry| is_end(entry.kind)).count();
    let last = history.last().map(|entry| entry.kind);
    assert_eq!((ends, last), (1, Some(HistoryKind::Completed)), "one end (I1): {history:#?}");
    let mut settled = HashSet::new();
    for entry in history {
        if matches!(entry.kind, HistoryKind::Succeeded | HistoryKind::Rejected) {
            assert!(settled.insert(&entry.step), "one outcome (I2): {history:#?}");
        }
    }
}

fn members(group: &str) -> usize {
    let brokers = env::var("KAFKA_BROKERS").expect("there is a broker");
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let list = match client.fetch_group_list(Some(group), Duration::from_secs(10)) {
        Ok(list) => list,
        // A broker that has just made the topic of the groups has no coordinator for a moment.
        Err(error) => {
            println!("the members of {group} are not known yet: {error}");
            return 0;
        }
    };
    let settled = list.groups().iter().filter(|it| it.state() == "Stable");
    settled.map(|it| it.members().len()).sum()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
