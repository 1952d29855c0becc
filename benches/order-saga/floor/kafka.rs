//! The raw loop: consume, one SQL statement, one commit, produce; one loop for each of four roles.
//!
//! The orders of a batch share a partition on their whole way. Offsets are committed once the
//! broker has what was produced from them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use benches::topics;
use futures_util::FutureExt as _;
use prost::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::local::PLANS;
use super::path::{Step, path};
use crate::arguments::Arguments;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, METER};
use crate::effects::{EffectTable, SCHEMA};
use crate::orders::Order;
use crate::place::Place;

/// What the names of topics and groups begin with.
const PREFIX: &str = "order-saga-";
/// Commands of inventory, payments and orders.
const COMMANDS: [&str; 3] =
    ["order-saga-inventory.commands", "order-saga-payments.commands", "order-saga-orders.commands"];
const REPLIES: &str = "order-saga-replies";
const PARTITIONS: i32 = 8;
const BATCH_MAX: usize = 512;
const PATIENCE: Duration = Duration::from_secs(30);

/// A command, or the reply to it, with what an envelope of the library has.
#[derive(Clone, PartialEq, prost::Message)]
struct Letter {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    source: String,
    #[prost(string, tag = "4")]
    correlation_id: String,
    #[prost(string, tag = "5")]
    causation_id: String,
    #[prost(bytes = "vec", tag = "6")]
    order: Vec<u8>,
    #[prost(uint64, tag = "7")]
    amount_cents: u64,
    /// Which step of the order's path.
    #[prost(uint32, tag = "8")]
    step: u32,
}

impl Letter {
    fn order(&self) -> Order {
        let id = Uuid::from_slice(&self.order).unwrap_or_default();
        Order { id, amount_cents: self.amount_cents }
    }
}

/// The four loops.
pub(crate) struct Kafka {
    requests: mpsc::UnboundedSender<New>,
    stop: CancellationToken,
    loops: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// An order that is to start.
struct New {
    order: Order,
    ended: oneshot::Sender<bool>,
}

impl Kafka {
    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let brokers = arguments.brokers()?;
        topics::remove(brokers, PREFIX).await?;
        create_topics(brokers).await?;
        let stop = CancellationToken::new();
        let mut loops = Vec::new();
        for (url, topic) in place.participants.iter().zip(COMMANDS) {
            let link = Link::new(brokers, topic)?;
            let pool =
                pool(url, "create table inbox (command_id uuid primary key, reply bytea not null)");
            let statement = participant_statement(&place.effects);
            let participant = participate(link, pool.await?, statement, stop.clone());
            loops.push(tokio::spawn(stop_all(topic, participant, stop.clone())));
        }
        let create = format!(
            "create schema if not exists {SCHEMA}; create table {SCHEMA}.floor \
             (id uuid primary key, moves smallint not null, input bytea not null) with (fillfactor = 50)"
        );
        let pool = pool(&place.orchestrator, &create).await?;
        let link = Link::new(brokers, REPLIES)?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let orchestrator = orchestrate(link, pool, receiver, stop.clone());
        loops.push(tokio::spawn(stop_all(REPLIES, orchestrator, stop.clone())));
        Ok(Self { requests, stop, loops })
    }
}

impl Shop for Kafka {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        let (ended, end) = oneshot::channel();
        let stopped = || anyhow!("the raw loop stopped");
        self.requests.send(New { order, ended }).map_err(|_| stopped())?;
        end.await.map_err(|_| stopped())
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        self.stop.cancel();
        for one in self.loops {
            one.await.context("a raw loop panicked")??;
        }
        Ok(())
    }
}

/// Runs a loop; when it ends, the others do too, and no order waits for it.
async fn stop_all(
    topic: &str,
    work: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let ended = work.await.with_context(|| format!("the raw loop of {topic} failed"));
    if let Err(error) = &ended {
        eprintln!("{error:#}");
    }
    stop.cancel();
    ended
}

