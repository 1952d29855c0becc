//! Definitions that change while their sagas are under way.

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use saga_core::machine::{HistoryKind, Operation, OperatorAction};
use saga_core::{
    Cause, Codec as _, Command, Compensate, Context, Engine, EngineBuilder, Error, Handle,
    HandlerResult, Json, MemoryStore, MemoryTransport, Message, MessageType, Participant,
    ParticipantName, RunningParticipant, Saga, SagaData, SagaId, SagaName, SagaStore, SagaView,
    Status, Step, StepName,
};
use saga_testkit::{Faults, Faulty, Moment, Operation as Call};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};

use support::{
    Authorize, AuthorizeCard, BANK, Capture, CaptureMoney, Conn, Db, Done, Effects, Order, Release,
    Reserve, ReserveStock, SHOP, ShipGoods, Shop, Void, ended, key, order, stock,
};

/// Makes a step that is `ReserveStock` but for its name or its command.
macro_rules! like_reserve_stock {
    ($step:ident, $name:literal, $command:ty) => {
        struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = $command;

            fn command(&self, order: &Order) -> $command {
                order.into()
            }
        }

        impl Compensate<Order> for $step {
            type Compensation = Release;

            fn compensation(&self, order: &Order, _cause: &Cause) -> Release {
                order.into()
            }
        }
    };
}

like_reserve_stock!(ReserveRenamed, "reserve-stock", Reserve);
like_reserve_stock!(ReserveElsewhere, "reserve", ReserveAtBank);

/// `Reserve`, but for its participant.
#[derive(Debug, Serialize, Deserialize)]
struct ReserveAtBank(Reserve);

impl Message for ReserveAtBank {
    const TYPE: MessageType = Reserve::TYPE;
    type Codec = Json;
}

impl Command for ReserveAtBank {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = BANK;
}

impl From<&Order> for ReserveAtBank {
    fn from(order: &Order) -> Self {
        Self(order.into())
    }
}

impl Handle<ReserveAtBank, Conn> for Shop {
    async fn handle(
        &self,
        command: ReserveAtBank,
        cx: &mut Context<'_, Conn>,
    ) -> HandlerResult<Done> {
        self.handle(command.0, cx).await
    }
}

/// Three steps, as they were first.
fn first() -> Saga<Order> {
    let begin = Saga::<Order>::builder();
    begin.step(ReserveStock).step(AuthorizeCard).pivot(CaptureMoney).build().expect("sound")
}

