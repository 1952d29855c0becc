//! What those who run the services are given: the dashboard and the alerts ask for what there is, and
//! each alert says what to do.

#[path = "support/metrics.rs"]
mod metrics;

use metrics::Documented;
use serde_json::Value;

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboards/sagas.json");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// Returns the words of some text that look like a metric of ours or a label of one.
fn ours(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(move |character| !is_part(character));
    let prefixes = ["saga_", "messaging_", "http_"];
    words.filter(move |word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
}

#[test]
fn dashboards_and_alerts_ask_for_what_there_is() {
    let documented = Documented::read();
    assert!(documented.metrics.len() > 15, "{:?}", documented.metrics);
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let asked: Vec<_> = targets.map(|it| it["expr"].as_str().expect("a query")).collect();
    let mut seen = std::collections::BTreeSet::new();
    for query in asked.into_iter().chain(ALERTS.lines().filter(|line| line.contains('('))) {
        for word in ours(query) {
            let is_known = documented.series.contains(word) || documented.labels.contains(word);
            assert!(is_known, "`{word}` of `{query}` is not documented");
            seen.insert(word.to_owned());
        }
    }
    for metric in &documented.metrics {
        let is_shown = seen.iter().any(|word| word.starts_with(metric.as_str()));
        assert!(is_shown, "`{metric}` is neither in the dashboard nor in an alert");
    }
}

#[test]
fn each_alert_has_a_paragraph_in_the_runbook() {
    let named = |line: &'static str| line.trim().strip_prefix("- alert: ");
    let alerts: Vec<_> = ALERTS.lines().filter_map(named).collect();
    let headings: Vec<_> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, alerts, "the runbook has the alerts in their order");
    for alert in alerts {
        let link = format!("runbook: docs/runbook.md#{}", alert.to_lowercase());
        assert!(ALERTS.contains(&link), "{alert} links to {link}");
    }
}
