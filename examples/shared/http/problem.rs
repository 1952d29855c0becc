//! What went wrong with a request, as the client sees it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

/// An error of a request: a status, a code for programs, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    field: Option<String>,
    message: String,
}

impl Problem {
    /// 400: a field of the request cannot be used; the message goes on after the field's name.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self { field, ..Self::new(StatusCode::BAD_REQUEST, "invalid", message) }
    }

    /// The same for a field of a part of the request.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        Self { field: self.field.map(|field| format!("{part}.{field}")), ..self }
    }

    /// 404: what was asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// 409: it contradicts an earlier request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 503: the same request may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, field: None, message: message.into() }
    }
}

/// What the machinery could not do is logged, and not told to a stranger.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        error!(error = format!("{error:#}"), "a request failed");
        Self::unavailable("the service cannot do this now; try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let message = match &self.field {
            Some(field) => format!("{field} {}", self.message),
            None => self.message,
        };
        let body = json!({"error": self.code, "field": self.field, "message": message});
        (self.status, Json(body)).into_response()
    }
}
