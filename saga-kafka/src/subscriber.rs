//! Subscribing: a member of a consumer group, on a thread of its own.

mod context;
mod member;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use saga_core::transport::{Position, Received, Subscription};
use saga_core::{Subscriber, TransportError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::member::Member;
use self::shared::Shared;
use crate::KafkaConfig;

/// How much longer than a session leaving may take, before it is left to itself.
const LEAVE: Duration = Duration::from_secs(5);

/// Receives from Kafka as a member of a consumer group.
///
/// A thread of its own polls the broker, so that a slow handler never costs the member its
/// partitions. Up to some thousand records wait to be received; when they are not taken, the
/// thread pauses its partitions. Offsets are stored every 150 ms, as far as they moved over
/// acknowledged deliveries, and when partitions are revoked or the subscriber is closed.
///
/// A partition for which the group has stored no offset starts at the beginning. A stored offset
/// that is no longer on the topic gives [`TransportError::OffsetOutOfRange`] once; that partition
/// then stands still until the group's offset was set by hand and the subscriber was made anew, and
/// the others go on.
///
/// Headers arrive as far as the client library reads them: one whose name is not UTF-8 has U+FFFD
/// for a name and no value, and a record with more than 100,000 has none.
///
/// A broker that is away is waited for. Dropping a subscriber leaves the group, in the background.
pub struct KafkaSubscriber {
    shared: Arc<Shared>,
    left: Option<oneshot::Receiver<Result<(), TransportError>>>,
    patience: Duration,
}

impl KafkaSubscriber {
    pub(crate) async fn join(
        config: Arc<KafkaConfig>,
        subscription: Subscription,
    ) -> Result<Self, TransportError> {
        let shared = Arc::new(Shared::default());
        let (started, start) = oneshot::channel();
        let (leaving, left) = oneshot::channel();
        let patience = config.session() + LEAVE;
        let member = Member::new(config, subscription, Arc::clone(&shared));
        thread::Builder::new()
            .name("kafka-subscriber".to_owned())
            .spawn(move || member.run(started, leaving))
            .map_err(|error| unavailable("starting a thread", error))?;
        // From here on, dropping this leaves the group.
        let subscriber = Self { shared, left: Some(left), patience };
        start.await.map_err(|error| unavailable("joining the group", error))??;
        Ok(subscriber)
    }
}

fn unavailable(
    operation: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> TransportError {
    TransportError::Unavailable { operation, source: error.into() }
}

impl Subscriber for KafkaSubscriber {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        loop {
            if let Some(received) = self.shared.receive(limit.max(1)) {
                return received;
            }
            // A wake-up that comes before this line is kept for it.
            self.shared.wake.notified().await;
        }
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.shared.acknowledge(positions);
    }

    async fn close(mut self) -> Result<(), TransportError> {
        self.shared.close();
        let left = self.left.take().expect("only closing takes it");
        match timeout(self.patience, left).await {
            Ok(Ok(result)) => result,
            Ok(Err(stopped)) => Err(unavailable("leaving the group", stopped)),
            Err(elapsed) => Err(unavailable("leaving the group", elapsed)),
        }
    }
}

impl Drop for KafkaSubscriber {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for KafkaSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSubscriber").field("shared", &self.shared).finish_non_exhaustive()
    }
}
