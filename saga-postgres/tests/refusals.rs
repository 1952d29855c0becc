//! What the server or the tables refuse, and what becomes of the rest.

mod support;

use std::time::Duration;

use bytes::Bytes;
use saga_core::store::{Commit, StoreError, Tick, Version};
use saga_core::{
    Command, Context, Engine, Handle, HandlerResult, IdempotencyKey, Json, MemoryStore,
    MemoryTransport, Message, MessageType, Participant, ParticipantName, Reply, Saga, SagaData,
    SagaId, SagaName, SagaStore, Status, Step, StepName,
};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::Fixture;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use tokio::net::TcpListener;
use tokio::time::timeout;

use support::{Fresh, database, dead_letter, fresh, next, row, start, tick};

const SECRET: &str = "s3cr3t-marker";

async fn with_settings(fresh: &Fresh, settings: &[(&str, &str)]) -> PostgresStore {
    let options = database().await.options(settings.iter().copied());
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await;
    let schema = SchemaName::parse(&fresh.schema).expect("a name");
    PostgresStore::new(pool.expect("connect")).schema(schema)
}

/// F30, I12.
#[tokio::test]
async fn data_that_no_column_can_hold_is_refused_and_its_neighbours_are_not() {
    let fresh = fresh().await;
    let (good, bad) = (SagaId::now(), SagaId::now());
    let mut far_from_home = start(bad);
    far_from_home.new.as_mut().expect("a start").home = u32::MAX;
    let both = fresh.store.commit(tick([start(good), far_from_home])).await;
    let Err(StoreError::Refused { source, .. }) = both else { panic!("got {both:?}") };
    assert_eq!(source.to_string(), "home partition 4294967295 is out of range");
    assert_eq!(fresh.count("saga").await, 0, "nothing of the tick may be written");
    fresh.store.commit(tick([start(good)])).await.expect("the good one alone");
}

#[tokio::test]
async fn a_start_and_a_step_are_not_mixed_up() {
    let fresh = fresh().await;
    let saga = SagaId::now();
    for wrong in [
        Commit { new: None, ..start(saga) },
        Commit { expected: Version(1), ..start(saga) },
        Commit { new: start(saga).new, ..next(saga, 1) },
    ] {
        let refused = fresh.store.commit(tick([wrong])).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "got {refused:?}");
    }
}

/// F30, I11.
///
/// What a person will read may say anything; failing on it would block the partition for ever.
#[tokio::test]
async fn a_message_with_anything_in_it_can_be_set_aside() {
    let fresh = fresh().await;
    let mut letter = dead_letter(1);
    letter.detail = "before\0after".to_owned();
    letter.reason = "nul\0".to_owned();
    letter.headers = vec![("na\0me".to_owned(), Bytes::from_static(b"\0\xff"))];
    let plain = dead_letter(2);
    let dead_letters = vec![letter.clone(), plain.clone()];
    fresh.store.commit(Tick { dead_letters, ..Tick::default() }).await.expect("commit");
    letter.detail = "before\u{fffd}after".to_owned();
    letter.reason = "nul\u{fffd}".to_owned();
    let mut kept = fresh.dead_letters().await;
    kept.sort_by_key(|letter| letter.offset);
    assert_eq!(kept, [letter, plain]);
}

#[tokio::test]
async fn a_broken_row_names_its_saga() {
    let fresh = fresh().await;
    let (good, bad) = (SagaId::now(), SagaId::now());
    fresh.store.commit(tick([start(good), start(bad)])).await.expect("start");
    let broken = format!("update {{schema}}.saga set status = 9 where id = '{bad}'");
    fresh.execute(&broken).await;
    let loaded = fresh.store.load(&[bad]).await;
    let Err(StoreError::Corrupt { saga, source }) = loaded else { panic!("got {loaded:?}") };
    assert_eq!((saga, source.to_string().as_str()), (bad, "9 is no status"));
    assert_eq!(fresh.store.load(&[good]).await.expect("load").len(), 1);
}

/// F43, F47.
#[tokio::test]
async fn a_standby_and_a_timeout_pass_by_themselves() {
    let fresh = fresh().await;
    let saga = SagaId::now();
    fresh.store.commit(tick([start(saga)])).await.expect("start");

    // 25006: what a server says that was demoted.
    let standby = with_settings(&fresh, &[("default_transaction_read_only", "on")]).await;
    let read_only = standby.commit(tick([next(saga, 1)])).await;
    assert!(matches!(read_only, Err(StoreError::Unavailable { .. })), "got {read_only:?}");
    assert_eq!(standby.load(&[saga]).await.expect("load").len(), 1, "reading works");

    // 55P03 and 57014.
    let mut blocker = fresh.pool.begin().await.expect("begin");
    let lock = fresh.sql("select 1 from {schema}.saga for update");
    sqlx::query(lock).execute(&mut *blocker).await.expect("lock");
    for setting in ["lock_timeout", "statement_timeout"] {
        let store = with_settings(&fresh, &[(setting, "50ms")]).await;
        let late = store.commit(tick([next(saga, 1)])).await;
        assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{setting}: {late:?}");
    }
    blocker.rollback().await.expect("rollback");
    fresh.store.commit(tick([next(saga, 1)])).await.expect("nothing was written before");
}

