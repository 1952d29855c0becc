//! The HTTP interface: look at the stock and at reservations, and take deliveries.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::database::Database;
use chassis::http::fields::{Fields, is_id, object};
use chassis::http::{Page, Path, Problem, Query, ShownProblem, documented, limit, no_next};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::{Article, Reservation, ReservationState, StockQueries, StockRepository as _};
use crate::contract::messages::inventory::Item;

/// Most pieces of one delivery.
const QUANTITY_MAX: u32 = 1_000_000;
/// Most pieces of an article that there is room for.
const ON_HAND_MAX: u32 = 2_000_000_000;

/// Returns the routes.
pub(super) fn router<D: Database<Connection: StockQueries>>(database: D) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(documented(__path_list_stock, list_stock::<D>))
        .routes(documented(__path_show_article, show_article::<D>))
        .routes(documented(__path_deliver, deliver::<D>))
        .routes(documented(__path_list_reservations, list_reservations::<D>))
        .routes(documented(__path_show_reservations, show_reservations::<D>))
        .with_state(database)
}

/// A part of the stock.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListStock {
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Lists the stock, by article.
#[utoipa::path(
    get, path = "/stock", tag = "stock", params(ListStock),
    responses(
        (status = 200, description = "A page of articles.", body = Page<Article>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_stock<D: Database<Connection: StockQueries>>(
    State(database): State<D>,
    Query(asked): Query<ListStock>,
) -> Result<Json<Page<Article>>, Problem> {
    let limit = limit(asked.limit)?;
    if asked.after.as_deref().is_some_and(|after| !is_id(after)) {
        return Err(no_next());
    }
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    let articles = db.articles(asked.after.as_deref(), limit + 1).await?;
    Ok(Json(Page::new(articles, limit, |last| last.sku.clone())))
}

/// Shows an article.
#[utoipa::path(
    get, path = "/stock/{sku}", tag = "stock",
    params(("sku" = String, Path, description = "The article.", example = "coffee-beans")),
    responses(
        (status = 200, description = "The article.", body = Article),
        (status = 404, description = "There is no such article.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_article<D: Database<Connection: StockQueries>>(
    State(database): State<D>,
    Path(sku): Path,
) -> Result<Json<Article>, Problem> {
    let article = if is_id(&sku) { find(&database, &sku).await? } else { None };
    article.map(Json).ok_or_else(|| Problem::not_found(format!("there is no article {sku}")))
}

/// The body of a delivery.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it says what `deliver` reads")]
struct NewDelivery {
    /// What makes a repeated request harmless.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "d-1")]
    delivery_id: String,
    /// How many pieces came.
    #[schema(minimum = 1, maximum = 1_000_000, example = 100)]
    quantity: u32,
}

/// Takes a delivery of an article, which may be a new one.
///
/// The same delivery may be sent again: it is taken once.
#[utoipa::path(
    post, path = "/stock/{sku}/deliveries", tag = "stock",
    params(("sku" = String, Path, description = "The article.", example = "coffee-beans")),
    request_body = NewDelivery,
    responses(
        (status = 201, description = "Taken, now or earlier: the article after it.", body = Article),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 404, description = "This cannot be an article.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 409, description = "Another delivery has this id, or there is no room.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn deliver<D: Database<Connection: StockQueries>>(
    State(database): State<D>,
    Path(sku): Path,
    body: Bytes,
) -> Result<(StatusCode, Json<Article>), Problem> {
    if !is_id(&sku) {
        return Err(Problem::not_found("an article is 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    let body = object(&body)?;
    let fields = Fields::new(&body, &["delivery_id", "quantity"])?;
    let delivery_id = fields.id("delivery_id")?;
    let item = Item { sku, quantity: fields.count("quantity", QUANTITY_MAX)? };
    let on_hand = find(&database, &item.sku).await?.map_or(0, |it| it.on_hand);
    if on_hand.saturating_add(item.quantity) > ON_HAND_MAX {
        return Err(Problem::conflict("there is no room for so many pieces"));
    }
    if !take_delivery(&database, &delivery_id, &item).await? {
        return Err(Problem::conflict(format!("another delivery has the id {delivery_id}")));
    }
    let article = find(&database, &item.sku).await?;
    let article = article.ok_or_else(|| Problem::unavailable("the article is not there yet"))?;
    Ok((StatusCode::CREATED, Json(article)))
}

/// Takes a delivery, once. Returns false if another one has its id.
async fn take_delivery<D: Database<Connection: StockQueries>>(
    database: &D,
    delivery_id: &str,
    item: &Item,
) -> anyhow::Result<bool> {
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    if !db.deliver(delivery_id, item).await? {
        return Ok(db.find_delivery(delivery_id).await?.is_some_and(|first| first == *item));
    }
    D::commit(transaction).await?;
    Ok(true)
}

/// Which reservations are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListReservations {
    /// Only those in this state.
    state: Option<ReservationState>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Lists reservations, by order and article.
#[utoipa::path(
    get, path = "/reservations", tag = "reservations", params(ListReservations),
    responses(
        (status = 200, description = "A page of reservations.", body = Page<Reservation>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_reservations<D: Database<Connection: StockQueries>>(
    State(database): State<D>,
    Query(asked): Query<ListReservations>,
) -> Result<Json<Page<Reservation>>, Problem> {
    let limit = limit(asked.limit)?;
    let place = |text: &'_ str| -> Option<(String, String)> {
        let (order_id, sku) = text.split_once('~')?;
        (is_id(order_id) && is_id(sku)).then(|| (order_id.to_owned(), sku.to_owned()))
    };
    let after = asked.after.map(|text| place(&text).ok_or_else(no_next)).transpose()?;
    let after = after.as_ref().map(|(order_id, sku)| (order_id.as_str(), sku.as_str()));
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    let reservations = db.reservations(asked.state, after, limit + 1).await?;
    Ok(Json(Page::new(reservations, limit, |last| format!("{}~{}", last.order_id, last.sku))))
}

/// Shows what was set aside for an order.
#[utoipa::path(
    get, path = "/reservations/{order_id}", tag = "reservations",
    params(("order_id" = String, Path, description = "The order.", example = "o-1")),
    responses(
        (status = 200, description = "Its reservations.", body = Vec<Reservation>),
        (status = 404, description = "Nothing was ever set aside for this order.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_reservations<D: Database<Connection: StockQueries>>(
    State(database): State<D>,
    Path(order_id): Path,
) -> Result<Json<Vec<Reservation>>, Problem> {
    let nothing = || Problem::not_found(format!("nothing was set aside for order {order_id}"));
    if !is_id(&order_id) {
        return Err(nothing());
    }
    let mut transaction = database.begin().await?;
    let reservations = D::connection(&mut transaction).reservations_of(&order_id).await?;
    if reservations.is_empty() { Err(nothing()) } else { Ok(Json(reservations)) }
}

async fn find<D: Database<Connection: StockQueries>>(
    database: &D,
    sku: &str,
) -> anyhow::Result<Option<Article>> {
    let mut transaction = database.begin().await?;
    D::connection(&mut transaction).article(sku).await
}
