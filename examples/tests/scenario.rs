//! Stories of the services' saga: each is told once, and played in memory, and on a real broker and database.

#[path = "../../saga-kafka/tests/private/mod.rs"]
mod private;
mod support;

use std::time::Duration;

use examples::contract::messages::orders::Item;
use examples::contract::{
    AuthorizePayment, CapturePayment, ConfirmOrder, InventoryReleased, InventoryReserved,
    InventorySold, OrderConfirmed, OrderCreated, OrderRejected, PaymentAuthorized, PaymentCaptured,
    PaymentVoided, RejectOrder, ReleaseInventory, ReserveInventory, SellInventory, VoidPayment,
};
use examples::orchestrator::place_order::{PlaceOrder, place_order, start};
use saga_core::machine::{Operation, OperatorAction, Status};
use saga_core::{MemoryTransport, SagaData as _, Transport};
use saga_kafka::{KafkaConfig, KafkaTransport};
use saga_postgres::PostgresStore;
use saga_testkit::Scenario;
use uuid::Uuid;

use private::Private;
use support::database::Databases;

fn order() -> PlaceOrder {
    let created = OrderCreated {
        order_id: "o-1".to_owned(),
        user_id: "u-1".to_owned(),
        amount: 19.99,
        amount_minor: 1_999,
        currency: "EUR".to_owned(),
        items: vec![Item { sku: "book".to_owned(), quantity: 2 }],
    };
    start(created).expect("its id is a key").1
}

fn id() -> String {
    "o-1".to_owned()
}

async fn in_memory() -> Scenario<MemoryTransport> {
    Scenario::in_memory(place_order().expect("sound"), order()).await
}

async fn on_real_parts(name: &str) -> Scenario<Private<KafkaTransport>> {
    let brokers = std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: run `make test`, which starts the services");
    let transport = KafkaTransport::new(KafkaConfig::new(&brokers)).expect("sound");
    let transport = Private::new(transport, &format!("{}-{}", PlaceOrder::SAGA, Uuid::now_v7()));
    // The name of a database is short.
    let initials: String = name.split('_').filter_map(|word| word.chars().next()).collect();
    let url = Databases::new(&format!("scenario_{initials}_")).await.create("saga").await;
    let store = PostgresStore::connect(&url).await.expect("the server answers");
    store.migrate().await.expect("migrated");
    Scenario::on(store, transport, place_order().expect("sound"), order()).await
}

macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::in_memory().await).await;
            })*
        }

        mod on_real_parts {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::on_real_parts(stringify!($story)).await).await;
            })*
        }
    };
}

stories!(
    a_declined_card_puts_the_goods_back,
    an_answer_that_comes_late_changes_nothing,
    a_customer_who_cancels_is_not_charged,
    a_capture_that_breaks_waits_for_a_person,
);

async fn a_declined_card_puts_the_goods_back<T: Transport + Clone>(mut story: Scenario<T>) {
    let reserve = story.asks::<ReserveInventory>().await;
    assert_eq!(reserve.command().items[0].quantity, 2);
    reserve.succeeds(InventoryReserved { order_id: id() }).await;
    let authorize = story.asks::<AuthorizePayment>().await;
    assert_eq!(authorize.command().amount_minor, 1_999);
    authorize.rejects("card-declined").await;
    story.asks::<ReleaseInventory>().await.succeeds(InventoryReleased { order_id: id() }).await;
    let reject = story.asks::<RejectOrder>().await;
    let reason = reject.command().reason.clone();
    assert_eq!(reason, "card-declined");
    reject.succeeds(OrderRejected { order_id: id(), reason }).await;
    story.ends(Status::Compensated).await;
    let told = [
        "saga started",
        "reserve-inventory: command sent",
        "reserve-inventory: succeeded",
        "authorize-payment: command sent",
        "authorize-payment: rejected (card-declined)",
        "compensation started (card-declined)",
        "reserve-inventory: compensation sent",
        "reserve-inventory: compensated",
        "reject-order: compensation sent",
        "reject-order: compensated",
        "saga compensated",
    ];
    assert_eq!(story.timeline().await, told);
}

async fn an_answer_that_comes_late_changes_nothing<T: Transport + Clone>(mut story: Scenario<T>) {
    let reserved = InventoryReserved { order_id: id() };
    let late = story.asks::<ReserveInventory>().await;
    story.passes(Duration::from_secs(30)).await;
    let again = story.asks::<ReserveInventory>().await;
    assert_eq!((late.attempt(), again.attempt()), (1, 2));
    again.succeeds(reserved.clone()).await;
    late.succeeds(reserved).await;
    story.asks::<AuthorizePayment>().await.succeeds(PaymentAuthorized { order_id: id() }).await;
    story.asks::<CapturePayment>().await.succeeds(PaymentCaptured { order_id: id() }).await;
    late.rejects("out-of-stock").await;
    story.asks::<ConfirmOrder>().await.succeeds(OrderConfirmed { order_id: id() }).await;
    story.asks::<SellInventory>().await.succeeds(InventorySold { order_id: id() }).await;
    story.ends(Status::Completed).await;
}

async fn a_customer_who_cancels_is_not_charged<T: Transport + Clone>(mut story: Scenario<T>) {
    story.asks::<ReserveInventory>().await.succeeds(InventoryReserved { order_id: id() }).await;
    let authorize = story.asks::<AuthorizePayment>().await;
    story.cancels().await;
    // Nobody knows yet whether the money is held; the answer tells, and is undone.
    authorize.succeeds(PaymentAuthorized { order_id: id() }).await;
    story.asks::<VoidPayment>().await.succeeds(PaymentVoided { order_id: id() }).await;
    story.asks::<ReleaseInventory>().await.succeeds(InventoryReleased { order_id: id() }).await;
    let reject = story.asks::<RejectOrder>().await;
    let reason = reject.command().reason.clone();
    reject.succeeds(OrderRejected { order_id: id(), reason }).await;
    story.ends(Status::Compensated).await;
}

async fn a_capture_that_breaks_waits_for_a_person<T: Transport + Clone>(mut story: Scenario<T>) {
    story.asks::<ReserveInventory>().await.succeeds(InventoryReserved { order_id: id() }).await;
    story.asks::<AuthorizePayment>().await.succeeds(PaymentAuthorized { order_id: id() }).await;
    story.asks::<CapturePayment>().await.fails_for_good("a null pointer").await;
    story.ends(Status::Parked).await;
    let (by, reason) = ("ada".to_owned(), "the bug is mended".to_owned());
    let retry = Operation { by, reason, action: OperatorAction::Retry };
    story.engine().operate(story.saga(), retry).await.expect("it can go on");
    story.asks::<CapturePayment>().await.succeeds(PaymentCaptured { order_id: id() }).await;
    story.asks::<ConfirmOrder>().await.succeeds(OrderConfirmed { order_id: id() }).await;
    story.asks::<SellInventory>().await.succeeds(InventorySold { order_id: id() }).await;
    story.ends(Status::Completed).await;
}
