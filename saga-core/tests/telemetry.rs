//! What sagas tell of themselves: one trace each, across the engine and its participants, and metrics
//! whose series do not grow with the sagas.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context as TraceContext, KeyValue, global};
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use saga_core::{Engine, MemoryStore, MemoryTransport, RunningParticipant, Status};
use tokio::sync::Mutex;

use support::{Db, Effects, Shop, ended, engine, key, order, participants};

/// The providers are the program's, and so are the tests that read what they export.
static ALONE: Mutex<()> = Mutex::const_new(());

struct World {
    engine: Engine,
    tracers: SdkTracerProvider,
    spans: InMemorySpanExporter,
    meters: SdkMeterProvider,
    metrics: InMemoryMetricExporter,
    _participants: [RunningParticipant; 2],
}

impl World {
    fn new() -> Self {
        let spans = InMemorySpanExporter::default();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let metrics = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        global::set_tracer_provider(tracers.clone());
        global::set_meter_provider(meters.clone());
        let (transport, shop) = (MemoryTransport::new(), Shop::default());
        let db = Db::with_state(Effects::new());
        let participants = participants(&shop, &db, &transport);
        let engine = engine(MemoryStore::new(), &transport);
        Self { engine, tracers, spans, meters, metrics, _participants: participants }
    }

    /// Places an order inside a span, and returns its trace and that span.
    async fn place(&self, name: &str, trouble: &str, status: Status) -> (TraceId, SpanId) {
        let request = self.tracers.tracer("test").start("request");
        let request = TraceContext::new().with_span(request);
        let start = self.engine.start(key(name), order(name, trouble));
        let started = start.with_context(request.clone()).await;
        let saga = started.expect("accepted").saga();
        assert_eq!(ended(&self.engine, saga).await, status);
        let span = request.span();
        span.end();
        (span.span_context().trace_id(), span.span_context().span_id())
    }

    /// Stops everything, so that all is told, and returns the spans.
    async fn told(&self) -> Vec<SpanData> {
        self.engine.shutdown().await.expect("nothing made it stop");
        self.tracers.force_flush().expect("exported");
        self.spans.get_finished_spans().expect("spans")
    }

    fn metrics(&self) -> Metrics {
        self.meters.force_flush().expect("exported");
        let exported = self.metrics.get_finished_metrics().expect("metrics");
        Metrics::read(exported.last().expect("something was exported"))
    }
}

