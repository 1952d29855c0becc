//! What the services of a process are made of.

use std::time::Duration;

use saga_core::{Engine, IdempotencyKey};
use saga_kafka::KafkaTransport;
use saga_postgres::PostgresStore;
use saga_testkit::{Cursors, Planted};

use super::broker;
use super::late::Late;
use super::mine::Mine;
use super::mined::Mined;
use super::points::{Case, Scenario, Service};
use super::private::Private;
use super::shop::{Order, OrderPlaced, SHOP, saga, stock};
use super::stores::unsent;
use super::told::Told;

/// How long a message is on its way that others are to overtake.
const DETOUR: Duration = Duration::from_secs(1);

pub(crate) type Wire = Mined<Planted<Late<Private<KafkaTransport>>>>;
pub(crate) type Store = Mined<Planted<PostgresStore>>;

/// Each as it is, with a mine in it, and with a defect if one is planted.
pub(crate) struct Parts<'a> {
    told: &'a Told,
    scenario: Scenario,
    pub(crate) mine: Mine,
    broker: Private<KafkaTransport>,
    pub(crate) late: Late<Private<KafkaTransport>>,
    read: Cursors,
}

impl<'a> Parts<'a> {
    pub(crate) async fn new(told: &'a Told, case: &Case) -> Self {
        let scenario = case.point.scenario;
        let broker = Private::new(broker::transport().await, &told.prefix);
        let late = Late::new(broker.clone(), scenario, &told.order);
        let (mine, read) = (Mine::new(case, told.life), Cursors::default());
        Self { told, scenario, mine, broker, late, read }
    }

    /// Every row that an earlier life has left is one that it has read.
    pub(crate) async fn has_read(&self, store: &PostgresStore) {
        let rows = if self.told.life > 0 { unsent(store).await } else { Vec::new() };
        let mut read = self.read.lock().expect("nobody has panicked");
        read.extend(rows.into_iter().map(|row| (row.lane, row.id)));
    }

    pub(crate) fn store(&self, store: &PostgresStore, service: Service) -> Store {
        let planted = Planted::new(store.clone(), self.told.defect()).reading(&self.read);
        Mined::new(planted, service, &self.mine)
    }

    pub(crate) fn wire(&self, service: Service) -> Wire {
        let mut late = self.late.clone();
        if service == Service::OtherEngine {
            let broker = self.broker.clone().in_groups("other");
            late = Late::new(broker, self.scenario, &self.told.order);
        }
        let planted = Planted::new(late, self.told.defect()).detour(DETOUR);
        Mined::new(planted, service, &self.mine)
    }

    pub(crate) fn engine(&self, sagas: &PostgresStore, service: Service) -> Engine {
        let builder = Engine::builder(SHOP, self.store(sagas, service)).saga(saga(self.scenario));
        let is_local = self.scenario.is_local();
        let builder = if is_local { builder.local(stock(&self.mine)) } else { builder };
        builder
            .transport(self.wire(service))
            .start_on::<OrderPlaced, Order>(|fact| {
                let OrderPlaced { order, trouble } = fact;
                Some((IdempotencyKey::new(&*order).ok()?, Order { order, trouble }))
            })
            .start()
            .expect("the parts fit")
    }
}
