//! A service that is asked to stop does so within 10 s, whatever does not answer: whoever runs it kills it then.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long what is in hand may go on.
const GRACE: Duration = Duration::from_secs(4);
/// How long all that comes after it may take together: what is sent, noted and left.
const CLOSING_MAX: Duration = Duration::from_millis(5_500);
/// How long a single question to the store may take then.
const FAREWELL: Duration = Duration::from_secs(1);

/// Waits until a service has been asked to stop, and what is in hand has had its time.
pub(crate) async fn grace_is_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Closes a service, as far as there is time for it. What is cut off is sent or delivered again.
pub(crate) async fn close(closing: impl Future<Output = ()>) {
    if tokio::time::timeout(CLOSING_MAX, closing).await.is_err() {
        warn!("stopped without an orderly end: the store or the broker does not answer");
    }
}

/// Asks the store for something that can be left undone. Returns nothing if it does not answer in time.
pub(crate) async fn farewell<T>(question: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(FAREWELL, question).await.ok()
}
