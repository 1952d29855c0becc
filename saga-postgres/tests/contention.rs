//! Processes whose handlers lock the same rows.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use saga_core::{
    Command, Context, Engine, Handle, HandlerResult, IdempotencyKey, Json, MemoryStore,
    MemoryTransport, Message, MessageType, Participant, ParticipantName, Reply, Saga, SagaData,
    SagaName, Status, Step, StepName,
};
use saga_postgres::{PostgresStore, SchemaName};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgConnection};

use support::Fresh;

const SHOP: ParticipantName = ParticipantName::new("shop");
const BANK: ParticipantName = ParticipantName::new("bank");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Payment {
    customer: String,
}

impl SagaData for Payment {
    const SAGA: SagaName = SagaName::new("payment");
    type Codec = Json;
}

#[derive(Debug, Serialize, Deserialize)]
struct Pay {
    customer: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Paid;

impl Message for Pay {
    const TYPE: MessageType = MessageType::new("Pay");
    type Codec = Json;
}

impl Message for Paid {
    const TYPE: MessageType = MessageType::new("Paid");
    type Codec = Json;
}

impl Command for Pay {
    type Reply = Paid;
    const PARTICIPANT: ParticipantName = BANK;
}

struct PayOnce;

impl Step<Payment> for PayOnce {
    const NAME: StepName = StepName::new("pay");
    type Command = Pay;

    fn command(&self, payment: &Payment) -> Pay {
        Pay { customer: payment.customer.clone() }
    }
}

/// Locks the customer's row and then the shop's: two that do so one after the other never deadlock.
#[derive(Clone)]
struct Bank {
    schema: String,
    deadlocks: Arc<AtomicU32>,
}

impl Bank {
    /// Counts a payment. As in many a service, what the driver said is wrapped.
    async fn count(&self, account: &str, connection: &mut PgConnection) -> anyhow::Result<()> {
        let count = format!("update {}.account set paid = paid + 1 where id = $1", self.schema);
        let counted = sqlx::query(AssertSqlSafe(count)).bind(account).execute(connection).await;
        let code = counted.as_ref().err().and_then(|error| error.as_database_error()?.code());
        if code.as_deref() == Some("40P01") {
            self.deadlocks.fetch_add(1, Ordering::SeqCst);
        }
        counted?;
        Ok(())
    }

    /// Makes a process of it, with connections of its own.
    async fn process(&self) -> (Participant<PgConnection>, PostgresStore) {
        // What comes of a deadlock is the same when it is found soon.
        let options = support::database().await.options([("deadlock_timeout", "50ms")]);
        let pool = PgPoolOptions::new().max_connections(3).connect_lazy_with(options);
        let schema = SchemaName::parse(&self.schema).expect("a name");
        let bank = Participant::builder(BANK).handle::<Pay>(self.clone()).build().expect("sound");
        (bank, PostgresStore::new(pool).schema(schema))
    }
}

impl Handle<Pay, PgConnection> for Bank {
    async fn handle(&self, pay: Pay, cx: &mut Context<'_, PgConnection>) -> HandlerResult<Paid> {
        self.count(&pay.customer, cx.connection()).await?;
        // It is not the fastest, so that transactions overlap.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.count("shop", cx.connection()).await?;
        Ok(Reply::succeeded(Paid))
    }
}

const PAYMENTS: u32 = 2_000;
const CUSTOMERS: u32 = 40;

/// A bank with the accounts of two customers, and of the shop.
async fn bank(fresh: &Fresh) -> Bank {
    fresh.execute("create table {schema}.account (id text primary key, paid int not null)").await;
    let accounts = "insert into {schema}.account values ('ann', 0), ('bob', 0), ('shop', 0)";
    fresh.execute(accounts).await;
    Bank { schema: fresh.schema.clone(), deadlocks: Arc::default() }
}

fn saga() -> Saga<Payment> {
    Saga::<Payment>::builder().pivot(PayOnce).build().expect("sound")
}

/// Makes all payments, each through the next of the engines, and looks at what came of it.
async fn pay(engines: &[Engine], fresh: &Fresh, bank: &Bank) {
    let customers = (0..CUSTOMERS).zip(engines.iter().cycle().cloned());
    let customers = customers.map(async |(customer, engine)| {
        for number in 0..PAYMENTS / CUSTOMERS {
            let key = IdempotencyKey::new(format!("{customer}-{number}")).expect("short");
            let customer = if customer % 4 < 2 { "ann" } else { "bob" }.to_owned();
            let payment = engine.start(key, Payment { customer }).await.expect("accepted");
            assert_eq!(payment.outcome().await.expect("an end"), Status::Completed);
        }
    });
    let all = join_all(customers);
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("every payment ends");
    let paid = "select array_agg(paid order by id) from {schema}.account";
    let paid: Vec<i32> =
        sqlx::query_scalar(fresh.sql(paid)).fetch_one(&fresh.pool).await.expect("the accounts");
    assert_eq!(paid, [1_000, 1_000, 2_000], "each payment once");
    let deadlocks = bank.deadlocks.load(Ordering::SeqCst);
    println!("{deadlocks} deadlocks");
    // Without a pace that learns from them there are hundreds; how many it takes is a matter of the machine.
    assert!(deadlocks <= 50, "{deadlocks} deadlocks");
}

/// F43, F76: many commands in one transaction make deadlocks of what has none; soon there is one in each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_processes_that_lock_the_same_rows_soon_deadlock_no_more() {
    let fresh = support::fresh().await;
    let bank = bank(&fresh).await;
    let transport = MemoryTransport::new();
    let engine = Engine::builder(SHOP, MemoryStore::new()).saga(saga());
    let engine = engine.transport(transport.clone()).start().expect("the parts fit");
    let mut processes = Vec::new();
    for (participant, store) in [bank.process().await, bank.process().await] {
        processes.push(participant.start(store, transport.clone()));
    }
    pay(std::slice::from_ref(&engine), &fresh, &bank).await;
    for process in processes {
        process.shutdown().await.expect("an orderly end");
    }
    engine.shutdown().await.expect("an orderly end");
}

/// F43, F76: the same where the participants are inside engines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_engines_that_lock_the_same_rows_soon_deadlock_no_more() {
    let fresh = support::fresh().await;
    let bank = bank(&fresh).await;
    let mut engines = Vec::new();
    for (participant, store) in [bank.process().await, bank.process().await] {
        let engine = Engine::builder(SHOP, store).saga(saga()).local(participant);
        engines.push(engine.start().expect("the parts fit"));
    }
    pay(&engines, &fresh, &bank).await;
    for engine in engines {
        engine.shutdown().await.expect("an orderly end");
    }
}
