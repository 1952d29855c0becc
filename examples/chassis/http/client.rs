//! A client for the services' own interfaces: JSON both ways, on connections that are kept.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use saga_core::BoxError;
use serde_json::Value;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks one service. An answer that takes longer than 2 s is no answer.
#[derive(Debug, Clone)]
pub struct Client {
    authority: Authority,
    connections: legacy::Client<HttpConnector, Body>,
    /// What it says it may ask with.
    authorization: Option<HeaderValue>,
}

/// A request that was not answered; whether it took effect is unknown.
#[derive(Debug, thiserror::Error)]
#[error("no answer from {authority}")]
pub struct NoAnswer {
    authority: Authority,
    source: BoxError,
}

impl Client {
    /// Makes a client for a service, from a URL such as `http://127.0.0.1:8004`.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    pub fn new(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL")?;
        let parts = uri.into_parts();
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority)) if scheme == Scheme::HTTP => {
                let connections = legacy::Client::builder(TokioExecutor::new()).build_http();
                Ok(Self { authority, connections, authorization: None })
            }
            _ => Err("it must look like http://host:port"),
        }
    }

    /// Asks with a token.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn token(self, token: &str) -> Result<Self, &'static str> {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| "a token is printable characters")?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// Asks for a resource.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value), NoAnswer> {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// Asks for a resource that is no JSON, such as a stream that ends.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn text(&self, path: &str) -> Result<String, NoAnswer> {
        let (_, body) = self.ask(Method::GET, path, Body::empty()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a body, most often JSON.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn post(
        &self,
        path: &str,
        body: impl ToString + Send,
    ) -> Result<(StatusCode, Value), NoAnswer> {
        self.send(Method::POST, path, Body::from(body.to_string())).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, Value), NoAnswer> {
        let (status, body) = self.ask(method, path, body).await?;
        let answer = serde_json::from_slice(&body).map_err(|error| self.none(error))?;
        Ok((status, answer))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await;
        answer.map_err(Into::into).flatten().map_err(|error| self.none(error))
    }

    fn none(&self, source: impl Into<BoxError>) -> NoAnswer {
        NoAnswer { authority: self.authority.clone(), source: source.into() }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, Bytes), BoxError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let (head, body) = self.connections.request(request).await?.into_parts();
        let body = axum::body::to_bytes(Body::new(body), ANSWER_BYTES_MAX).await?;
        Ok((head.status, body))
    }
}
