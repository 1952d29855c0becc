//! `GET /orders/{order_id}/events`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use chassis::database::Database;
use chassis::http::{Caller, Path, Problem, ShownProblem};
use futures_util::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::warn;

use super::super::{OrderRepository, Status};
use super::{Api, ShownOrder};

/// Most orders that are followed at once.
pub const FOLLOWERS_MAX: usize = 200;
/// How long one is followed; who wants to know more asks again, as a browser does by itself.
const FOLLOWED_FOR: Duration = Duration::from_mins(5);
/// How often an order is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Somebody who follows an order.
struct Follower<D> {
    api: Api<D>,
    caller: Caller,
    order_id: String,
    /// How much of the timeline was told.
    told: usize,
    to_tell: VecDeque<Event>,
    has_ended: bool,
    until: Instant,
    _room: OwnedSemaphorePermit,
}

/// Follows an order until it ends, as server-sent events.
///
/// `entry` is what happened to its saga, one after the other; `order` is the order once it has ended, and the
/// last event. A stream that ends without it, after five minutes or because the service stops, is to be asked for again.
#[utoipa::path(
    get,
    path = "/orders/{order_id}/events",
    tag = "orders",
    params(("order_id" = String, Path, description = "The order.", example = "o-1")),
    responses(
        (status = 200, description = "What happens to the order.", body = String, content_type = "text/event-stream"),
        (status = 404, description = "There is no such order.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn follow_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    caller: Caller,
    Path(order_id): Path,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Ok(room) = api.followers.clone().try_acquire_owned() else {
        return Err(Problem::unavailable("too many orders are followed; ask for this one itself"));
    };
    api.find(&order_id, &caller).await?;
    let (told, to_tell, has_ended) = (0, VecDeque::new(), false);
    let until = Instant::now() + FOLLOWED_FOR;
    let follower = Follower { api, caller, order_id, told, to_tell, has_ended, until, _room: room };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

impl<D: Database<Connection: OrderRepository>> Follower<D> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.to_tell.pop_front() {
                return Some(event);
            }
            if self.has_ended || Instant::now() > self.until {
                return None;
            }
            if let Err(error) = self.look().await {
                warn!(
                    order_id = self.order_id,
                    error = format!("{error:#}"),
                    "cannot be followed; trying again"
                );
            }
            if self.to_tell.is_empty() {
                let pause = tokio::time::sleep(LOOK_EVERY);
                self.api.draining.run_until_cancelled(pause).await?;
            }
        }
    }

    /// Looks at what has happened since the last look.
    async fn look(&mut self) -> anyhow::Result<()> {
        let Some(order) = self.api.read(&self.order_id, &self.caller).await? else { return Ok(()) };
        let Some(saga) = self.api.saga(&self.order_id).await? else { return Ok(()) };
        for entry in saga.timeline.iter().skip(self.told) {
            self.to_tell.push_back(Event::default().event("entry").json_data(entry)?);
        }
        self.told = saga.timeline.len();
        // A saga that is parked leaves its order pending until a person has looked.
        let is_open = order.status == Status::Pending && saga.status != "parked";
        if saga.has_ended() && !is_open {
            let order = ShownOrder::new(order, Some(saga));
            self.to_tell.push_back(Event::default().event("order").json_data(order)?);
            self.has_ended = true;
        }
        Ok(())
    }
}
