//! HTTP: what the interfaces of the services have in common, and a small client of them.

mod client;
mod docs;
mod extract;
pub mod fields;
mod guard;
mod headers;
mod observed;
mod page;
mod probes;
mod problem;
mod server;
mod tokens;

use axum::http::StatusCode;

pub use client::{Client, NoAnswer};
pub use docs::{described, documented};
pub use extract::{Path, Query};
pub use guard::{Limits, guarded};
pub use headers::safe;
pub use observed::observed;
pub use page::{Page, limit, no_next};
pub use probes::probes;
pub use problem::{Problem, ShownProblem};
pub use server::serve;
pub use tokens::{Caller, Tokens};

/// Answers a method that a path does not have.
pub async fn no_such_method() -> Problem {
    let detail = "this path has other methods; see /docs";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", detail)
}

/// Answers what no route answers.
pub async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path")
}
