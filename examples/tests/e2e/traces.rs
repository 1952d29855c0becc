//! One trace shows an order across the four services, and both ways through Kafka.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chassis::http::Client;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::collector::{Collector, Trace};
use crate::dice::Dice;
use crate::services::{self, Services};
use crate::support::metrics::Documented;
use crate::{ALONE, broker};

/// How long an order may take, and how long its spans are waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who does what to an order that goes through: each is a hop over Kafka to a service and back.
const CONFIRMED: [(&str, &str, &str); 5] = [
    ("inventory", "reserve-inventory", "process ReserveInventory"),
    ("payments", "authorize-payment", "process AuthorizePayment"),
    ("payments", "capture-payment", "process CapturePayment"),
    ("orders", "confirm-order", "process ConfirmOrder"),
    ("inventory", "sell-inventory", "process SellInventory"),
];
/// Who hears of it besides, and does something about it that no saga asked for.
const HEARD: [(&str, &str); 1] = [("payments", "process OrderConfirmed")];
/// The same for one whose customer has no money: what is reserved is released.
const DECLINED: [(&str, &str, &str); 4] = [
    ("inventory", "reserve-inventory", "process ReserveInventory"),
    ("inventory", "reserve-inventory", "process ReleaseInventory"),
    ("payments", "authorize-payment", "process AuthorizePayment"),
    ("orders", "reject-order", "process RejectOrder"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_trace_also_if_a_service_is_killed_in_between() {
    let _alone = ALONE.lock().await;
    let mut dice = Dice::from_environment("E2E_SEED");
    services::build();
    broker::clean().await;
    let collector = Collector::start().await;
    let telemetry = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
    ];
    let mut services = Services::start(&mut dice, &telemetry).await;
    let orders = services.orders();

    place(&orders, "trace-confirmed", "u-1").await;
    place(&orders, "trace-declined", "u-poor").await;
    for (order, hops, heard) in
        [("trace-confirmed", &CONFIRMED[..], &HEARD[..]), ("trace-declined", &DECLINED[..], &[])]
    {
        ended(&orders, order).await;
        let trace = settled(&collector, order, |trace| missing(trace, hops, heard)).await;
        println!("{order}, {} spans:\n{}", trace.0.len(), trace.text());
        let commits = trace.0.iter().filter(|it| it.span.name == "commit").count();
        let works = |name: &str| name.starts_with("process ") || name.starts_with("decide ");
        let works = trace.0.iter().filter(|it| works(&it.span.name)).count();
        assert_eq!(commits, works, "each decision and each message is a commit");
    }

    let (shown, documented) = (services.metrics().await, Documented::read().metrics);
    assert!(shown.is_subset(&documented), "{shown:?} is documented: {documented:?}");
    // The others count what did not happen.
    assert!(shown.len() >= 11, "{shown:?}");

    let names: Vec<_> = (0..10).map(|n| format!("trace-killed-{n}")).collect();
    for (n, order) in names.iter().enumerate() {
        place(&orders, order, "u-1").await;
        if n == 4 {
            services.kill_and_restart("payments");
        }
    }
    for order in &names {
        ended(&orders, order).await;
        // A span that dies with its process is missing, and no other is an orphan for that.
        settled(&collector, order, |trace| {
            let count = trace.count();
            let steps = CONFIRMED.map(|(_, step, _)| step).into_iter().chain(["place-order"]);
            let told = |step: &&str| count.contains_key(&("orchestrator", *step));
            steps.filter(|step| !told(step)).map(ToOwned::to_owned).collect()
        })
        .await;
    }
    services.stop().await;
}

/// Returns the spans that are missing.
fn missing(trace: &Trace, hops: &[(&str, &str, &str)], heard: &[(&str, &str)]) -> Vec<String> {
    let mut expected: BTreeMap<(&str, &str), usize> =
        [(("orders", "POST /orders"), 1), (("orchestrator", "place-order"), 1)].into();
    for &(service, step, process) in hops {
        *expected.entry(("orchestrator", step)).or_default() += 1;
        *expected.entry((service, process)).or_default() += 1;
    }
    expected.extend(heard.iter().map(|&heard| (heard, 1)));
    let count = trace.count();
    let lacks = |(name, expected): (_, usize)| {
        let found = count.get(&name).copied().unwrap_or(0);
        (found < expected).then(|| format!("{found} of {expected} {name:?}"))
    };
    expected.into_iter().filter_map(lacks).collect()
}

/// Waits for the spans of an order, and returns them; they come some time after it has ended.
async fn settled(
    collector: &Collector,
    order: &str,
    missing: impl Fn(&Trace) -> Vec<String> + Send + Sync,
) -> Trace {
    let complete = async {
        loop {
            let trace = collector.trace_of(order);
            if trace.flaws().is_empty() && missing(&trace).is_empty() {
                return trace;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    if let Ok(trace) = timeout(PATIENCE, complete).await {
        return trace;
    }
    let trace = collector.trace_of(order);
    let (flaws, missing) = (trace.flaws(), missing(&trace));
    panic!("{order}: {flaws:?}, and it lacks {missing:?}:\n{}", trace.text());
}

async fn place(orders: &Client, order: &str, user: &str) {
    let body = json!({"order_id": order, "user_id": user, "amount": 20});
    let (status, answer) = orders.post("/orders", body).await.expect("an answer");
    assert_eq!(status, 202, "{answer}");
}

async fn ended(orders: &Client, order: &str) {
    let path = format!("/orders/{order}");
    let began = Instant::now();
    loop {
        let (_, shown) = orders.get(&path).await.expect("an answer");
        if matches!(shown["saga"]["status"].as_str(), Some("completed" | "compensated")) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{order} does not end: {shown:#}");
        sleep(Duration::from_millis(20)).await;
    }
}
