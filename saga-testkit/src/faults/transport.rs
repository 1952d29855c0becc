//! A transport that fails or crashes when a test says so.

use std::sync::atomic::{AtomicBool, Ordering};

use saga_core::transport::{Position, Receipt, Received, Record, Subscription};
use saga_core::{Publisher, Subscriber, Topic, Transport, TransportError};

use super::{Faults, Faulty, Moment, Operation};

/// What a faulty transport publishes with.
#[derive(Debug)]
pub struct FaultyPublisher<P> {
    inner: P,
    faults: Faults,
    has_failed: AtomicBool,
}

/// What a faulty transport receives with.
#[derive(Debug)]
pub struct FaultySubscriber<S> {
    inner: S,
    faults: Faults,
    /// What was received and not handed over: the process stood still, and nobody waited for it any more.
    received: Option<Result<Received, TransportError>>,
}

impl<T: Transport> Transport for Faulty<T> {
    type Publisher = FaultyPublisher<T::Publisher>;
    type Subscriber = FaultySubscriber<T::Subscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.faults.survive(Operation::Publish).await?;
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Self::Publisher, TransportError> {
        self.faults.survive(Operation::Publish).await?;
        let inner = self.inner.publisher().await?;
        Ok(FaultyPublisher {
            inner,
            faults: self.faults.clone(),
            has_failed: AtomicBool::new(false),
        })
    }

    async fn subscriber(
        &self,
        subscription: Subscription,
    ) -> Result<Self::Subscriber, TransportError> {
        self.faults.survive(Operation::Receive).await?;
        let inner = self.inner.subscriber(subscription).await?;
        Ok(FaultySubscriber { inner, faults: self.faults.clone(), received: None })
    }
}

impl<P: Publisher> Publisher for FaultyPublisher<P> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.faults.survive(Operation::Publish).await?;
        self.inner.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        // After one that failed no later one is appended, so nothing overtakes it.
        if self.has_failed.load(Ordering::Relaxed) {
            return failed();
        }
        let published = self.faults.around_now(Operation::Publish, || self.inner.publish(records));
        published.unwrap_or_else(|_| {
            self.has_failed.store(true, Ordering::Relaxed);
            failed()
        })
    }
}

impl<S: Subscriber> Subscriber for FaultySubscriber<S> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let fault = self.faults.before(Operation::Receive).await?;
        while self.received.is_none() {
            tokio::select! {
                biased;
                () = self.faults.trouble() => self.faults.survive(Operation::Receive).await?,
                received = self.inner.receive(limit) => self.received = Some(received),
            }
        }
        // What was received is not lost to a failure: a broker that fails has delivered nothing.
        let _ = self.faults.strike(fault, Moment::After, Operation::Receive).await;
        self.hand_over(limit)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        // One that fails is forgotten: what it was for is delivered again.
        let acknowledge = || self.inner.acknowledge(positions);
        let _ = self.faults.around_now(Operation::Acknowledge, acknowledge);
    }

    async fn close(self) -> Result<(), TransportError> {
        self.faults.survive(Operation::Acknowledge).await?;
        self.inner.close().await
    }
}

impl<S> FaultySubscriber<S> {
    /// Hands over what was received; what is more than was asked for stays for the next call.
    fn hand_over(&mut self, limit: usize) -> Result<Received, TransportError> {
        let mut received = self.received.take().expect("it was waited for")?;
        if let Received::Deliveries(deliveries) = &mut received
            && deliveries.len() > limit
        {
            let rest = deliveries.split_off(limit);
            self.received = Some(Ok(Received::Deliveries(rest)));
        }
        Ok(received)
    }
}

fn failed() -> Receipt {
    let (operation, source) = ("publish", "a planned fault".into());
    Receipt::settled(Err(TransportError::PublisherFailed { operation, source }))
}
