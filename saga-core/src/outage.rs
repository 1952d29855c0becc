//! Waiting while the database or the broker is away.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Error;
use crate::policy::retry::Backoff;

const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));

/// One outage, from its first error to its end: each wait is longer than the one before, up to 2 s.
///
/// It uses up no attempts of any saga. What was not committed is done again, so a shutdown need
/// not wait for the end.
pub(crate) struct Outage {
    stop: CancellationToken,
    tries: u32,
}

impl Outage {
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), tries: 0 }
    }

    /// Tries something until it succeeds, or fails with an error that waiting cannot mend.
    pub(crate) async fn outlasted<T, E, F>(
        stop: &CancellationToken,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        E: Into<Error>,
        F: Future<Output = Result<T, E>>,
    {
        let mut outage = Self::new(stop);
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => outage.outlast(error).await?,
            }
        }
    }

    /// Waits before the next try; an error that waiting cannot mend is returned.
    pub(crate) async fn outlast(&mut self, error: impl Into<Error>) -> Result<(), Error> {
        let error = error.into();
        if !error.is_transient() {
            return Err(error);
        }
        self.tries += 1;
        warn!(
            tries = self.tries,
            error = &error as &dyn std::error::Error,
            "not available; trying again"
        );
        tokio::select! {
            biased;
            () = tokio::time::sleep(BACKOFF.delay(self.tries, 0)) => Ok(()),
            () = self.stop.cancelled() => Err(Error::Stopped),
        }
    }
}
