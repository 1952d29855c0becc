//! The HTTP interface: look at accounts, their ledgers and payments, and put money on an account.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::database::Database;
use chassis::http::fields::{Fields, amount_schema, is_id, object};
use chassis::http::{Page, Path, Problem, Query, ShownProblem, documented, limit, no_next};
use chassis::money::{CURRENCY, Money};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::{
    Account, AccountRepository as _, BookQueries, Entry, Hold, PaymentState, Standing, Summary,
    SummaryRepository,
};

/// Returns the routes.
pub(super) fn router<D>(database: D) -> OpenApiRouter
where
    D: Database<Connection: BookQueries + SummaryRepository>,
{
    OpenApiRouter::new()
        .routes(documented(__path_list_accounts, list_accounts::<D>))
        .routes(documented(__path_show_account, show_account::<D>))
        .routes(documented(__path_list_entries, list_entries::<D>))
        .routes(documented(__path_show_summary, show_summary::<D>))
        .routes(documented(__path_deposit, deposit::<D>))
        .routes(documented(__path_list_payments, list_payments::<D>))
        .routes(documented(__path_show_payment, show_payment::<D>))
        .with_state(database)
}

/// A part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Part {
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// The account of a customer.
#[derive(Debug, Serialize, ToSchema)]
struct ShownAccount {
    /// The customer.
    #[schema(example = "u-1")]
    user_id: String,
    /// What is on it, as an exact decimal.
    #[schema(value_type = f64, example = 1_000_000.0)]
    balance: Number,
    /// The ISO 4217 code of its currency.
    #[schema(example = "EUR")]
    currency: String,
    /// Whether the customer's bank will refuse to pay.
    frozen: bool,
}

