//! `GET /orders`.

use std::ops::RangeInclusive;

use axum::Json;
use axum::extract::State;
use chassis::database::Database;
use chassis::http::{Caller, Page, Problem, Query, ShownProblem, fields, limit, no_next};
use saga_core::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::{OrderFilter, OrderRepository, Place, Status};
use super::{Api, ShownOrder};

/// The times that can be stored, in microseconds: up to the year 9999.
const YEARS: RangeInclusive<i64> = 0..=253_402_300_799_999_999;

/// Which orders are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListOrders {
    /// Only orders of this status.
    status: Option<Status>,
    /// Only orders of this customer.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    user_id: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Lists orders, the newest first.
#[utoipa::path(
    get,
    path = "/orders",
    tag = "orders",
    params(ListOrders),
    responses(
        (status = 200, description = "A page of orders.", body = Page<ShownOrder>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list_orders<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    caller: Caller,
    Query(asked): Query<ListOrders>,
) -> Result<Json<Page<ShownOrder>>, Problem> {
    let limit = limit(asked.limit)?;
    if asked.user_id.as_deref().is_some_and(|user_id| !fields::is_id(user_id)) {
        return Err(Problem::invalid("user_id", fields::ID));
    }
    let after = asked.after.as_deref().map(place).transpose()?;
    if asked.user_id.as_deref().is_some_and(|user_id| !caller.may_see(user_id)) {
        return Err(Problem::forbidden("this token is another customer's"));
    }
    let filter = OrderFilter { status: asked.status, user_id: asked.user_id.or(caller.user_id) };
    let orders = list(&api, &filter, after.as_ref(), limit + 1).await?;
    let page = Page::new(orders, limit, |last| {
        format!("{}_{}", last.placed_at.as_micros(), last.order_id)
    });
    Ok(Json(page.map(|order| ShownOrder::new(order, None))))
}

async fn list<D: Database<Connection: OrderRepository>>(
    api: &Api<D>,
    filter: &OrderFilter,
    after: Option<&Place>,
    limit: usize,
) -> anyhow::Result<Vec<super::Order>> {
    let mut transaction = api.database.begin().await?;
    D::connection(&mut transaction).list(filter, after, limit).await
}

/// Reads where a page begins.
fn place(text: &str) -> Result<Place, Problem> {
    let place = text.split_once('_').and_then(|(micros, order_id)| {
        let placed_at =
            Timestamp::from_micros(micros.parse().ok().filter(|it| YEARS.contains(it))?);
        fields::is_id(order_id).then(|| Place { placed_at, order_id: order_id.to_owned() })
    });
    place.ok_or_else(no_next)
}