/// What may become of them. Each differs in one thing, so that each is found out on its own.
fn changed(version: u32) -> [(&'static str, Saga<Order>); 7] {
    let begin = || Saga::<Order>::builder().version(version);
    [
        (
            "added",
            begin().step(ReserveStock).step(AuthorizeCard).pivot(CaptureMoney).then(ShipGoods),
        ),
        ("removed", begin().step(ReserveStock).pivot(CaptureMoney)),
        ("renamed", begin().step(ReserveRenamed).step(AuthorizeCard).pivot(CaptureMoney)),
        ("reordered", begin().step(AuthorizeCard).step(ReserveStock).pivot(CaptureMoney)),
        ("sent elsewhere", begin().step(ReserveElsewhere).step(AuthorizeCard).pivot(CaptureMoney)),
        ("of another kind", begin().step(ReserveStock).step(AuthorizeCard).then(CaptureMoney)),
        (
            "side by side",
            begin()
                .parallel(|both| both.step(ReserveStock).step(AuthorizeCard))
                .pivot(CaptureMoney),
        ),
    ]
    .map(|(change, saga)| (change, saga.build().expect("sound")))
}

/// What an operator does once the definition is back.
fn retry() -> Operation {
    let (by, reason) = ("ada".into(), "its definition is back".into());
    Operation { by, reason, action: OperatorAction::Retry }
}

/// What outlives the programs.
struct Lasting {
    store: MemoryStore,
    effects: Db,
    transport: MemoryTransport,
}

impl Lasting {
    fn new() -> Self {
        let effects = MemoryStore::with_state(Effects::new());
        Self { store: MemoryStore::new(), effects, transport: MemoryTransport::new() }
    }

    fn engine<D: SagaData>(&self, sagas: impl IntoIterator<Item = Saga<D>>) -> Engine {
        self.engine_on(self.store.clone(), sagas)
    }

    fn engine_on<D: SagaData>(
        &self,
        store: impl SagaStore,
        sagas: impl IntoIterator<Item = Saga<D>>,
    ) -> Engine {
        let engine = Engine::builder(SHOP, store).transport(self.transport.clone());
        let engine = sagas.into_iter().fold(engine, EngineBuilder::saga);
        engine.start().expect("the parts fit")
    }

    /// An engine starts an order and ends before anybody has carried anything out.
    async fn started(&self, saga: Saga<Order>) -> SagaId {
        let engine = self.engine([saga]);
        let saga = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
        engine.shutdown().await.expect("an orderly end");
        saga
    }

    fn participants(&self) -> [RunningParticipant; 2] {
        let shop = Shop::default();
        let bank = Participant::builder(BANK)
            .handle::<Authorize>(shop.clone())
            .handle::<Void>(shop.clone())
            .handle::<Capture>(shop.clone())
            .handle::<ReserveAtBank>(shop.clone())
            .build()
            .expect("the bank's handlers are sound");
        [
            stock(&shop).start(self.effects.clone(), self.transport.clone()),
            bank.start(self.effects.clone(), self.transport.clone()),
        ]
    }
}

/// F68, I17: with both versions deployed a running saga ends on its own.
#[tokio::test]
async fn f68_a_running_saga_ends_on_the_version_that_it_started_on() {
    for (change, second) in changed(2) {
        let lasting = Lasting::new();
        let saga = lasting.started(first()).await;
        let _participants = lasting.participants();
        let engine = lasting.engine([first(), second]);
        assert_eq!(ended(&engine, saga).await, Status::Completed, "{change}");
        let effects = lasting.effects.read(Clone::clone);
        let of_version_1 = ["reserve o-1", "authorize o-1", "capture o-1"];
        assert_eq!(effects, of_version_1, "{change}");
        assert!(engine.unknown_definitions().await.expect("asked").is_empty(), "{change}");
    }
}

/// F68, I17: whoever forgot the version number, or deployed old code again, is told at the start;
/// the saga parks where it stands, nothing is done for it, and it goes on where its shape is known.
#[tokio::test]
async fn f68_a_saga_of_another_shape_or_a_later_version_parks_and_is_listed_before() {
    let forgotten = changed(1).map(|(change, saga)| (change, first(), saga, (1, 1)));
    let rolled_back = changed(2).map(|(change, saga)| (change, saga, first(), (2, 1)));
    for (change, started, deployed, listed) in forgotten.into_iter().chain(rolled_back) {
        let why = format!("{change}, version {}", listed.0);
        let fingerprint = started.definition().fingerprint();
        let again = changed(2).into_iter().find(|(it, _)| *it == change).expect("it is there").1;
        let lasting = Lasting::new();
        let saga = lasting.started(started).await;
        let engine = lasting.engine([deployed]);
        let unknown = engine.unknown_definitions().await.expect("asked");
        let [unknown] = &unknown[..] else { panic!("{why}: {unknown:?}") };
        let found = (unknown.version, unknown.sagas);
        assert_eq!((found, unknown.fingerprint), (listed, fingerprint), "{why}");

        let participants = lasting.participants();
        assert_eq!(ended(&engine, saga).await, Status::Parked, "{why}");
        let history = engine.history(saga).await.expect("a history");
        let last = history.last().expect("it parked");
        assert_eq!(last.kind, HistoryKind::Parked, "{why}");
        assert!(engine.unknown_definitions().await.expect("asked").is_empty(), "it is at rest");
        engine.shutdown().await.expect("an orderly end");

        let engine = lasting.engine([first(), again]);
        engine.operate(saga, retry()).await.expect("it can go on");
        assert_eq!(ended(&engine, saga).await, Status::Completed, "{why}");
        drop(participants);
    }
}

/// It is stored with each saga: a release that hashes a shape otherwise would park all sagas that are under way.
#[test]
fn the_fingerprint_of_a_shape_never_changes() {
    let every_kind = Saga::<Order>::builder()
        .compensation(StepName::new("withdraw"), |order, _| Void::from(order))
        .parallel(|both| both.step(ReserveStock).step(AuthorizeCard))
        .wait(StepName::new("cool-off"), |_| Duration::ZERO)
        .pivot(CaptureMoney)
        .then(ShipGoods);
    let saga = every_kind.build().expect("sound");
    assert_eq!(saga.definition().fingerprint(), 0x8c42_ae3f_4f02_7175);
}

/// Notes what the engines of this program tell as errors.
struct Errors;

static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());

