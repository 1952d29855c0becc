//! `POST /orders/{order_id}/cancel`.

use anyhow::anyhow;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::database::Database;
use chassis::http::{Caller, Path, Problem, ShownProblem};

use super::super::{OrderRepository, Status};
use super::{Api, ShownOrder};

/// Cancels an order: what was done for it is undone.
///
/// That is possible until its payment is captured. May be repeated.
#[utoipa::path(
    post,
    path = "/orders/{order_id}/cancel",
    tag = "orders",
    params(("order_id" = String, Path, description = "The order.", example = "o-1")),
    responses(
        (status = 202, description = "Its saga turns back; the order will be rejected.", body = ShownOrder),
        (status = 404, description = "There is no such order.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 409, description = "It is too late.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn cancel_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    caller: Caller,
    Path(order_id): Path,
) -> Result<(StatusCode, Json<ShownOrder>), Problem> {
    let order = api.find(&order_id, &caller).await?;
    match order.status {
        Status::Pending => {}
        // It was cancelled before, or might as well have been.
        Status::Rejected => return Ok((StatusCode::ACCEPTED, Json(ShownOrder::new(order, None)))),
        Status::Confirmed => return Err(Problem::conflict("the order is confirmed already")),
    }
    let asked = api.orchestrator.post(&format!("/sagas/{order_id}/cancel"), "").await;
    let (status, answer) = asked.map_err(anyhow::Error::from)?;
    match status {
        StatusCode::ACCEPTED => Ok((StatusCode::ACCEPTED, Json(ShownOrder::new(order, None)))),
        StatusCode::CONFLICT => Err(Problem::conflict("it is too late: the payment is captured")),
        StatusCode::NOT_FOUND => Err(Problem::unavailable("its saga has not begun yet; try again")),
        _ => Err(anyhow!("the orchestrator answered {status}: {answer}").into()),
    }
}
