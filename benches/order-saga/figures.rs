//! What a run is reported as.

use serde::Serialize;
use serde_json::json;

use crate::arguments::Arguments;
use crate::run::Measured;

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    peer: &'static str,
    version: &'static str,
    variant: serde_json::Value,
    participants: serde_json::Value,
    handlers: serde_json::Value,
    n: u64,
    concurrency: u64,
    finished_before: u64,
    waiting_before: u64,
    retention: bool,
    snapshot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_ms: Option<f64>,
    pub(crate) sagas_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    cpu_s: f64,
    pub(crate) cpu_ms_per_saga: f64,
    own_cpu_ms_per_saga: f64,
    pub(crate) wal_bytes_per_saga: f64,
    pub(crate) commits_per_saga: f64,
    peak_rss_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_cpu_percent: Option<f64>,
}

impl Figures {
    pub(crate) fn new(peer: &'static str, arguments: &Arguments, measured: &Measured) -> Self {
        let Measured { ready, latencies, usage, idle } = measured;
        let n = as_f64(arguments.n);
        let per_saga_ms = |cpu: std::time::Duration| round(cpu.as_secs_f64() * 1000.0 / n, 4);
        Self {
            peer,
            version: env!("CARGO_PKG_VERSION"),
            variant: json!(arguments.variant),
            participants: json!(arguments.participants),
            handlers: json!(arguments.handlers),
            n: arguments.n,
            concurrency: arguments.concurrency,
            finished_before: arguments.finished_before,
            waiting_before: arguments.waiting_before,
            retention: arguments.retention,
            snapshot: arguments.snapshot,
            ready_ms: ready.map(|ready| round(ready.as_secs_f64() * 1000.0, 1)),
            sagas_per_s: round(n / latencies.elapsed.as_secs_f64(), 1),
            p50_ms: round(latencies.percentile_ms(50), 3),
            p99_ms: round(latencies.percentile_ms(99), 3),
            cpu_s: round(usage.cpu().as_secs_f64(), 2),
            cpu_ms_per_saga: per_saga_ms(usage.cpu()),
            own_cpu_ms_per_saga: per_saga_ms(usage.own_cpu),
            wal_bytes_per_saga: round(as_f64(usage.wal_bytes.unsigned_abs()) / n, 0),
            commits_per_saga: round(as_f64(usage.commits.unsigned_abs()) / n, 3),
            peak_rss_mb: round(as_f64(usage.rss_peak_bytes) / (1024.0 * 1024.0), 1),
            idle_cpu_percent: idle.map(|share| round(share * 100.0, 3)),
        }
    }

    /// Prints the figures: as one line of JSON, or as a line for a person.
    pub(crate) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            println!("{self}");
        }
        Ok(())
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<11} {:>8.0} sagas/s  p50 {:>7.2} ms  p99 {:>7.2} ms  CPU {:.3} ms/saga  \
             WAL {:>5.0} B/saga  {:.3} commits/saga  peak {:.0} MB",
            self.peer,
            self.sagas_per_s,
            self.p50_ms,
            self.p99_ms,
            self.cpu_ms_per_saga,
            self.wal_bytes_per_saga,
            self.commits_per_saga,
            self.peak_rss_mb,
        )
    }
}

/// Figures are far below the 2^52 that an `f64` holds exactly.
#[expect(clippy::cast_precision_loss)]
pub(crate) const fn as_f64(figure: u64) -> f64 {
    figure as f64
}

fn round(figure: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (figure * scale).round() / scale
}
