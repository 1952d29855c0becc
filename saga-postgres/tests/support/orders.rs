//! Orders on PostgreSQL whose steps go as a test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saga_core::definition::BeforePivot;
use saga_core::machine::{HistoryEntry, StepState};
use saga_core::transport::{Publisher as _, Record};
use saga_core::{
    Backoff, Cause, Command, Compensate, Context, Engine, EngineBuilder, Fact, FactContext, Handle,
    HandleFact, HandlerError, HandlerResult, IdempotencyKey, Json, MemoryTransport, Message,
    MessageType, Participant, ParticipantBuilder, ParticipantName, Reply, RetryPolicy,
    RunningParticipant, Saga, SagaBuilder, SagaData, SagaId, SagaName, SagaStore, SagaView, Status,
    Step, StepName, Transport as _,
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::timeout;

use crate::support::{Fresh, fresh};

pub(crate) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(crate) const STOCK: ParticipantName = ParticipantName::new("stock");

const HOUR: Duration = Duration::from_hours(1);
const IN_TIME: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) name: String,
    pub(crate) pauses: bool,
    /// What the reply to the charge said.
    pub(crate) receipt: String,
}

/// The order as it was stored once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OldOrder(pub(crate) String);

/// What the steps need of an order, as old as it may be.
pub(crate) trait Placed: SagaData {
    fn order(&self) -> &str;

    fn pauses(&self) -> bool {
        false
    }

    fn charged(&mut self, _receipt: String) {}
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

impl SagaData for OldOrder {
    const SAGA: SagaName = Order::SAGA;
    type Codec = Json;
}

impl Placed for Order {
    fn order(&self) -> &str {
        &self.name
    }

    fn pauses(&self) -> bool {
        self.pauses
    }

    fn charged(&mut self, receipt: String) {
        self.receipt = receipt;
    }
}

impl Placed for OldOrder {
    fn order(&self) -> &str {
        &self.0
    }
}

macro_rules! messages {
    ($($name:ident { $($field:ident),* })*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name {
            $(pub(crate) $field: String,)*
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    )*};
}

messages! {
    Do { order, step }
    Undo { order, step }
    Done { receipt }
    Placement { order }
}

impl Command for Do {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = STOCK;
}

impl Command for Undo {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = STOCK;
}

impl Fact for Placement {
    const SOURCE: ParticipantName = SHOP;
}

const NAMES: [&str; 6] = ["reserve", "check", "charge", "ship", "hold", "bill"];

/// A step by the number of its name.
struct Named<const N: usize>;

const RESERVE: Named<0> = Named;
const CHECK: Named<1> = Named;
const CHARGE: Named<2> = Named;
const SHIP: Named<3> = Named;
const HOLD: Named<4> = Named;
const BILL: Named<5> = Named;

impl<const N: usize, D: Placed> Step<D> for Named<N> {
    const NAME: StepName = StepName::new(NAMES[N]);
    type Command = Do;

    fn command(&self, data: &D) -> Do {
        Do { order: data.order().to_owned(), step: NAMES[N].to_owned() }
    }

    fn on_reply(&self, data: &mut D, Done { receipt }: Done) {
        if NAMES[N] == "charge" {
            data.charged(receipt);
        }
    }
}

impl<const N: usize, D: Placed> Compensate<D> for Named<N> {
    type Compensation = Undo;

    fn compensation(&self, data: &D, _: &Cause) -> Undo {
        Undo { order: data.order().to_owned(), step: NAMES[N].to_owned() }
    }
}

/// Reserves, checks, charges, pauses for an hour if the order says so, and ships.
pub(crate) fn first<D: Placed>(begin: SagaBuilder<D, BeforePivot>) -> Saga<D> {
    let charge = RetryPolicy::attempts(3).backoff(Backoff::fixed(HOUR));
    let saga = begin.step(RESERVE).step(CHECK).pivot(CHARGE).retry(charge).deadline(HOUR);
    let saga = saga.wait(StepName::new("pause"), |_| HOUR).when(Placed::pauses);
    saga.then(SHIP).build().expect("the saga is sound")
}

/// A later version: one step has another name, one another place, and one is new.
pub(crate) fn second() -> Saga<Order> {
    let saga = Saga::<Order>::builder().version(2).step(CHECK).step(HOLD).pivot(CHARGE);
    saga.then(BILL).then(SHIP).build().expect("the saga is sound")
}

/// What goes wrong with a command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    FailsForGood,
    FailsForNow,
    IsRefused,
}

