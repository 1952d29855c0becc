//! The load: a fixed number of orders under way, each that ends lets the next one start.

use std::future::Future;
use std::io::IsTerminal as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Variant};
use crate::orders::Order;

/// Something that carries orders through.
pub(crate) trait Shop: Send + Sync + 'static {
    /// Carries an order from its start to its end; returns true if it was confirmed.
    fn carry_through(&self, order: Order) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Returns when it was told to begin to work, if it had to look first at what was there before.
    fn began(&self) -> Option<Instant> {
        None
    }

    /// Finishes, and closes its connections.
    fn shutdown(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// How long the orders took.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// In microseconds, in ascending order.
    sorted_us: Vec<u64>,
    pub(crate) elapsed: Duration,
}

impl Latencies {
    /// Returns the latency that a share of the orders did not exceed, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.sorted_us.len() * percent).div_ceil(100).saturating_sub(1);
        Duration::from_micros(self.sorted_us[index]).as_secs_f64() * 1000.0
    }
}

/// Carries the orders of these numbers through.
pub(crate) async fn run<S: Shop>(
    shop: &Arc<S>,
    arguments: &Arguments,
    numbers: Range<u64>,
) -> anyhow::Result<Latencies> {
    let n = numbers.end - numbers.start;
    let progress = progress_bar(n);
    let next = Arc::new(AtomicU64::new(numbers.start));
    let begun = Instant::now();
    let mut customers = JoinSet::new();
    for _ in 0..arguments.concurrency.min(n) {
        let (end, variant) = (numbers.end, arguments.variant);
        let (shop, next) = (Arc::clone(shop), Arc::clone(&next));
        customers.spawn(customer(shop, next, end, variant, progress.clone()));
    }
    let mut sorted_us = Vec::new();
    while let Some(ended) = customers.join_next().await {
        sorted_us.extend(ended.context("a customer's task panicked")??);
    }
    let elapsed = begun.elapsed();
    progress.finish_and_clear();
    sorted_us.sort_unstable();
    Ok(Latencies { sorted_us, elapsed })
}

/// Orders one thing after another.
async fn customer<S: Shop>(
    shop: Arc<S>,
    next: Arc<AtomicU64>,
    end: u64,
    variant: Variant,
    progress: ProgressBar,
) -> anyhow::Result<Vec<u64>> {
    let mut latencies_us = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(latencies_us);
        }
        let order = Order::new(number, variant);
        let begun = Instant::now();
        let is_confirmed = shop.carry_through(order).await?;
        latencies_us.push(u64::try_from(begun.elapsed().as_micros())?);
        ensure!(is_confirmed != order.is_declined(), "order {} ended the wrong way", order.id);
        progress.inc(1);
    }
}

/// Shows progress on a terminal.
pub(crate) fn progress_bar(n: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} sagas, {per_sec}, {eta} left");
    ProgressBar::with_draw_target(Some(n), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is sound"))
}
