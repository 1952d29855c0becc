//! Requests as they are seen from outside: each a span, a measured time, and a name in the logs.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::Histogram;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    FutureExt as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument as _, info_span};
use utoipa_axum::router::OpenApiRouter;

/// From 1 ms to the longest that a request may take.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

struct Instruments {
    tracer: BoxedTracer,
    duration: Histogram<f64>,
}

/// Lets requests for these routes be seen. A request belongs to the trace that its `traceparent` names, or begins one.
pub fn observed(routes: OpenApiRouter) -> OpenApiRouter {
    let duration = global::meter("chassis")
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .with_description("From a request's arrival to the head of its response")
        .with_boundaries(SECONDS.to_vec())
        .build();
    let instruments = Instruments { tracer: global::tracer("chassis"), duration };
    routes.layer(from_fn_with_state(Arc::new(instruments), observe))
}

async fn observe(
    State(instruments): State<Arc<Instruments>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    // The route and not the path: an id in it would make every request another.
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let route = route.to_owned();
    let about = [
        KeyValue::new("http.request.method", known(&method)),
        KeyValue::new("http.route", route.clone()),
    ];
    let caller = TraceContextPropagator::new();
    let caller = caller.extract_with_context(&Context::new(), &Headers(request.headers()));
    let span = SpanBuilder::from_name(format!("{} {route}", known(&method)))
        .with_kind(SpanKind::Server)
        .with_attributes(about.clone());
    let inside = caller.with_span(instruments.tracer.build_with_context(span, &caller));
    let trace = inside.span().span_context().trace_id();
    let log = info_span!("request", %method, route, %trace);
    let response = next.run(request).with_context(inside.clone()).instrument(log).await;

    let status = response.status();
    let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        inside.span().set_status(Status::error(status.to_string()));
    }
    inside.span().set_attribute(code.clone());
    inside.span().end();
    let [method, route] = about;
    instruments.duration.record(begun.elapsed().as_secs_f64(), &[method, route, code]);
    response
}

/// Names a method; one that a client made up is another, so that no client can add series.
fn known(method: &Method) -> &'static str {
    let all = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    all.into_iter().find(|it| *it == method.as_str()).unwrap_or("_OTHER")
}

/// The headers of a request.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_client_made_up_is_another() {
        assert_eq!(known(&Method::POST), "POST");
        let made_up = Method::from_bytes(b"FOO-1").expect("a method may have any name");
        assert_eq!(known(&made_up), "_OTHER");
    }
}
