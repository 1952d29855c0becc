//! What every request has to pass: who asks, how often, how many at once, and how long it takes.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, Tokens};

/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most requests that are worked on at once.
const AT_ONCE: usize = 512;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests a second one client may send for long, and twice that at once.
const RATE: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");
/// So many clients are remembered before those are forgotten who ask for nothing any more.
const CLIENTS_MAX: usize = 10_000;

/// What requests pass.
struct Guard {
    tokens: Tokens,
    /// Whether a customer may ask, and is shown what is theirs.
    is_for_customers: bool,
    rate: DefaultKeyedRateLimiter<IpAddr>,
    room: Semaphore,
}

/// Lets requests for these routes pass only if who asks may, and if they are few and small enough; answers them in
/// time. A customer may ask only if the routes are for customers: then each of them looks at the [`Caller`](super::Caller).
pub fn guarded(routes: OpenApiRouter, tokens: Tokens, is_for_customers: bool) -> OpenApiRouter {
    let quota =
        Quota::per_second(RATE).allow_burst(RATE.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
    let (rate, room) = (RateLimiter::keyed(quota), Semaphore::new(AT_ONCE));
    let guard = Guard { tokens, is_for_customers, rate, room };
    routes
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if let Some(wait) = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .and_then(|ConnectInfo(peer)| guard.too_often(peer.ip()))
    {
        return Problem::too_often(wait).into_response();
    }
    match guard.tokens.caller(request.method(), request.headers()) {
        Ok(caller) if caller.user_id.is_some() && !guard.is_for_customers => {
            return Problem::forbidden("this is not for customers").into_response();
        }
        Ok(caller) => _ = request.extensions_mut().insert(caller),
        Err(problem) => return problem.into_response(),
    }
    let Ok(_room) = guard.room.try_acquire() else {
        return Problem::unavailable("too much is asked for at once").into_response();
    };
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("it took too long; try again").into_response(),
    }
}

impl Guard {
    /// Returns how long a client has to wait, if it has to.
    fn too_often(&self, client: IpAddr) -> Option<Duration> {
        if self.rate.len() > CLIENTS_MAX {
            self.rate.retain_recent();
        }
        let refused = self.rate.check_key(&client).err()?;
        Some(refused.wait_time_from(DefaultClock::default().now()))
    }
}
