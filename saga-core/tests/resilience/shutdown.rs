//! Stopping always comes to an end.

use std::time::Duration;

use saga_core::transport::{MemoryPublisher, MemorySubscriber, Subscription};
use saga_core::{
    HandleExternal, HandlerResult, IdempotencyKey, MemoryTransport, Participant, Topic, Transport,
    TransportError,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{Conn, Done, Reserve, STOCK, Shop, stock};
use crate::{database, reserve, send};

/// A transport whose settings the broker refuses.
struct Misconfigured;

impl Transport for Misconfigured {
    type Publisher = MemoryPublisher;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, _: &[Topic]) -> Result<(), TransportError> {
        Err(TransportError::Configuration { reason: "no such setting".into() })
    }

    async fn publisher(&self) -> Result<MemoryPublisher, TransportError> {
        MemoryTransport::new().publisher().await
    }

    async fn subscriber(&self, it: Subscription) -> Result<MemorySubscriber, TransportError> {
        MemoryTransport::new().subscriber(it).await
    }
}

#[tokio::test]
async fn a_participant_that_stopped_by_itself_can_be_shut_down() {
    let mut stock = stock(&Shop::default()).start(database(), Misconfigured);
    stock.stopped().await.expect_err("the settings are refused");
    stock.shutdown().await.expect("its error was told once");
}

/// Another system that takes a call and never answers.
struct Hangs(mpsc::UnboundedSender<()>);

impl HandleExternal<Reserve> for Hangs {
    async fn call(&self, _: Reserve, _: IdempotencyKey) -> HandlerResult<Done> {
        self.0.send(()).expect("the test listens");
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_does_not_hold_up_a_shutdown() {
    let transport = MemoryTransport::new();
    let (called, mut calls) = mpsc::unbounded_channel();
    let stock = Participant::<Conn>::builder(STOCK).handle_external::<Reserve>(Hangs(called));
    let stock = stock.build().expect("sound").start(database(), transport.clone());
    send(&transport, vec![reserve("o-1", "")]).await;
    calls.recv().await.expect("called");
    let stopped = timeout(Duration::from_secs(10), stock.shutdown()).await;
    assert!(matches!(stopped, Ok(Ok(()))), "a hanging call holds up the shutdown: {stopped:?}");
}