/// Lists the accounts of customers, by name.
#[utoipa::path(
    get, path = "/accounts", tag = "accounts", params(Part),
    responses(
        (status = 200, description = "A page of accounts.", body = Page<ShownAccount>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_accounts<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Query(part): Query<Part>,
) -> Result<Json<Page<ShownAccount>>, Problem> {
    let limit = limit(part.limit)?;
    let after = id_before(part.after)?.map(|user_id| Account::customer(&user_id));
    let mut transaction = database.begin().await?;
    let accounts = D::connection(&mut transaction).customers(after.as_ref(), limit + 1).await?;
    let accounts = accounts.into_iter().map(|(account, standing)| shown(&account, standing));
    Ok(Json(Page::new(accounts.collect(), limit, |last| last.user_id.clone())))
}

/// Shows the account of a customer.
#[utoipa::path(
    get, path = "/accounts/{user_id}", tag = "accounts",
    params(("user_id" = String, Path, description = "The customer.", example = "u-1")),
    responses(
        (status = 200, description = "The account.", body = ShownAccount),
        (status = 404, description = "There is no such account.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_account<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Path(user_id): Path,
) -> Result<Json<ShownAccount>, Problem> {
    let (account, standing) = find(&database, &user_id).await?;
    Ok(Json(shown(&account, standing)))
}

/// A line of an account's ledger.
#[derive(Debug, Serialize, ToSchema)]
struct ShownEntry {
    /// Where it stands in the ledger.
    id: i64,
    /// The order or the deposit that the money moved for.
    #[schema(example = "o-1")]
    reference: String,
    /// Why: `deposit`, `authorize`, `capture` or `void`.
    #[schema(example = "authorize")]
    reason: String,
    /// What came onto the account; less than 0 if it went away.
    #[schema(value_type = f64, example = -123.45)]
    amount: Number,
}

/// Lists the ledger of an account, the newest entry first. Each is one of two that sum to zero.
#[utoipa::path(
    get, path = "/accounts/{user_id}/entries", tag = "accounts",
    params(("user_id" = String, Path, description = "The customer.", example = "u-1"), Part),
    responses(
        (status = 200, description = "A page of the ledger.", body = Page<ShownEntry>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such account.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_entries<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Path(user_id): Path,
    Query(part): Query<Part>,
) -> Result<Json<Page<ShownEntry>>, Problem> {
    let limit = limit(part.limit)?;
    let after = part.after.map(|text| text.parse().map_err(|_| no_next())).transpose()?;
    let (account, _) = find(&database, &user_id).await?;
    let mut transaction = database.begin().await?;
    let entries = D::connection(&mut transaction).entries(&account, after, limit + 1).await?;
    let page = Page::new(entries, limit, |last| last.id.to_string());
    Ok(Json(page.map(|Entry { id, reference, reason, minor }| ShownEntry {
        id,
        reference,
        reason,
        amount: Money::new(minor).as_number(),
    })))
}

/// What a customer has spent.
#[derive(Debug, Serialize, ToSchema)]
struct ShownSummary {
    /// The customer.
    #[schema(example = "u-1")]
    user_id: String,
    /// How many orders were confirmed.
    #[schema(example = 3)]
    orders: i64,
    /// What they cost, as an exact decimal.
    #[schema(value_type = f64, example = 370.35)]
    spent: Number,
    /// The ISO 4217 code of its currency.
    #[schema(example = "EUR")]
    currency: String,
}

/// Shows what a customer has spent on orders that were confirmed. It follows the orders within moments.
#[utoipa::path(
    get, path = "/accounts/{user_id}/summary", tag = "accounts",
    params(("user_id" = String, Path, description = "The customer.", example = "u-1")),
    responses(
        (status = 200, description = "The summary.", body = ShownSummary),
        (status = 404, description = "There is no such account.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_summary<D: Database<Connection: BookQueries + SummaryRepository>>(
    State(database): State<D>,
    Path(user_id): Path,
) -> Result<Json<ShownSummary>, Problem> {
    let (account, _) = find(&database, &user_id).await?;
    let mut transaction = database.begin().await?;
    let Summary { orders, minor } = D::connection(&mut transaction).summary(&account).await?;
    let spent = Money::new(minor);
    Ok(Json(ShownSummary { user_id, orders, spent: spent.as_number(), currency: spent.currency }))
}

/// The body of a deposit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it says what `deposit` reads")]
struct NewDeposit {
    /// What makes a repeated request harmless.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "d-1")]
    deposit_id: String,
    /// A decimal with at most two digits behind the point, as a number or as a string.
    #[schema(schema_with = amount_schema)]
    amount: String,
    /// The ISO 4217 code of its currency; `EUR` unless said otherwise, and nothing else is taken.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Option<String>,
}

/// Puts money on the account of a customer.
///
/// The same deposit may be sent again: it is made once.
#[utoipa::path(
    post, path = "/accounts/{user_id}/deposits", tag = "accounts",
    params(("user_id" = String, Path, description = "The customer.", example = "u-1")),
    request_body = NewDeposit,
    responses(
        (status = 201, description = "Made, now or earlier: the account after it.", body = ShownAccount),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such account.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 409, description = "Another deposit has this id.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn deposit<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Path(user_id): Path,
    body: Bytes,
) -> Result<(StatusCode, Json<ShownAccount>), Problem> {
    let body = object(&body)?;
    let fields = Fields::new(&body, &["deposit_id", "amount", "currency"])?;
    let (deposit_id, amount) = (fields.id("deposit_id")?, fields.money()?);
    if amount.currency != CURRENCY {
        return Err(Problem::invalid("currency", format!("must be {CURRENCY}")));
    }
    let (account, _) = find(&database, &user_id).await?;
    if !make_deposit(&database, &deposit_id, &account, &amount).await? {
        return Err(Problem::conflict(format!("another deposit has the id {deposit_id}")));
    }
    let (account, standing) = find(&database, &user_id).await?;
    Ok((StatusCode::CREATED, Json(shown(&account, standing))))
}

/// Makes a deposit, once. Returns false if another one has its id.
async fn make_deposit<D: Database<Connection: BookQueries>>(
    database: &D,
    deposit_id: &str,
    account: &Account,
    amount: &Money,
) -> anyhow::Result<bool> {
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    if !db.deposit(deposit_id, account, amount).await? {
        let first = db.find_deposit(deposit_id).await?;
        return Ok(first.is_some_and(|first| first == (account.clone(), amount.clone())));
    }
    D::commit(transaction).await?;
    Ok(true)
}

/// Which payments are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListPayments {
    /// Only payments in this state.
    state: Option<PaymentState>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// The payment for an order.
#[derive(Debug, Serialize, ToSchema)]
struct ShownPayment {
    /// The order.
    #[schema(example = "o-1")]
    order_id: String,
    /// Who pays.
    #[schema(example = "u-1")]
    user_id: String,
    /// How much, as an exact decimal.
    #[schema(value_type = f64, example = 123.45)]
    amount: Number,
    /// The ISO 4217 code of its currency.
    #[schema(example = "EUR")]
    currency: String,
    /// What became of it.
    state: PaymentState,
}

/// Lists payments, by order.
#[utoipa::path(
    get, path = "/payments", tag = "payments", params(ListPayments),
    responses(
        (status = 200, description = "A page of payments.", body = Page<ShownPayment>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_payments<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Query(asked): Query<ListPayments>,
) -> Result<Json<Page<ShownPayment>>, Problem> {
    let limit = limit(asked.limit)?;
    let after = id_before(asked.after)?;
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    let payments = db.payments(asked.state, after.as_deref(), limit + 1).await?;
    let page = Page::new(payments, limit, |(last, _)| last.order_id.clone());
    Ok(Json(page.map(shown_payment)))
}

/// Shows the payment for an order.
#[utoipa::path(
    get, path = "/payments/{order_id}", tag = "payments",
    params(("order_id" = String, Path, description = "The order.", example = "o-1")),
    responses(
        (status = 200, description = "The payment.", body = ShownPayment),
        (status = 404, description = "Nothing was ever held for this order.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_payment<D: Database<Connection: BookQueries>>(
    State(database): State<D>,
    Path(order_id): Path,
) -> Result<Json<ShownPayment>, Problem> {
    let nothing = || Problem::not_found(format!("nothing was held for order {order_id}"));
    if !is_id(&order_id) {
        return Err(nothing());
    }
    let mut transaction = database.begin().await?;
    let payment = D::connection(&mut transaction).payment(&order_id).await?;
    payment.map(|payment| Json(shown_payment(payment))).ok_or_else(nothing)
}

async fn find<D: Database<Connection: BookQueries>>(
    database: &D,
    user_id: &str,
) -> Result<(Account, Standing), Problem> {
    let nobody = || Problem::not_found(format!("there is no account of {user_id}"));
    if !is_id(user_id) {
        return Err(nobody());
    }
    let account = [Account::customer(user_id)].into();
    let mut transaction = database.begin().await?;
    let mut found = D::connection(&mut transaction).standings(&account).await?;
    found.pop_first().ok_or_else(nobody)
}

/// Reads the id that a page begins behind.
fn id_before(after: Option<String>) -> Result<Option<String>, Problem> {
    match after {
        Some(text) if !is_id(&text) => Err(no_next()),
        after => Ok(after),
    }
}

fn shown(account: &Account, Standing { balance, is_frozen }: Standing) -> ShownAccount {
    ShownAccount {
        user_id: account.user_id().unwrap_or_default().to_owned(),
        balance: balance.as_number(),
        currency: balance.currency,
        frozen: is_frozen,
    }
}

fn shown_payment((hold, state): (Hold, PaymentState)) -> ShownPayment {
    ShownPayment {
        order_id: hold.order_id,
        user_id: hold.account.user_id().unwrap_or_default().to_owned(),
        amount: hold.amount.as_number(),
        currency: hold.amount.currency,
        state,
    }
}
