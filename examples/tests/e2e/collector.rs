//! Whoever the services send their traces to: OTLP over HTTP, and what has come in so far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use chassis::http;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

/// How long a service may be silent before it sends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Collects spans until it is dropped with its runtime.
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Spans,
}

type Spans = Arc<Mutex<Vec<Collected>>>;

/// A span, and the service that sent it.
#[derive(Clone)]
pub(crate) struct Collected {
    pub(crate) service: String,
    pub(crate) span: Span,
}

/// All spans of one trace, by time.
pub(crate) struct Trace(pub(crate) Vec<Collected>);

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Spans::default();
        let router =
            Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&spans));
        tokio::spawn(http::serve(listener, router, PATIENCE, std::future::pending()));
        Self { url, spans }
    }

    /// Returns all spans that have come in.
    pub(crate) fn spans(&self) -> Vec<Collected> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the trace of an order: the one in which a command about it was carried out.
    pub(crate) fn trace_of(&self, order: &str) -> Trace {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let is_about = |it: &&Collected| it.attribute("messaging.message.conversation_id") == order;
        let trace = spans.iter().find(is_about).map(|it| it.span.trace_id.clone());
        let of_trace = spans.iter().filter(|it| Some(&it.span.trace_id) == trace.as_ref());
        let mut trace: Vec<_> = of_trace.cloned().collect();
        trace.sort_by_key(|it| (it.span.start_time_unix_nano, it.span.end_time_unix_nano));
        Trace(trace)
    }
}

async fn collect(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|it| it.attributes).unwrap_or_default();
        let service = attribute(&attributes, "service.name");
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Collected { service: service.clone(), span });
        }
    }
    StatusCode::OK
}

impl Collected {
    pub(crate) fn attribute(&self, key: &str) -> String {
        attribute(&self.span.attributes, key)
    }

    fn is_root(&self) -> bool {
        self.span.parent_span_id.is_empty()
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|it| it.key == key);
    match value.and_then(|it| it.value.as_ref()).and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

impl Trace {
    /// Returns how often there is a span of a name, by service and name.
    pub(crate) fn count(&self) -> BTreeMap<(&str, &str), usize> {
        let mut count = BTreeMap::new();
        for it in &self.0 {
            *count.entry((it.service.as_str(), it.span.name.as_str())).or_default() += 1;
        }
        count
    }

    /// Returns what is wrong with its shape: it has one root, and each other span a parent in it.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let ids: HashSet<_> = self.0.iter().map(|it| &it.span.span_id).collect();
        let roots = self.0.iter().filter(|it| it.is_root()).count();
        let orphans =
            self.0.iter().filter(|it| !it.is_root() && !ids.contains(&it.span.parent_span_id));
        let mut flaws: Vec<_> =
            orphans.map(|it| format!("{} of {} is an orphan", it.span.name, it.service)).collect();
        if roots != 1 {
            flaws.push(format!("it has {roots} roots"));
        }
        flaws
    }

    /// Returns the trace as text: a line for each span, with its time since the first one.
    pub(crate) fn text(&self) -> String {
        let parents: HashMap<_, _> =
            self.0.iter().map(|it| (&it.span.span_id, &it.span.parent_span_id)).collect();
        let begin = self.0.first().map_or(0, |it| it.span.start_time_unix_nano);
        let mut text = String::new();
        for Collected { service, span } in &self.0 {
            let mut depth = 0;
            let mut at = &span.span_id;
            while let Some(parent) = parents.get(at).filter(|_| depth < 8) {
                depth += 1;
                at = parent;
            }
            let millis = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e3;
            let from = millis(span.start_time_unix_nano.saturating_sub(begin));
            let took = millis(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
            let name = format!("{:width$}{}", "", span.name, width = 2 * (depth - 1));
            writeln!(text, "{from:>9.2} ms {took:>9.2} ms  {service:<13} {name}").expect("text");
        }
        text
    }
}