/// Writes a row for each command that goes well, in the transaction of its answer.
#[derive(Clone)]
struct Stock {
    troubles: Arc<Mutex<HashMap<String, Trouble>>>,
    insert: String,
}

impl Stock {
    async fn carry_out(&self, key: String, connection: &mut PgConnection) -> HandlerResult<Done> {
        let trouble = self.troubles.lock().expect("nobody panics").get(&key).copied();
        match trouble {
            Some(Trouble::FailsForGood) => Err(HandlerError::terminal("a bug")),
            Some(Trouble::FailsForNow) => Err("busy".into()),
            Some(Trouble::IsRefused) => Ok(Reply::rejected("sold-out")),
            None => {
                let insert = sqlx::query(AssertSqlSafe(self.insert.clone())).bind(&key);
                insert.execute(connection).await?;
                Ok(Reply::succeeded(Done { receipt: key }))
            }
        }
    }
}

impl Handle<Do, PgConnection> for Stock {
    async fn handle(
        &self,
        Do { order, step }: Do,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Done> {
        self.carry_out(format!("{order} {step}"), cx.connection()).await
    }
}

impl Handle<Undo, PgConnection> for Stock {
    async fn handle(
        &self,
        Undo { order, step }: Undo,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Done> {
        self.carry_out(format!("{order} undo {step}"), cx.connection()).await
    }
}

impl HandleFact<Placement, PgConnection> for Stock {
    async fn handle_fact(
        &self,
        Placement { order }: Placement,
        cx: &mut FactContext<'_, PgConnection>,
    ) -> Result<(), HandlerError> {
        self.carry_out(format!("{order} told"), cx.connection()).await.map(drop)
    }
}

/// What outlives engines and participants: the database, the broker, and what goes wrong.
pub(crate) struct Shop {
    pub(crate) fresh: Fresh,
    transport: MemoryTransport,
    stock: Stock,
}

impl Shop {
    pub(crate) async fn new() -> Self {
        let fresh = fresh().await;
        let insert = format!("insert into {}.effect (key) values ($1)", fresh.schema);
        let stock = Stock { troubles: Arc::default(), insert };
        Self { fresh, transport: MemoryTransport::new(), stock }
    }

    fn handlers(&self) -> ParticipantBuilder<PgConnection> {
        let stock = || self.stock.clone();
        Participant::builder(STOCK).handle::<Do>(stock()).handle::<Undo>(stock())
    }

    /// Starts the stock as a service of its own.
    pub(crate) fn stock(&self) -> RunningParticipant {
        let stock = self.handlers().handle_fact::<Placement>(self.stock.clone());
        let stock = stock.build().expect("the handlers are sound");
        stock.start(self.fresh.store.clone(), self.transport.clone())
    }

    /// Starts an engine that knows these sagas.
    pub(crate) fn engine(&self, sagas: impl IntoIterator<Item = Saga<Order>>) -> Engine {
        let engine = self.engine_on(self.fresh.store.clone());
        sagas.into_iter().fold(engine, EngineBuilder::saga).start().expect("the parts fit")
    }

    pub(crate) fn engine_on<S: SagaStore>(&self, store: S) -> EngineBuilder<S> {
        Engine::builder(SHOP, store).transport(self.transport.clone())
    }

    /// Starts the stock and an engine that talks to it, or has another one inside.
    pub(crate) fn open(&self, is_inside: bool) -> (RunningParticipant, Engine) {
        self.open_over(self.fresh.store.clone(), is_inside)
    }

    /// The same, with an engine on this store.
    pub(crate) fn open_over(
        &self,
        store: impl SagaStore<Connection = PgConnection>,
        is_inside: bool,
    ) -> (RunningParticipant, Engine) {
        let saga = first::<Order>(Saga::builder());
        let engine = if is_inside {
            let stock = self.handlers().build().expect("the handlers are sound");
            Engine::builder(SHOP, store).saga(saga).local(stock).start()
        } else {
            self.engine_on(store).saga(saga).start()
        };
        (self.stock(), engine.expect("the parts fit"))
    }

    pub(crate) fn goes_wrong(&self, order: &str, command: &str, trouble: Trouble) {
        let mut troubles = self.stock.troubles.lock().expect("nobody panics");
        troubles.insert(format!("{order} {command}"), trouble);
    }

    /// From now on everything goes well.
    pub(crate) fn mend(&self) {
        self.stock.troubles.lock().expect("nobody panics").clear();
    }

