//! What a service shows of itself: metrics at `/metrics`, and traces to whoever collects them.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::global;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use prometheus::{Registry, TextEncoder};
use saga_core::ParticipantName;

use super::config::variable;

/// How long spans wait to be sent together, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise: a process that is
/// killed takes those with it that it has not sent.
const SEND_EVERY: Duration = Duration::from_millis(500);

/// The metrics of this process.
static METRICS: OnceLock<Registry> = OnceLock::new();

/// Sends what is left when it is dropped.
#[derive(Debug)]
#[must_use = "what is left is sent when it is dropped"]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Starts to count, and to send traces if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Comes before what is to be seen.
///
/// # Errors
///
/// One line that says what to set.
pub fn install(service: &ParticipantName) -> anyhow::Result<Telemetry> {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    let resource = Resource::builder();
    let resource = match variable("OTEL_SERVICE_NAME")? {
        Some(_) => resource,
        None => resource.with_service_name(service.to_string()),
    };
    let resource = resource.build();
    let meters =
        SdkMeterProvider::builder().with_reader(exporter).with_resource(resource.clone()).build();
    // A second service of this process is counted with the first.
    if METRICS.set(registry).is_ok() {
        global::set_meter_provider(meters);
    }
    let is_disabled = variable("OTEL_DISABLED")?.is_some_and(|it| it != "false" && it != "0");
    if is_disabled || variable("OTEL_EXPORTER_OTLP_ENDPOINT")?.is_none() {
        return Ok(Telemetry(None));
    }
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.context(
        "OTEL_EXPORTER_OTLP_ENDPOINT cannot be used; set it to a URL such as http://localhost:4318",
    )?;
    let batches = BatchConfigBuilder::default();
    let batches = match variable("OTEL_BSP_SCHEDULE_DELAY")? {
        Some(_) => batches,
        None => batches.with_scheduled_delay(SEND_EVERY),
    };
    let sender = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let tracers =
        SdkTracerProvider::builder().with_span_processor(sender).with_resource(resource).build();
    global::set_tracer_provider(tracers.clone());
    Ok(Telemetry(Some(tracers)))
}

/// Returns the metrics of this process, as Prometheus reads them.
///
/// # Errors
///
/// If they cannot be written down.
pub fn metrics() -> anyhow::Result<String> {
    let families = METRICS.get().map(Registry::gather).unwrap_or_default();
    Ok(TextEncoder::new().encode_to_string(&families)?)
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
