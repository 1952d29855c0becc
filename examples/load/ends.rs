//! How orders end: what the orders service says to everybody.

use std::collections::HashMap;

use anyhow::Context as _;
use examples::contract::{ORDERS, OrderConfirmed, OrderRejected};
use indicatif::ProgressBar;
use saga_core::message::Envelope;
use saga_core::transport::{Delivery, Received, Subscription};
use saga_core::{Codec as _, Message, ParticipantName, Protobuf, Subscriber as _, Transport as _};
use saga_kafka::{KafkaConfig, KafkaSubscriber, KafkaTransport};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// Most messages that are taken at once.
const BATCH: usize = 10_000;

/// How an order ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) at: Instant,
    pub(super) is_confirmed: bool,
}

/// Listens to the orders service.
pub(super) struct Ends {
    subscriber: KafkaSubscriber,
}

impl Ends {
    /// Begins to listen.
    pub(super) async fn watch(brokers: &str) -> anyhow::Result<Self> {
        let transport = KafkaTransport::new(KafkaConfig::new(brokers));
        let transport = transport.context("KAFKA_BROKERS cannot be used; correct it")?;
        let group = ParticipantName::parse(format!("load-{}", Uuid::now_v7()))?;
        let subscription = Subscription { group, topics: vec![ORDERS.events()] };
        Ok(Self { subscriber: transport.subscriber(subscription).await? })
    }

    /// Waits until so many orders of this run have ended, or until it is too late.
    pub(super) async fn until(
        mut self,
        run: &str,
        orders: usize,
        bar: &ProgressBar,
        latest: Instant,
    ) -> HashMap<String, End> {
        let mut ended = HashMap::with_capacity(orders);
        while ended.len() < orders
            && let Ok(received) = timeout_at(latest, self.subscriber.receive(BATCH)).await
        {
            let Ok(Received::Deliveries(deliveries)) = received else { continue };
            let at = Instant::now();
            // The topic has the ends of earlier runs as well.
            let ends = deliveries.iter().filter_map(end).filter(|(id, _)| id.starts_with(run));
            for (order_id, is_confirmed) in ends {
                ended.entry(order_id).or_insert(End { at, is_confirmed });
            }
            bar.set_position(ended.len() as u64);
        }
        ended
    }
}

/// Reads how an order ended, if a message says that.
fn end(delivery: &Delivery) -> Option<(String, bool)> {
    let Envelope { message_type, payload, .. } = Envelope::decode(delivery.value.clone()).ok()?;
    let bytes = payload.as_bytes();
    if message_type == OrderConfirmed::TYPE {
        let confirmed: OrderConfirmed = Protobuf::decode(bytes).ok()?;
        Some((confirmed.order_id, true))
    } else if message_type == OrderRejected::TYPE {
        let rejected: OrderRejected = Protobuf::decode(bytes).ok()?;
        Some((rejected.order_id, false))
    } else {
        None
    }
}