    /// Tells the stock about orders, under one key.
    pub(crate) async fn tell(&self, orders: &[&str]) {
        self.transport.ensure_topics(&[SHOP.events()]).await.expect("topics");
        let publisher = self.transport.publisher().await.expect("a publisher");
        let facts = orders.iter().map(|&order| Placement { order: order.to_owned() });
        let records = facts.map(|fact| Record::fact(&fact, "k").expect("it can be encoded"));
        publisher.publish(records.collect()).await.expect("published");
    }

    /// Returns which commands of an order took effect, sorted; one that did so twice is there twice.
    pub(crate) async fn effects(&self, order: &str) -> Vec<String> {
        let select = "select substr(key, length($1) + 2) from {schema}.effect \
                      where starts_with(key, $1 || ' ') order by 1";
        let select = sqlx::query_scalar(self.fresh.sql(select)).bind(order);
        select.fetch_all(&self.fresh.pool).await.expect("effects")
    }

    /// Returns all that is stored of a saga and its order, as one text.
    pub(crate) async fn stored(&self, saga: SagaId, order: &str) -> String {
        let select = "select s::text || (select string_agg(h::text, ' ' order by version) \
                          from {schema}.saga_history h where h.saga_id = s.id) \
                      from {schema}.saga s where s.id = $1";
        let select = sqlx::query_scalar(self.fresh.sql(select)).bind(saga.0);
        let rows: String = select.fetch_one(&self.fresh.pool).await.expect("the saga exists");
        format!("{rows} {:?}", self.effects(order).await)
    }

    /// Lets so many transactions that write the history of a saga fail when they commit, with this SQLSTATE.
    pub(crate) async fn commits_fail(&self, saga: SagaId, code: &str, times: i64) {
        let statements = format!(
            "create sequence {{schema}}.failure;
             create function {{schema}}.fail() returns trigger language plpgsql as $$ begin
                 if nextval('{{schema}}.failure') <= {times} then
                     raise exception 'not now' using errcode = '{code}';
                 end if;
                 return null;
             end $$;
             create constraint trigger fail after insert on {{schema}}.saga_history
                 deferrable initially deferred for each row when (new.saga_id = '{saga}')
                 execute function {{schema}}.fail()"
        );
        self.fresh.execute(&statements).await;
    }

    /// Lets them work again, and returns how often one was tried.
    pub(crate) async fn commits_work(&self) -> i64 {
        let tried = sqlx::query_scalar(self.fresh.sql("select last_value from {schema}.failure"));
        let tried = tried.fetch_one(&self.fresh.pool).await.expect("a number");
        let drop = "drop function {schema}.fail() cascade; drop sequence {schema}.failure";
        self.fresh.execute(drop).await;
        tried
    }
}

pub(crate) async fn close(engine: Engine, stock: RunningParticipant) {
    engine.shutdown().await.expect("an orderly end");
    stock.shutdown().await.expect("an orderly end");
}

/// Starts an order.
pub(crate) async fn start(engine: &Engine, order: &str, pauses: bool) -> SagaId {
    let key = IdempotencyKey::new(order).expect("a short key");
    let data = Order { name: order.to_owned(), pauses, receipt: String::new() };
    engine.start(key, data).await.expect("accepted").saga()
}

/// Waits until a saga does not go on within the hour: it is parked, or a timer runs that is far off.
pub(crate) async fn stands_still(engine: &Engine, saga: SagaId) {
    let waits = |state| matches!(state, StepState::Waiting | StepState::Delayed);
    until("it stands still", || async {
        let view = inspect(engine, saga).await;
        view.status() == Status::Parked || view.steps().iter().any(|step| waits(step.state))
    })
    .await;
}

pub(crate) async fn inspect(engine: &Engine, saga: SagaId) -> SagaView {
    engine.inspect(saga).await.expect("the store answers").expect("the saga exists")
}

pub(crate) async fn history(engine: &Engine, saga: SagaId) -> Vec<HistoryEntry> {
    engine.history(saga).await.expect("the store answers")
}

/// Waits for the end of a saga; one that does not end in time is printed with its history.
pub(crate) async fn ended(engine: &Engine, saga: SagaId) -> Status {
    if let Ok(status) = timeout(IN_TIME, engine.outcome(saga)).await {
        return status.expect("the engine works");
    }
    panic!("it does not end: {:#?}", history(engine, saga).await);
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let polled = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(IN_TIME, polled).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}