/// The fields of an event.
#[derive(Debug, Clone, Default)]
struct Told(BTreeMap<&'static str, String>);

impl Told {
    fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Errors {
    /// Returns what was told of the orders of a version.
    fn of_version(version: u32) -> Vec<Told> {
        let version = version.to_string();
        let mut told = TOLD.lock().expect("nobody panics over it").clone();
        told.retain(|it| it.field("saga") == "order" && it.field("version") == version);
        told
    }
}

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        TOLD.lock().expect("nobody panics over it").push(told);
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

/// F68: what cannot go on is told once, also if the store does not answer when it is first asked.
#[tokio::test(start_paused = true)]
async fn f68_an_engine_tells_once_at_its_start_what_cannot_go_on() {
    tracing::subscriber::set_global_default(Errors).expect("nobody else listens");
    let begin = |version| Saga::<Order>::builder().version(version);
    let reshaped = begin(69).then(OnlyReserve).build().expect("sound");
    // The subscriber hears every test of this program, and no other one starts these versions.
    for (version, deployed, reason) in [
        (68, first(), "this version is not registered"),
        (69, reshaped, "this version is registered with another shape"),
    ] {
        let lasting = Lasting::new();
        let started = begin(version).step(ReserveStock).pivot(CaptureMoney).build().expect("sound");
        let fingerprint = started.definition().fingerprint().to_string();
        let engine = lasting.engine([started]);
        for name in ["o-1", "o-2"] {
            engine.start(key(name), order(name, "")).await.expect("accepted");
        }
        engine.shutdown().await.expect("an orderly end");

        let faults = Faults::new();
        // In a scan, the first call lists the sagas that are due, and the second one the definitions.
        faults.fail_at(Call::Due, 2, Moment::Before);
        let engine = lasting.engine_on(Faulty::new(lasting.store.clone(), &faults), [deployed]);
        // Some scans long, and shorter than a deadline.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(faults.calls(Call::Due) >= 6, "there were scans after the report");
        engine.shutdown().await.expect("an orderly end");
        let told = Errors::of_version(version);
        let [report] = &told[..] else { panic!("{told:?}") };
        let found = ["sagas", "fingerprint", "reason"].map(|field| report.field(field));
        assert_eq!(found, ["2", &*fingerprint, reason]);
    }
}

/// The order as it was stored once: one text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldOrder {
    text: String,
}

/// And before that.
#[derive(Debug, Serialize, Deserialize)]
struct OldestOrder(String);

/// And what nobody remembers.
#[derive(Debug, Serialize, Deserialize)]
struct ForgottenOrder(u32);

/// The step of all of them.
struct OnlyReserve;

macro_rules! stored_as {
    ($($data:ty: $order:expr),*) => {$(
        impl SagaData for $data {
            const SAGA: SagaName = Order::SAGA;
            type Codec = Json;
        }

        impl Step<$data> for OnlyReserve {
            const NAME: StepName = StepName::new("reserve");
            type Command = Reserve;

            fn command(&self, data: &$data) -> Reserve {
                Reserve { order: ($order)(data), trouble: String::new() }
            }
        }
    )*};
}

stored_as!(
    OldOrder: |data: &OldOrder| data.text.clone(),
    OldestOrder: |data: &OldestOrder| data.0.clone(),
    ForgottenOrder: |data: &ForgottenOrder| data.0.to_string()
);

impl Step<Order> for OnlyReserve {
    const NAME: StepName = <ReserveStock as Step<Order>>::NAME;
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        order.into()
    }
}

/// Starts a saga over data of an older type, and lets an engine of today's end it.
async fn carried_on<D: SagaData>(data: D) -> SagaView
where
    OnlyReserve: Step<D>,
{
    let lasting = Lasting::new();
    let old = Saga::<D>::builder().then(OnlyReserve).build().expect("sound");
    let engine = lasting.engine([old]);
    let saga = engine.start(key("o-1"), data).await.expect("accepted").saga();
    engine.shutdown().await.expect("an orderly end");

    let today = Saga::<Order>::builder()
        .then(OnlyReserve)
        .upcast(|OldestOrder(text)| order(&text, "oldest"))
        .upcast(|old: OldOrder| order(&old.text, "old"));
    let engine = lasting.engine([today.build().expect("sound")]);
    assert!(
        engine.unknown_definitions().await.expect("asked").is_empty(),
        "the steps are the same"
    );
    let _participants = lasting.participants();
    ended(&engine, saga).await;
    engine.inspect(saga).await.expect("inspected").expect("it exists")
}