/// How often each series was added to or recorded.
struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    fn read(exported: &ResourceMetrics) -> Self {
        let mut series = BTreeMap::new();
        for metric in exported.scope_metrics().flat_map(ScopeMetrics::metrics) {
            let mut add = |labels: &mut dyn Iterator<Item = &KeyValue>, count: u64| {
                let mut labels: Vec<_> =
                    labels.map(|it| format!("{}={}", it.key, it.value)).collect();
                labels.sort();
                series.insert(format!("{} {}", metric.name(), labels.join(" ")), count);
            };
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    sum.data_points().for_each(|it| add(&mut it.attributes(), it.value()));
                }
                AggregatedMetrics::U64(MetricData::Histogram(histogram)) => {
                    histogram.data_points().for_each(|it| add(&mut it.attributes(), it.count()));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    histogram.data_points().for_each(|it| add(&mut it.attributes(), it.count()));
                }
                AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                    gauge.data_points().for_each(|it| add(&mut it.attributes(), 1));
                }
                other => panic!("{} is of a kind that nobody expects: {other:?}", metric.name()),
            }
        }
        Self(series)
    }

    fn count(&self, series: &str) -> u64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no series `{series}` in {:#?}", self.0))
    }
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key.as_str() == key);
    found.map(|it| it.value.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn a_saga_is_one_trace_under_what_started_it() {
    let _alone = ALONE.lock().await;
    let world = World::new();
    let (trace, request) = world.place("o-1", "reserve:flaky", Status::Completed).await;
    let spans = world.told().await;
    let ours: Vec<_> = spans.iter().filter(|span| span.span_context.trace_id() == trace).collect();

    let ids: HashSet<_> = ours.iter().map(|span| span.span_context.span_id()).collect();
    let mut names: HashMap<String, usize> = HashMap::new();
    for span in &ours {
        *names.entry(span.name.to_string()).or_default() += 1;
        let is_root = span.span_context.span_id() == request;
        assert_eq!(span.parent_span_id == SpanId::INVALID, is_root, "{} is no root", span.name);
        assert!(is_root || ids.contains(&span.parent_span_id), "{} is no orphan", span.name);
        assert!(span.start_time <= span.end_time, "{} ends before it begins", span.name);
    }
    // The first attempt to reserve fails, and the second one is another span.
    for (name, count) in [
        ("request", 1),
        ("order", 1),
        ("reserve", 2),
        ("authorize", 1),
        ("capture", 1),
        ("ship", 1),
        ("process Reserve", 2),
        ("process Authorize", 1),
        ("process Capture", 1),
        ("process Ship", 1),
    ] {
        assert_eq!(names.get(name), Some(&count), "{name} in {names:?}");
    }
    let worked = names["decide order"] + 5;
    assert_eq!(names["commit"], worked, "one commit of everything that was done");

    let attempts: HashSet<_> = ours
        .iter()
        .filter(|span| span.name == "reserve")
        .map(|it| (attribute(it, "saga.attempt"), attribute(it, "saga.outcome")))
        .collect();
    let expected = [("1", "failed"), ("2", "succeeded")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(attempts, expected.into());
    let received = ours.iter().find(|span| span.name == "process Ship").expect("it was counted");
    assert_eq!(received.span_kind, SpanKind::Consumer);
    assert_eq!(attribute(received, "messaging.destination.name"), "stock.commands");

    // A tick is a trace of its own, linked with the decisions in both directions.
    let decided: HashSet<_> = ours
        .iter()
        .filter(|span| span.name == "decide order")
        .map(|span| (span.span_context.span_id(), span.links.links[0].span_context.span_id()))
        .collect();
    let ticks = spans.iter().filter(|span| span.name == "tick");
    let linked: HashSet<_> = ticks
        .flat_map(|tick| {
            let links = tick.links.links.iter();
            links.map(|it| (it.span_context.span_id(), tick.span_context.span_id()))
        })
        .collect();
    assert_eq!(decided, linked);
}

#[tokio::test]
async fn what_is_not_sampled_and_what_nobody_traces_makes_no_spans() {
    let _alone = ALONE.lock().await;
    let world = World::new();
    let started = world.engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    assert_eq!(ended(&world.engine, started.saga()).await, Status::Completed);
    let (trace, span) = (TraceId::from(1), SpanId::from(1));
    let unsampled = SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, true, TraceState::NONE);
    let unsampled = TraceContext::new().with_remote_span_context(unsampled);
    let start = world.engine.start(key("o-2"), order("o-2", ""));
    let started = start.with_context(unsampled).await.expect("accepted");
    assert_eq!(ended(&world.engine, started.saga()).await, Status::Completed);
    assert!(world.told().await.is_empty(), "nobody wants to see them");
}

/// S19: ids are no labels.
#[tokio::test]
async fn sagas_are_counted_and_timed_and_add_no_series() {
    let _alone = ALONE.lock().await;
    let world = World::new();
    for (name, trouble, status) in [
        ("completed", "reserve:flaky", Status::Completed),
        ("compensated", "capture:reject", Status::Compensated),
        ("parked", "ship:terminal", Status::Parked),
    ] {
        world.place(name, trouble, status).await;
    }
    let metrics = world.metrics();
    for (series, count) in [
        ("saga.started saga.name=order", 3),
        ("saga.completed saga.name=order", 1),
        ("saga.compensated saga.name=order", 1),
        ("saga.parked saga.name=order", 1),
        ("saga.duration saga.name=order saga.outcome=completed", 1),
        ("saga.duration saga.name=order saga.outcome=compensated", 1),
        ("saga.step.retries saga.name=order saga.step=reserve", 1),
        ("saga.step.duration saga.name=order saga.outcome=succeeded saga.step=reserve", 3),
        ("saga.step.duration saga.name=order saga.outcome=failed saga.step=reserve", 1),
        ("saga.step.duration saga.name=order saga.outcome=compensated saga.step=reserve", 1),
        ("saga.step.duration saga.name=order saga.outcome=rejected saga.step=capture", 1),
        ("saga.timer.lag ", 1),
        ("saga.outbox.age saga.service=shop", 1),
        ("saga.outbox.age saga.service=bank", 1),
    ] {
        assert_eq!(metrics.count(series), count, "{series}");
    }
    let process = "messaging.process.duration messaging.destination.name=stock.commands messaging.operation.name=process";
    // Three reserved, of which one twice; one released, two shipped.
    assert_eq!(metrics.count(process), 7, "{process}");
    let ticks = metrics.count("saga.tick.size ");
    assert_eq!(metrics.count("saga.tick.commit.duration "), ticks);

    for n in 0..200 {
        world.place(&format!("o-{n}"), "", Status::Completed).await;
    }
    let more = world.metrics();
    let series = |metrics: &Metrics| metrics.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(series(&more), series(&metrics), "200 sagas more add no series");
    assert_eq!(more.count("saga.completed saga.name=order"), 201);
}
