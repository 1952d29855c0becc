//! HTTP: what the interfaces of the services have in common, and a small client of them.

mod client;
mod docs;
mod extract;
pub mod fields;
mod guard;
mod observed;
mod page;
mod probes;
mod problem;
mod server;
mod tokens;

pub use client::{Client, NoAnswer};
pub use docs::{described, documented};
pub use extract::{Path, Query};
pub use guard::guarded;
pub use observed::observed;
pub use page::{Page, limit, no_next};
pub use probes::probes;
pub use problem::{Problem, ShownProblem};
pub use server::serve;
pub use tokens::{Caller, Tokens};

/// Answers what no route answers.
pub async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path")
}
