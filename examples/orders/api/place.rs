//! `POST /orders`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chassis::database::Database;
use chassis::http::{Caller, Problem, ShownProblem};
use tracing::info;

use super::super::place::Placed;
use super::super::{OrderRepository, PlacedOrder};
use super::{Api, request};

/// Places an order.
///
/// The same order may be sent again, for example because the answer was lost: it is placed once, and the
/// answer is the same.
#[utoipa::path(
    post,
    path = "/orders",
    tag = "orders",
    request_body = request::NewOrder,
    responses(
        (status = 202, description = "Accepted, now or earlier.", body = PlacedOrder,
            headers(("Location" = String, description = "Where the order is."))),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 409, description = "Another order has this id.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn place_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let order = request::read(&body)?;
    if !caller.may_see(&order.user_id) {
        return Err(Problem::forbidden("this token is another customer's"));
    }
    let (order_id, shown) = (order.order_id.clone(), order.as_placed());
    match api.desk.place(order).await? {
        Placed::Now => info!(order_id, "order accepted"),
        Placed::Before => {}
        Placed::Taken => {
            return Err(Problem::conflict(format!("another order has the id {order_id}")));
        }
    }
    let location = [(header::LOCATION, format!("/orders/{order_id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(shown)).into_response())
}