/// F68, I17: the shape of the steps is the same, so the version is; the data is of another type.
#[tokio::test]
async fn f68_data_of_an_older_type_is_turned_into_todays() {
    let old = carried_on(OldOrder { text: "o-1".into() }).await;
    assert_eq!(old.status(), Status::Completed);
    let data = old.data::<Order>().expect("it is today's");
    assert_eq!((&*data.order, &*data.trouble), ("o-1", "old"));
    let oldest = carried_on(OldestOrder("o-2".into())).await;
    assert_eq!(oldest.status(), Status::Completed);
    let data = oldest.data::<Order>().expect("it is today's");
    assert_eq!((&*data.order, &*data.trouble), ("o-2", "oldest"));
}

/// F68: what no type knows parks its saga, and its data is left as it is.
#[tokio::test]
async fn f68_data_of_a_type_that_nobody_knows_parks_its_saga() {
    let view = carried_on(ForgottenOrder(3)).await;
    assert_eq!(view.status(), Status::Parked);
    assert!(view.data::<Order>().is_none());
}

/// F68: old code that is deployed again cannot read what today's has stored, and leaves it as it is.
#[tokio::test]
async fn f68_data_of_a_later_type_parks_its_saga_and_goes_on_where_it_is_known() {
    let today = || Saga::<Order>::builder().then(OnlyReserve).build().expect("sound");
    let lasting = Lasting::new();
    let saga = lasting.started(today()).await;
    let old = Saga::<OldOrder>::builder().then(OnlyReserve).build().expect("sound");
    let engine = lasting.engine([old]);
    let unknown = engine.unknown_definitions().await.expect("asked");
    assert!(unknown.is_empty(), "the steps are the same");
    let _participants = lasting.participants();
    assert_eq!(ended(&engine, saga).await, Status::Parked);
    let history = engine.history(saga).await.expect("a history");
    let last = history.last().expect("it parked");
    assert_eq!(last.kind, HistoryKind::Parked);
    assert!(last.detail.contains("data cannot be decoded"), "{}", last.detail);
    engine.shutdown().await.expect("an orderly end");
    let stored = lasting.store.load(&[saga]).await.expect("loaded");
    let data = Json::encode(&order("o-1", "")).expect("it has a JSON");
    let data = data.as_bytes();
    let is_kept = stored[0].state.windows(data.len()).any(|bytes| bytes == data);
    assert!(is_kept, "the data is as it was stored");

    let engine = lasting.engine([today()]);
    engine.operate(saga, retry()).await.expect("it can go on");
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    let view = engine.inspect(saga).await.expect("inspected").expect("it exists");
    let data = view.data::<Order>().expect("it is today's");
    assert_eq!((&*data.order, &*data.trouble), ("o-1", ""));
    assert_eq!(lasting.effects.read(Clone::clone), ["reserve o-1"], "the effect once");
}

/// F68: what has ended stays what it is, and is told so, also where nobody knows its definition any more.
#[tokio::test]
async fn f68_a_saga_that_has_ended_can_be_cancelled_or_not_without_its_definition() {
    for (trouble, expected) in [("", Status::Completed), ("capture:reject", Status::Compensated)] {
        let lasting = Lasting::new();
        let engine = lasting.engine([first()]);
        let started = engine.start(key("o-1"), order("o-1", trouble)).await.expect("accepted");
        let saga = started.saga();
        let _participants = lasting.participants();
        assert_eq!(ended(&engine, saga).await, expected);
        engine.shutdown().await.expect("an orderly end");

        let later = Saga::<Order>::builder().version(2).then(OnlyReserve).build().expect("sound");
        let engine = lasting.engine([later]);
        match engine.cancel(saga).await {
            Ok(()) => assert_eq!(expected, Status::Compensated),
            Err(Error::Refused { reason, .. }) => {
                assert_eq!((expected, reason), (Status::Completed, "it has completed"));
            }
            Err(error) => panic!("{error}"),
        }
        engine.operate(saga, retry()).await.expect_err("there is nothing to retry");
    }
}
