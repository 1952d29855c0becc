//! The private object-safe face of a transport.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::Topic;
use crate::transport::{
    Position, Publisher, Receipt, Received, Record, Subscriber, Subscription, Transport,
    TransportError,
};

pub(crate) trait DynTransport: Send + Sync {
    fn ensure_topics<'a>(
        &'a self,
        topics: &'a [Topic],
    ) -> BoxFuture<'a, Result<(), TransportError>>;
    fn publisher(&self) -> BoxFuture<'_, Result<Arc<dyn DynPublisher>, TransportError>>;
    fn subscriber(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn DynSubscriber>, TransportError>>;
}

pub(crate) trait DynPublisher: Send + Sync {
    fn partitions<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<u32, TransportError>>;
    fn publish(&self, records: Vec<Record>) -> Receipt;
}

pub(crate) trait DynSubscriber: Send {
    fn receive(&mut self, limit: usize) -> BoxFuture<'_, Result<Received, TransportError>>;
    fn acknowledge(&mut self, positions: &[Position]);
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), TransportError>>;
}

/// Wraps a transport, so that its methods and the erased ones do not meet on one type.
pub(crate) struct Erased<T>(pub(crate) T);

impl<T: Transport> DynTransport for Erased<T> {
    fn ensure_topics<'a>(
        &'a self,
        topics: &'a [Topic],
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.0.ensure_topics(topics))
    }

    fn publisher(&self) -> BoxFuture<'_, Result<Arc<dyn DynPublisher>, TransportError>> {
        Box::pin(async {
            let publisher: Arc<dyn DynPublisher> = Arc::new(Erased(self.0.publisher().await?));
            Ok(publisher)
        })
    }

    fn subscriber(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn DynSubscriber>, TransportError>> {
        Box::pin(async {
            let subscriber: Box<dyn DynSubscriber> =
                Box::new(Erased(self.0.subscriber(subscription).await?));
            Ok(subscriber)
        })
    }
}

impl<P: Publisher> DynPublisher for Erased<P> {
    fn partitions<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<u32, TransportError>> {
        Box::pin(self.0.partitions(topic))
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        self.0.publish(records)
    }
}

impl<S: Subscriber> DynSubscriber for Erased<S> {
    fn receive(&mut self, limit: usize) -> BoxFuture<'_, Result<Received, TransportError>> {
        Box::pin(self.0.receive(limit))
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.0.acknowledge(positions);
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), TransportError>> {
        Box::pin(self.0.close())
    }
}
