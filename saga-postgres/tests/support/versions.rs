//! Orders that are under way on a version of their saga, and how they end.

use saga_core::machine::HistoryKind;
use saga_core::{Engine, IdempotencyKey, Saga, SagaId, Status};

use crate::orders::Trouble::FailsForNow;
use crate::orders::{OldOrder, Order, Shop, ended, first, history, inspect, stands_still};

/// Two sagas of version 1 are under way when their engine ends: nobody has answered the one, and the
/// other waits for an hour to be charged again.
pub(crate) async fn under_way_on_version_1(shop: &Shop) -> [SagaId; 2] {
    let engine = shop.engine_on(shop.fresh.store.clone());
    let engine = engine.saga(first(Saga::<OldOrder>::builder())).start().expect("the parts fit");
    let place = async |order: &str| {
        let key = IdempotencyKey::new(order).expect("a short key");
        engine.start(key, OldOrder(order.to_owned())).await.expect("accepted").saga()
    };
    let stock = shop.stock();
    shop.goes_wrong("half", "charge", FailsForNow);
    let half = place("half").await;
    stands_still(&engine, half).await;
    stock.shutdown().await.expect("an orderly end");
    shop.mend();
    let fresh = place("fresh").await;
    engine.shutdown().await.expect("an orderly end");
    [fresh, half]
}

/// Version 1 as it is deployed today.
pub(crate) fn first_today() -> Saga<Order> {
    let today = |OldOrder(name)| Order { name, pauses: false, receipt: "upcast".to_owned() };
    first(Saga::builder().upcast(today))
}

/// It ended on this version, with these steps in this order, each once.
pub(crate) async fn ended_on(
    shop: &Shop,
    engine: &Engine,
    saga: SagaId,
    version: u32,
    steps: &[&str],
) {
    assert_eq!(ended(engine, saga).await, Status::Completed);
    let view = inspect(engine, saga).await;
    assert_eq!(view.definition_version(), version);
    let order = view.data::<Order>().expect("it is today's").name.clone();
    let mut entries = history(engine, saga).await;
    entries.retain(|it| it.kind == HistoryKind::Succeeded);
    let succeeded: Vec<_> = entries.iter().filter_map(|it| it.step.as_ref()).collect();
    assert_eq!(succeeded.iter().map(|it| it.as_str()).collect::<Vec<_>>(), steps, "{order}");
    let mut effects = steps.to_vec();
    effects.sort_unstable();
    assert_eq!(shop.effects(&order).await, effects, "{order}");
}

pub(crate) const FIRST: &[&str] = &["reserve", "check", "charge", "ship"];
