//! A subscriber that gets some messages late, as from a partition that is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saga_core::message::{Envelope, Kind};
use saga_core::transport::{Delivery, Partition, Position, Received, Subscription};
use saga_core::{Subscriber, Topic, Transport, TransportError};

use super::points::Scenario;
use super::shop::{FIRST, UNDONE, order_of};

/// A transport whose subscribers hold back the first step's messages of one order.
#[derive(Debug, Clone)]
pub(crate) struct Late<T> {
    inner: T,
    scenario: Scenario,
    order: String,
    has_come: Arc<AtomicBool>,
}

impl<T> Late<T> {
    pub(crate) fn new(inner: T, scenario: Scenario, order: &str) -> Self {
        Self { inner, scenario, order: order.to_owned(), has_come: Arc::default() }
    }

    /// Returns true once what was late has been acknowledged, or if nothing is late.
    pub(crate) fn is_over(&self) -> bool {
        !self.scenario.is_late() || self.has_come.load(Ordering::SeqCst)
    }
}

impl<T: Transport> Transport for Late<T> {
    type Publisher = T::Publisher;
    type Subscriber = LateSubscriber<T::Subscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<T::Publisher, TransportError> {
        self.inner.publisher().await
    }

    async fn subscriber(&self, it: Subscription) -> Result<Self::Subscriber, TransportError> {
        let (scenario, order) = (self.scenario, self.order.clone());
        let (inner, has_come) = (self.inner.subscriber(it).await?, Arc::clone(&self.has_come));
        let (held, lets_go, due, late) = (Vec::new(), None, Vec::new(), Vec::new());
        Ok(LateSubscriber { inner, scenario, order, held, lets_go, due, late, has_come })
    }
}

pub(crate) struct LateSubscriber<S> {
    inner: S,
    scenario: Scenario,
    order: String,
    held: Vec<Delivery>,
    /// Where the delivery stood that lets go what is held once it is acknowledged.
    lets_go: Option<Position>,
    /// What is handed out next.
    due: Vec<Delivery>,
    /// What was handed out late.
    late: Vec<Position>,
    has_come: Arc<AtomicBool>,
}

/// When a delivery is handed out.
enum Place {
    OnTime,
    Late,
    /// On time, and with it those that were late.
    LetsGo,
}

impl<S> LateSubscriber<S> {
    fn delay(&mut self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let mut out = Vec::new();
        for delivery in deliveries {
            match self.place(&delivery) {
                Place::OnTime => out.push(delivery),
                Place::Late => self.held.push(delivery),
                Place::LetsGo if self.scenario == Scenario::Overtaken => {
                    // A command comes when what undoes it is done with.
                    self.lets_go = Some(delivery.position.clone());
                    out.push(delivery);
                }
                Place::LetsGo => {
                    // A reply comes while there is still something to spoil.
                    out.append(&mut self.let_go());
                    out.push(delivery);
                }
            }
        }
        out
    }

    fn let_go(&mut self) -> Vec<Delivery> {
        self.late.extend(self.held.iter().map(|it| it.position.clone()));
        std::mem::take(&mut self.held)
    }

    fn place(&self, delivery: &Delivery) -> Place {
        let Ok(envelope) = Envelope::decode(delivery.value.clone()) else { return Place::OnTime };
        if order_of(&envelope).as_ref() != Some(&self.order) {
            return Place::OnTime;
        }
        match (self.scenario, &envelope.kind) {
            (Scenario::Overtaken, Kind::Command(command)) if command.step == FIRST => {
                if command.compensates.is_some() { Place::LetsGo } else { Place::Late }
            }
            (Scenario::LateReply, Kind::Reply(reply)) if reply.step == FIRST => {
                if envelope.message_type == UNDONE { Place::LetsGo } else { Place::Late }
            }
            (Scenario::AskedAgain, Kind::Reply(reply)) if reply.step == FIRST => {
                match (self.held.is_empty(), self.late.is_empty()) {
                    (true, true) => Place::Late,
                    (false, _) => Place::LetsGo,
                    (true, false) => Place::OnTime,
                }
            }
            _ => Place::OnTime,
        }
    }
}

impl<S: Subscriber> Subscriber for LateSubscriber<S> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        if !self.due.is_empty() {
            return Ok(Received::Deliveries(std::mem::take(&mut self.due)));
        }
        Ok(match self.inner.receive(limit).await? {
            Received::Deliveries(deliveries) => Received::Deliveries(self.delay(deliveries)),
            Received::Revoked(partitions) => {
                for kept in [&mut self.held, &mut self.due] {
                    kept.retain(|it| !is_of(&it.position, &partitions));
                }
                Received::Revoked(partitions)
            }
            assigned @ Received::Assigned(_) => assigned,
        })
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.inner.acknowledge(positions);
        if self.lets_go.as_ref().is_some_and(|it| positions.contains(it)) {
            self.lets_go = None;
            self.due = self.let_go();
        }
        if positions.iter().any(|it| self.late.contains(it)) {
            self.has_come.store(true, Ordering::SeqCst);
        }
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}

fn is_of(position: &Position, partitions: &[Partition]) -> bool {
    partitions.iter().any(|it| it.topic == position.topic && it.number == position.partition)
}
