//! What every request has to pass: who asks, how often, how many at once, and how long it takes.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, Tokens};

/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// So many clients are remembered before those are forgotten who ask for nothing any more.
const CLIENTS_MAX: usize = 10_000;

/// How much can be asked of a service, beside its probes and its description.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most requests that are worked on at once; further ones are told to come later. 512 by default. One that is
    /// answered by a stream counts until the stream begins.
    pub at_once: usize,
    /// How long a client may take for the head of a request, then for its body, and for anything that it is sent;
    /// and how long it may take until an answer begins. 10 s by default, an hour at most.
    pub patience: Duration,
    /// How many requests a second one client may send for long, and twice that at once. 2,000 by default.
    pub per_second: NonZeroU32,
}

/// What requests pass.
struct Guard {
    tokens: Tokens,
    /// Whether a customer may ask, and is shown what is theirs.
    is_for_customers: bool,
    rate: DefaultKeyedRateLimiter<IpAddr>,
    room: Semaphore,
    patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            at_once: 512,
            patience: Duration::from_secs(10),
            per_second: const { NonZeroU32::new(2_000).expect("not zero") },
        }
    }
}

impl Limits {
    /// Returns how long somebody is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.min(Duration::from_hours(1))
    }
}

/// Lets requests for these routes pass only if who asks may, and if they are few and small enough; answers them in
/// time. A customer may ask only if the routes are for customers: then each of them looks at the [`Caller`](super::Caller).
pub fn guarded(
    routes: OpenApiRouter,
    tokens: Tokens,
    is_for_customers: bool,
    limits: Limits,
) -> OpenApiRouter {
    let Limits { at_once, per_second, .. } = limits;
    let patience = limits.patience();
    let burst = per_second.saturating_mul(const { NonZeroU32::new(2).expect("not zero") });
    let rate = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
    let room = Semaphore::new(at_once.min(Semaphore::MAX_PERMITS));
    let guard = Guard { tokens, is_for_customers, rate, room, patience };
    routes.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    guard.answer(request, next).await.unwrap_or_else(IntoResponse::into_response)
}

impl Guard {
    async fn answer(&self, request: Request, next: Next) -> Result<Response, Problem> {
        let (mut head, body) = request.into_parts();
        if let Some(ConnectInfo(peer)) = head.extensions.get::<ConnectInfo<SocketAddr>>() {
            self.not_too_often(peer.ip())?;
        }
        let caller = self.tokens.caller(&head.method, &head.headers)?;
        if caller.user_id.is_some() && !self.is_for_customers {
            return Err(Problem::forbidden("this is not for customers"));
        }
        head.extensions.insert(caller);
        // Who sends slowly takes up no place.
        let body = self.whole(body).await?;
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Problem::unavailable("too much is asked for at once"));
        };
        let answer = next.run(Request::from_parts(head, Body::from(body)));
        let too_long = |_| Problem::unavailable("it took too long; try again");
        tokio::time::timeout(self.patience, answer).await.map_err(too_long)
    }

    fn not_too_often(&self, client: IpAddr) -> Result<(), Problem> {
        if self.rate.len() > CLIENTS_MAX {
            self.rate.retain_recent();
        }
        let wait = |not: NotUntil<_>| not.wait_time_from(DefaultClock::default().now());
        self.rate.check_key(&client).map_err(|not| Problem::too_often(wait(not)))
    }

    async fn whole(&self, body: Body) -> Result<Vec<u8>, Problem> {
        match tokio::time::timeout(self.patience, read(body)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let detail = "the body is too large";
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail))
            }
            Ok(Err(_)) => Err(Problem::invalid("body", "cannot be read")),
            Err(_) => {
                let detail = "the body did not come in time";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail))
            }
        }
    }
}

/// Reads a body to its end. What came in many pieces is kept as one.
async fn read(body: Body) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let (mut body, mut whole) = (Limited::new(body, BODY_BYTES_MAX), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole)
}