async fn pool(url: &str, create: &str) -> anyhow::Result<PgPool> {
    let mut admin = METER.connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(create.to_owned())).execute(&mut admin).await?;
    let pool = BACKENDS.pool(url, 1).await?;
    sqlx::raw_sql(PLANS).execute(&pool).await?;
    Ok(pool)
}

async fn create_topics(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let names = COMMANDS.into_iter().chain([REPLIES]);
    let new = |name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let topics: Vec<_> = names.map(new).collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for created in admin.create_topics(&topics, &options).await? {
        created.map_err(|(topic, error)| anyhow!("topic {topic} cannot be created: {error}"))?;
    }
    Ok(())
}

/// A participant: carries out commands and answers them.
async fn participate(
    mut link: Link,
    pool: PgPool,
    statement: SqlStr,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let commands = tokio::select! {
            commands = link.receive() => commands?,
            () = stop.cancelled() => break,
        };
        let (mut done, mut steps, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ids, mut replies, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, command) in commands {
            let order = command.order();
            let Step { name, kind, is_declined, .. } = &path(&order)[command.step as usize];
            if !is_declined {
                done.push(order.id);
                steps.push(*name);
                kinds.push(*kind);
            }
            ids.push(Uuid::parse_str(&command.id)?);
            let reply = letter(&order, command.step, "Carried", &command.id);
            replies.push(reply.encode_to_vec());
            answers.push((partition, order.id));
        }
        let query = sqlx::query(statement.clone()).bind(done).bind(steps).bind(kinds);
        query.bind(ids).bind(&replies).execute(&pool).await?;
        for ((partition, order), reply) in answers.into_iter().zip(replies) {
            link.send(REPLIES, partition, order, &reply)?;
        }
        link.batch_is_done()?;
    }
    pool.close().await;
    link.close()
}

