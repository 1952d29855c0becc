//! What is secret is told to nobody: not in logs, not in traces, not in metrics, not in answers.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::collector::Collector;
use crate::dice::Dice;
use crate::services::{self, PASSWORD, Services};
use crate::support::programs;
use crate::{ALONE, broker};

const TOKEN: &str = "canary-token-of-a-customer-or-a-service";
const WRONG: &str = "canary-token-that-nobody-gave";
/// What none of them may tell: each secret begins with it.
const CANARY: &str = "canary-";

/// S06: everything that can be logged is, and spans and metrics are read as they are sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s06_no_secret_is_in_a_log_a_span_a_metric_or_an_answer() {
    assert!([TOKEN, WRONG, PASSWORD].iter().all(|secret| secret.starts_with(CANARY)));
    let _alone = ALONE.lock().await;
    let mut dice = Dice::from_environment("E2E_SEED");
    services::build();
    broker::clean().await;
    let collector = Collector::start().await;
    let environment = [
        ("API_TOKENS", format!("{TOKEN}=write")),
        ("ORCHESTRATOR_TOKEN", TOKEN.to_owned()),
        ("RUST_LOG", "trace".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
    ];
    let mut services = Services::start(&mut dice, &environment).await;

    let order = json!({"order_id": "secret-1", "user_id": "u-1", "amount": 20});
    let stranger = services.orders().token(WRONG).expect("a token");
    let (status, refusal) = stranger.post("/orders", order.clone()).await.expect("an answer");
    assert_eq!(status, 401);
    let customer = services.orders().token(TOKEN).expect("a token");
    let (status, placed) = customer.post("/orders", order).await.expect("an answer");
    assert_eq!(status, 202, "{placed}");
    // A process that connects again logs what it did not log before.
    services.kill_and_restart("payments");
    let mut shown = placed;
    let ended = timeout(Duration::from_mins(1), async {
        while shown["saga"]["status"] != "completed" || collector.spans().is_empty() {
            shown = customer.get("/orders/secret-1").await.expect("an answer").1;
            sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the order is confirmed");

    let metrics = services.metrics_as_text().await;
    let answers = [("the refusal", refusal.to_string()), ("the order", shown.to_string())];
    let told = answers.into_iter().chain([("the metrics", metrics)]);
    for (place, text) in told {
        assert!(!text.contains(CANARY), "{place}: {text}");
    }
    services.stop().await;
    let spans = collector.spans();
    let spans = spans.iter().map(|it| format!("{:?}", it.span));
    for line in spans.chain(services::logs()) {
        assert!(!line.contains(CANARY), "{line}");
    }
}

/// S06: nor when it cannot even connect.
#[test]
fn s06_no_secret_is_in_the_log_of_a_service_that_cannot_connect() {
    services::build();
    for service in services::SERVICES {
        let ended = programs::command(service)
            .env("DATABASE_URL", format!("postgres://anna:{PASSWORD}@127.0.0.1:1/d"))
            .env("KAFKA_BROKERS", "127.0.0.1:1")
            .env("API_TOKENS", format!("{TOKEN}=write"))
            .env("PORT", "0")
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        assert!(!ended.status.success(), "{service} cannot have connected");
        for output in [ended.stdout, ended.stderr] {
            let output = String::from_utf8_lossy(&output).into_owned();
            assert!(!output.contains(CANARY), "{service}: {output}");
        }
    }
}
