//! What went wrong with a request, as the client sees it: problem details ([RFC 9457]).
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use saga_core::store::StoreError;
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// When to ask again if nothing is known of what is in the way.
const SOON: Duration = Duration::from_secs(1);

/// An error of a request: a status, a code for programs, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    field: Option<String>,
    detail: String,
    /// When to ask again, if that may help.
    retry_after: Option<Duration>,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ShownProblem {
    /// Names the kind of problem: `urn:orderweaver:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:orderweaver:invalid")]
    kind: String,
    /// The status in words.
    #[schema(example = "Bad Request")]
    title: &'static str,
    /// The status of the answer.
    #[schema(example = 400)]
    status: u16,
    /// What is wrong, and what would be right.
    #[schema(example = "amount must be more than 0")]
    detail: String,
    /// The kind of problem in one word, for programs.
    #[schema(example = "invalid")]
    code: &'static str,
    /// The field that cannot be used, if one is to blame.
    #[schema(example = "amount")]
    field: Option<String>,
}

impl Problem {
    /// 400: a field of the request cannot be used; the detail goes on after the field's name.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = field.into();
        let detail = format!("{field} {}", detail.into());
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, "invalid", detail) }
    }

    /// The same for a field of a part of the request.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        let field = self.field.map(|field| format!("{part}.{field}"));
        Self { field, detail: format!("{part}.{}", self.detail), ..self }
    }

    /// 404: what was asked for does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 409: it contradicts an earlier request, or what became of it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 503: the same request may succeed later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).later(SOON)
    }

    /// 429: this client has to wait.
    #[must_use]
    pub fn too_often(wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-often", "ask less often").later(wait)
    }

    /// 403: who asks may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, field: None, detail: detail.into(), retry_after: None }
    }

    fn later(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

/// What the machinery could not do is logged, and not told to a stranger.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        error!(error = format!("{error:#}"), "a request failed");
        Self::unavailable("the service cannot do this now; try again")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, field, detail, retry_after } = self;
        let shown = ShownProblem {
            kind: format!("urn:orderweaver:{code}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail,
            code,
            field,
        };
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        let mut response = (status, content_type, Json(shown)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = retry_after {
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// S16.
    #[test]
    fn what_failed_inside_is_not_told_to_a_stranger() {
        let error = anyhow!("relation \"account\" does not exist").context("select * from account");
        let problem = Problem::from(error);
        assert_eq!(
            (problem.status, problem.code),
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        );
        assert_eq!(problem.detail, "the service cannot do this now; try again");
        assert_eq!((problem.field, problem.retry_after), (None, Some(SOON)));
    }
}