/// The orchestrator: moves orders on and sends the commands of their next steps.
async fn orchestrate(
    mut link: Link,
    pool: PgPool,
    mut requests: mpsc::UnboundedReceiver<New>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let statement = orchestrator_statement();
    let mut waiting: HashMap<Uuid, oneshot::Sender<bool>> = HashMap::new();
    let mut home = 0;
    loop {
        let mut news = Vec::new();
        let mut replies = tokio::select! {
            replies = link.receive() => replies?,
            Some(new) = requests.recv() => { news.push(new); Vec::new() }
            () = stop.cancelled() => break,
        };
        if replies.is_empty()
            && let Some(more) = link.receive().now_or_never()
        {
            replies = more?;
        }
        while news.len() < BATCH_MAX
            && let Ok(new) = requests.try_recv()
        {
            news.push(new);
        }
        home = (home + 1) % PARTITIONS;
        let (mut new, mut inputs, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let (mut commands, mut ended) = (Vec::new(), Vec::new());
        for New { order, ended } in news {
            new.push(order.id);
            inputs.push(&[b'x'; 256][..]);
            waiting.insert(order.id, ended);
            commands.push((home, order, 0));
        }
        for (partition, reply) in replies {
            let order = reply.order();
            moved.push(order.id);
            let next = reply.step + 1;
            if (next as usize) < path(&order).len() {
                commands.push((partition, order, next));
            } else {
                ended.push(order);
            }
        }
        sqlx::query(statement).bind(new).bind(inputs).bind(moved).execute(&pool).await?;
        for (partition, order, step) in commands {
            let id = Uuid::now_v7().to_string();
            let command = letter(&order, step, "Command", &id).encode_to_vec();
            let participant = path(&order)[step as usize].participant;
            link.send(COMMANDS[participant], partition, order.id, &command)?;
        }
        link.batch_is_done()?;
        for order in ended {
            if let Some(ended) = waiting.remove(&order.id) {
                let _ = ended.send(!order.is_declined());
            }
        }
    }
    pool.close().await;
    link.close()
}

fn letter(order: &Order, step: u32, kind: &str, id: &str) -> Letter {
    Letter {
        id: id.to_owned(),
        kind: kind.to_owned(),
        source: PREFIX.to_owned(),
        correlation_id: order.id.to_string(),
        causation_id: id.to_owned(),
        order: order.id.as_bytes().to_vec(),
        amount_cents: order.amount_cents,
        step,
    }
}

fn participant_statement(table: &EffectTable) -> SqlStr {
    let text = format!(
        "with done as (insert into {table} (saga_id, step, kind) \
             select * from unnest($1::uuid[], $2::text[], $3::text[])) \
         insert into inbox (command_id, reply) select * from unnest($4::uuid[], $5::bytea[])"
    );
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

const fn orchestrator_statement() -> &'static str {
    "with new as (insert into order_saga.floor (id, moves, input) \
         select id, 0, input from unnest($1::uuid[], $2::bytea[]) as u (id, input)) \
     update order_saga.floor f set moves = f.moves + 1 from unnest($3::uuid[]) as u (id) where f.id = u.id"
}

/// A consumer of one topic, and a producer.
struct Link {
    consumer: StreamConsumer,
    producer: ThreadedProducer<Counting>,
    acknowledged: Arc<AtomicU64>,
    sent: u64,
    topic: &'static str,
    /// The next offsets of the batch in hand.
    batch: HashMap<i32, i64>,
    /// Offsets that may be committed once so many records are acknowledged.
    to_commit: VecDeque<(u64, HashMap<i32, i64>)>,
}

/// Counts what the broker has acknowledged.
struct Counting(Arc<AtomicU64>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Link {
    fn new(brokers: &str, topic: &'static str) -> anyhow::Result<Self> {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "0")
            .create_with_context(Counting(Arc::clone(&acknowledged)))?;
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", topic)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "1")
            .create()?;
        consumer.subscribe(&[topic])?;
        let (batch, to_commit) = (HashMap::new(), VecDeque::new());
        Ok(Self { consumer, producer, acknowledged, sent: 0, topic, batch, to_commit })
    }

    /// Waits for a letter, then takes all that are there.
    async fn receive(&mut self) -> anyhow::Result<Vec<(i32, Letter)>> {
        let mut letters = Vec::new();
        while letters.len() < BATCH_MAX {
            let received = match letters.is_empty() {
                true => self.consumer.recv().await,
                false => match self.consumer.recv().now_or_never() {
                    Some(more) => more,
                    None => break,
                },
            };
            match received {
                Ok(letter) => letters.push(letter.detach()),
                // The client may hear of a topic later than whoever has just made it.
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        letters.iter().map(|letter| self.open(letter)).collect()
    }

    fn open(&mut self, letter: &OwnedMessage) -> anyhow::Result<(i32, Letter)> {
        self.batch.insert(letter.partition(), letter.offset() + 1);
        let payload = letter.payload().context("a record without a value")?;
        Ok((letter.partition(), Letter::decode(payload)?))
    }

    fn send(
        &mut self,
        topic: &str,
        partition: i32,
        order: Uuid,
        value: &[u8],
    ) -> anyhow::Result<()> {
        let key = order.to_string();
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.sent += 1;
        Ok(())
    }

    /// Commits the offsets of batches whose records the broker has.
    fn batch_is_done(&mut self) -> anyhow::Result<()> {
        self.to_commit.push_back((self.sent, std::mem::take(&mut self.batch)));
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut offsets = HashMap::new();
        while let Some((_, done)) = self.to_commit.pop_front_if(|(upto, _)| *upto <= acknowledged) {
            offsets.extend(done);
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(self.topic, partition, Offset::Offset(offset))?;
        }
        Ok(self.consumer.commit(&list, CommitMode::Async)?)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.producer.flush(PATIENCE)?)
    }
}
