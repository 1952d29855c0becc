//! Definitions that change while their sagas are under way.

mod support;

use saga_core::machine::{HistoryKind, Operation, OperatorAction};
use saga_core::{
    DefinitionError, Engine, EngineBuilder, Error, Json, MemoryStore, MemoryTransport,
    RunningParticipant, Saga, SagaData, SagaId, SagaName, SagaView, Status, Step, StepName,
};
use serde::{Deserialize, Serialize};

use support::{
    AuthorizeCard, CaptureMoney, Db, Effects, Order, Reserve, ReserveStock, SHOP, Shop, bank,
    ended, key, order, stock,
};

/// A step under another name than it had.
struct ReserveRenamed;

impl Step<Order> for ReserveRenamed {
    const NAME: StepName = StepName::new("reserve-stock");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        order.into()
    }
}

/// Two steps, as they were first.
fn first() -> Saga<Order> {
    Saga::<Order>::builder().step(ReserveStock).pivot(CaptureMoney).build().expect("sound")
}

/// What may become of them: a step added, removed, renamed, and the order changed.
fn changed(version: u32) -> [(&'static str, Saga<Order>); 4] {
    let built = |built: Result<Saga<Order>, DefinitionError>| built.expect("sound");
    let begin = || Saga::<Order>::builder().version(version);
    [
        (
            "added",
            built(begin().step(ReserveStock).step(AuthorizeCard).pivot(CaptureMoney).build()),
        ),
        ("removed", built(begin().then(OnlyReserve).build())),
        ("renamed", built(begin().then(ReserveRenamed).then(CaptureMoney).build())),
        ("reordered", built(begin().pivot(CaptureMoney).then(ReserveRenamed).build())),
    ]
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

    fn engine(&self, sagas: impl IntoIterator<Item = Saga<Order>>) -> Engine {
        let engine = Engine::builder(SHOP, self.store.clone()).transport(self.transport.clone());
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
        [
            stock(&shop).start(self.effects.clone(), self.transport.clone()),
            bank(&shop).start(self.effects.clone(), self.transport.clone()),
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
        assert_eq!(effects, ["reserve o-1", "capture o-1"], "{change}: the steps of version 1");
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
        let (by, reason) = ("ada".into(), "its version is back".into());
        let retry = Operation { by, reason, action: OperatorAction::Retry };
        engine.operate(saga, retry).await.expect("it can go on");
        assert_eq!(ended(&engine, saga).await, Status::Completed, "{why}");
        drop(participants);
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
    let engine = Engine::builder(SHOP, lasting.store.clone()).saga(old);
    let engine = engine.transport(lasting.transport.clone()).start().expect("the parts fit");
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
        let (by, reason) = ("ada".into(), "a mistake".into());
        let retry = Operation { by, reason, action: OperatorAction::Retry };
        engine.operate(saga, retry).await.expect_err("there is nothing to retry");
    }
}
