//! What a request carries, or a problem that says what is wrong with it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;

/// The query of a request; a field that nobody knows is refused if its type says so.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The variable part of a path.
#[derive(Debug)]
pub struct Path(pub String);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read =
            <axum::extract::Query<T> as FromRequestParts<S>>::from_request_parts(parts, state);
        match read.await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(error) => {
                Err(Problem::invalid("query", format!("cannot be read: {}", error.body_text())))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read =
            <axum::extract::Path<String> as FromRequestParts<S>>::from_request_parts(parts, state);
        match read.await {
            Ok(axum::extract::Path(text)) => Ok(Self(text)),
            // It is no text, so nothing has this name.
            Err(_) => Err(Problem::not_found("there is nothing of this name")),
        }
    }
}
