//! The metrics that the documentation names, as Prometheus calls them.

use std::collections::BTreeSet;

/// The documentation of the library's metrics.
const LIBRARY: &str = include_str!("../../../saga-core/src/telemetry.rs");
/// What the services add.
const SERVICES: [&str; 3] = [
    "| `http.server.request.duration` | histogram |",
    "| `http.request.method`, `http.route` |",
    "| `http.response.status_code` |",
];

/// What may be asked for.
pub(crate) struct Documented {
    /// The metrics themselves, such as `saga_started_total`.
    pub(crate) metrics: BTreeSet<String>,
    /// What can be asked of them: a histogram has a count, a sum and buckets.
    pub(crate) series: BTreeSet<String>,
    pub(crate) labels: BTreeSet<String>,
}

impl Documented {
    /// Reads the table of the documentation.
    pub(crate) fn read() -> Self {
        let (mut metrics, mut series) = (BTreeSet::new(), BTreeSet::new());
        let mut labels = BTreeSet::new();
        let library = LIBRARY.lines().filter_map(|line| line.strip_prefix("//! "));
        for line in library.chain(SERVICES).filter(|line| line.starts_with("| `")) {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().expect("a name").trim_matches('`').replace('.', "_");
            let kind = cells.next().unwrap_or_default();
            match kind {
                "counter" => _ = metrics.insert(format!("{name}_total")),
                "gauge" => _ = metrics.insert(format!("{name}_seconds")),
                "histogram" => {
                    let unit = if name == "saga_tick_size" { "" } else { "_seconds" };
                    metrics.insert(format!("{name}{unit}"));
                    let parts = ["bucket", "count", "sum"];
                    series.extend(parts.map(|part| format!("{name}{unit}_{part}")));
                }
                _ => {}
            }
            let words = line.split('`').skip(1).step_by(2);
            labels.extend(words.map(|word| word.replace('.', "_")));
        }
        series.extend(metrics.iter().cloned());
        Self { metrics, series, labels }
    }
}
