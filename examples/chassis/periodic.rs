//! What a service does from time to time.

use std::fmt;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Something that is done again and again. What does not work is logged, and tried again the next time.
pub struct Periodic {
    name: &'static str,
    every: Duration,
    work: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send>,
}

impl Periodic {
    /// Says what to do, and how long to wait until it is done again.
    pub fn new<F>(
        name: &'static str,
        every: Duration,
        work: impl Fn() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { name, every, work: Box::new(move || work().boxed()) }
    }

    /// Does it, the first time at once, until `stop` is cancelled. What is in hand then is finished.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = (self.work)().await {
                warn!(work = self.name, error = format!("{error:#}"), "it will be tried again");
            }
            stop.run_until_cancelled(tokio::time::sleep(self.every)).await;
        }
    }
}

impl fmt::Debug for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Periodic").field("name", &self.name).finish_non_exhaustive()
    }
}
