//! What every answer says to browsers, as [OWASP] recommends for interfaces that are not pages.
//!
//! [OWASP]: https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers

use axum::http::{HeaderValue, header};
use axum::response::Response;

/// Forbids to keep an answer, to guess what it is, and to show it in somebody else's page.
pub async fn safe(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let nobody = HeaderValue::from_static("frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nobody);
    answer
}
