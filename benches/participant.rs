//! A participant's batch on PostgreSQL: commands in, an effect of each, replies out; by either sort of handler.

use benches::{Database, Do, Done, SHOP, command, runtime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use saga_core::transport::{MemoryPublisher, MemorySubscriber, Received, Record, Subscription};
use saga_core::{
    Command as _, Context, Handle, HandleAll, HandlerError, HandlerResult, MemoryTransport,
    MessageId, Participant, ParticipantName, Publisher as _, Reply, RunningParticipant, SagaId,
    Subscriber as _, Transport as _,
};
use saga_postgres::{PostgresStore, SchemaName};
use sqlx::PgConnection;
use tokio::runtime::Runtime;

const SCHEMA: SchemaName = SchemaName::new("bench_participant");
const EFFECTS: &str = "create table bench_participant.effect (number bigint primary key)";
const INSERT: &str = "insert into bench_participant.effect (number) values ($1)";
const INSERT_ALL: &str =
    "insert into bench_participant.effect (number) select unnest($1::bigint[])";

/// Leaves one row for each command.
struct Effects;

impl Handle<Do, PgConnection> for Effects {
    async fn handle(&self, command: Do, cx: &mut Context<'_, PgConnection>) -> HandlerResult<Done> {
        let insert = sqlx::query(INSERT).bind(command.order.cast_signed());
        insert.execute(cx.connection()).await?;
        Ok(Reply::succeeded(Done {}))
    }
}

impl HandleAll<Do, PgConnection> for Effects {
    async fn handle_all(
        &self,
        commands: Vec<Do>,
        cx: &mut Context<'_, PgConnection>,
    ) -> Result<Vec<Reply<Done>>, HandlerError> {
        let numbers: Vec<_> = commands.iter().map(|command| command.order.cast_signed()).collect();
        sqlx::query(INSERT_ALL).bind(numbers).execute(cx.connection()).await?;
        Ok(commands.iter().map(|_| Reply::succeeded(Done {})).collect())
    }
}

fn each() -> Participant<PgConnection> {
    let built = Participant::builder(SHOP).handle::<Do>(Effects).build();
    built.expect("it has one handler for its command")
}

fn all() -> Participant<PgConnection> {
    let built = Participant::builder(SHOP).handle_all::<Do>(Effects).build();
    built.expect("it has one handler for its command")
}

/// The side that asks: what stands in for an engine.
struct Asker {
    publisher: MemoryPublisher,
    replies: MemorySubscriber,
    participant: RunningParticipant,
}

impl Asker {
    async fn start(
        participant: Participant<PgConnection>,
        store: PostgresStore,
    ) -> anyhow::Result<Self> {
        let transport = MemoryTransport::new().partitions(1);
        transport.ensure_topics(&[SHOP.commands(), SHOP.events()]).await?;
        let group = ParticipantName::new("bench");
        let subscription = Subscription { group, topics: vec![SHOP.events()] };
        Ok(Self {
            publisher: transport.publisher().await?,
            replies: transport.subscriber(subscription).await?,
            participant: participant.start(store, transport),
        })
    }

    /// Sends commands and waits until each is answered.
    async fn ask(&mut self, commands: Vec<Record>) -> anyhow::Result<()> {
        let mut unanswered = commands.len();
        self.publisher.publish(commands).await?;
        while unanswered > 0 {
            let received = self.replies.receive(unanswered).await?;
            if let Received::Deliveries(replies) = received {
                unanswered -= replies.len();
            }
        }
        Ok(())
    }
}

/// Makes commands of a saga each, numbered on.
fn commands(size: u64, number: &mut u64) -> Vec<Record> {
    let numbers = *number..*number + size;
    *number = numbers.end;
    let record = |number| {
        let saga = SagaId::now();
        Record {
            topic: Do::PARTICIPANT.commands(),
            partition: Some(0),
            key: saga.to_string().into(),
            value: command(MessageId::now(), saga, number).encode(),
            headers: Vec::new(),
        }
    };
    numbers.map(record).collect()
}

async fn asker(
    database: &Database,
    participant: Participant<PgConnection>,
) -> anyhow::Result<Asker> {
    let store = database.fresh(&SCHEMA).await?;
    sqlx::query(EFFECTS).execute(&mut database.connect().await?).await?;
    Asker::start(participant, store).await
}

fn batches(
    c: &mut Criterion,
    (name, participant): (&str, fn() -> Participant<PgConnection>),
    database: &Database,
    runtime: &Runtime,
) {
    let mut group = c.benchmark_group(format!("participant/{name}"));
    for size in [1, 64, 512] {
        let mut asker = runtime.block_on(asker(database, participant())).expect("it starts");
        let mut number = 0;
        group.throughput(Throughput::Elements(size));
        group.bench_function(size.to_string(), |b| {
            b.iter_batched(
                || commands(size, &mut number),
                |commands| runtime.block_on(asker.ask(commands)).expect("each is answered"),
                BatchSize::SmallInput,
            );
        });
        runtime.block_on(asker.participant.shutdown()).expect("nothing made it stop");
    }
    group.finish();
}

fn participant(c: &mut Criterion) {
    let Some(database) = Database::find() else { return };
    let runtime = runtime();
    for handlers in [("each", each as fn() -> _), ("all", all)] {
        batches(c, handlers, &database, &runtime);
    }
    runtime.block_on(database.remove(&SCHEMA)).expect("the schema can be dropped");
}

criterion_group!(benches, participant);
criterion_main!(benches);