/// S06.
#[tokio::test]
async fn no_error_holds_the_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    // A server that hangs up.
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let server = database().await;
    let (host, port) = (server.get_host(), server.get_port());
    for url in [
        format!("postgres://anna:{SECRET}@{address}/d?sslmode=disable"),
        format!("postgres://no-such-role:{SECRET}@{host}:{port}/no-such-database"),
    ] {
        let error = PostgresStore::connect(&url).await.expect_err("no such place");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(SECRET), "{text}");
            cause = error.source();
        }
    }
    let through = server.password(SECRET).to_url_lossy();
    let store = PostgresStore::connect(through.as_str()).await.expect("connect");
    assert!(!format!("{store:?}").contains(SECRET), "{store:?}");
}

/// An empty tick is no reason to ask the server; a row that is gone already is no error.
#[tokio::test]
async fn nothing_to_do_is_done() {
    let fresh = fresh().await;
    fresh.store.commit(Tick::default()).await.expect("an empty tick");
    let sent = vec![row("never appended").id];
    fresh.store.commit(Tick { sent, ..Tick::default() }).await.expect("a row that is gone");
    assert!(fresh.store.load(&[]).await.expect("load").is_empty());
    assert!(fresh.store.find(&[]).await.expect("find").is_empty());
}

const SHOP: ParticipantName = ParticipantName::new("shop");
const STOCK: ParticipantName = ParticipantName::new("stock");

/// The data of a saga of one step, and that step's command: a key to be written.
#[derive(Serialize, Deserialize)]
struct Write(String);

#[derive(Serialize, Deserialize)]
struct Written;

impl SagaData for Write {
    const SAGA: SagaName = SagaName::new("write");
    type Codec = Json;
}

impl Message for Write {
    const TYPE: MessageType = MessageType::new("Write");
    type Codec = Json;
}

impl Message for Written {
    const TYPE: MessageType = MessageType::new("Written");
    type Codec = Json;
}

impl Command for Write {
    type Reply = Written;
    const PARTICIPANT: ParticipantName = STOCK;
}

struct WriteKey;

impl Step<Write> for WriteKey {
    const NAME: StepName = StepName::new("write");
    type Command = Write;

    fn command(&self, data: &Write) -> Write {
        Write(data.0.clone())
    }
}

/// Writes the key into the table of effects, by this statement.
struct Table(String);

impl Handle<Write, PgConnection> for Table {
    async fn handle(
        &self,
        Write(key): Write,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Written> {
        let insert = sqlx::query(AssertSqlSafe(self.0.clone())).bind(key);
        insert.execute(cx.connection()).await?;
        Ok(Reply::succeeded(Written))
    }
}

/// A stock whose table has a trigger that raises P0001 over the key `bad`, when the transaction commits.
async fn stock_with_a_trigger(fresh: &Fresh) -> Participant<PgConnection> {
    fresh
        .execute(
            "create function {schema}.check_key() returns trigger language plpgsql as $$ begin
                 if new.key = 'bad' then raise exception 'not this key'; end if;
                 return null;
             end $$;
             create constraint trigger check_key after insert on {schema}.effect
                 deferrable initially deferred for each row execute function {schema}.check_key()",
        )
        .await;
    let insert = format!("insert into {}.effect (key) values ($1)", fresh.schema);
    Participant::builder(STOCK).handle::<Write>(Table(insert)).build().expect("sound")
}

fn write_saga() -> Saga<Write> {
    Saga::<Write>::builder().then(WriteKey).build().expect("sound")
}

/// Starts the sagas `bad` and `good` together; returns how they end.
async fn bad_and_good(engine: &Engine) -> [Status; 2] {
    let write = |key: &'static str| async move {
        let id = IdempotencyKey::new(key).expect("a short key");
        let started = engine.start(id, Write(key.to_owned())).await.expect("accepted");
        let end = timeout(Duration::from_secs(10), started.outcome()).await;
        end.unwrap_or_else(|_| panic!("{key} does not end")).expect("the engine works")
    };
    let (bad, good) = tokio::join!(write("bad"), write("good"));
    [bad, good]
}

/// I12.
#[tokio::test]
async fn what_a_deferred_trigger_raises_parks_the_saga_of_a_participant_and_no_other() {
    let fresh = fresh().await;
    let transport = MemoryTransport::new();
    let stock = stock_with_a_trigger(&fresh).await;
    let stock = stock.start(fresh.store.clone(), transport.clone());
    let engine = Engine::builder(SHOP, MemoryStore::new()).saga(write_saga()).transport(transport);
    let engine = engine.start().expect("the parts fit");
    assert_eq!(bad_and_good(&engine).await, [Status::Parked, Status::Completed]);
    assert_eq!(fresh.effects().await, ["good"], "only what commits has an effect");
    engine.shutdown().await.expect("an orderly end");
    stock.shutdown().await.expect("an orderly end");
}

/// I12.
#[tokio::test]
async fn what_a_deferred_trigger_raises_parks_the_saga_of_a_local_step_and_no_other() {
    let fresh = fresh().await;
    let stock = stock_with_a_trigger(&fresh).await;
    let engine = Engine::builder(SHOP, fresh.store.clone()).saga(write_saga()).local(stock);
    let engine = engine.start().expect("the parts fit");
    assert_eq!(bad_and_good(&engine).await, [Status::Parked, Status::Completed]);
    assert_eq!(fresh.effects().await, ["good"], "only what commits has an effect");
    engine.shutdown().await.expect("an orderly end");
}
