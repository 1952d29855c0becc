//! Running laws: on several threads, side by side, and not for ever.

use std::future::Future;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::time::timeout;

/// How long a law may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a law to its end on a runtime of its own; what the conformance macros call.
///
/// # Panics
///
/// If the law panics, or does not end within a minute.
pub fn run(law: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a test can start threads");
    runtime.block_on(async {
        timeout(PATIENCE, law).await.expect("the law must end: a call of the backend hangs");
    });
}

/// Runs futures at the same time on all threads and returns what they gave, in order.
pub(crate) async fn race<T: Send + 'static>(
    racers: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let start = Arc::new(Barrier::new(racers.len()));
    let racing: Vec<_> = racers
        .into_iter()
        .map(|racer| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                racer.await
            })
        })
        .collect();
    let mut results = Vec::with_capacity(racing.len());
    for racer in racing {
        let result = racer.await;
        results.push(result.unwrap_or_else(|failed| panic::resume_unwind(failed.into_panic())));
    }
    results
}
