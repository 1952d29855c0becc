//! Reads the body of `POST /orders`, and names the field that cannot be used.

use std::collections::HashSet;

use axum::body::Bytes;
use chassis::http::Problem;
use chassis::http::fields::{Fields, amount_schema, object};
use saga_core::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{Item, Order, Status};

const ITEMS_MAX: usize = 100;
const QUANTITY_MAX: u32 = 1_000_000;

/// The body of `POST /orders`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it says what `read` reads")]
pub(super) struct NewOrder {
    /// The order, named by the customer's program: what makes a repeated request harmless.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "o-1")]
    order_id: String,
    /// The customer.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "u-1")]
    user_id: String,
    /// The total: a decimal with at most two digits behind the point, as a number or as a string.
    #[schema(schema_with = amount_schema)]
    amount: String,
    /// The ISO 4217 code of its currency; `EUR` unless said otherwise.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Option<String>,
    /// What is ordered, each article once; one surprise box if nothing is named.
    #[schema(max_items = 100)]
    items: Option<Vec<NewItem>>,
}

/// Some pieces of an article.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it says what `item` reads")]
struct NewItem {
    /// The article.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "coffee-beans")]
    sku: String,
    /// How many pieces.
    #[schema(minimum = 1, maximum = 1_000_000, example = 2)]
    quantity: u32,
}

/// Reads an order that is to be placed.
///
/// # Errors
///
/// A [`Problem`] that names the field.
pub(super) fn read(body: &Bytes) -> Result<Order, Problem> {
    let body = object(body)?;
    let fields = Fields::new(&body, &["order_id", "user_id", "amount", "currency", "items"])?;
    Ok(Order {
        order_id: fields.id("order_id")?,
        user_id: fields.id("user_id")?,
        amount: fields.money()?,
        items: items(&fields)?,
        status: Status::Pending,
        reason: None,
        placed_at: SystemClock::new().now(),
    })
}

fn items(fields: &Fields<'_>) -> Result<Vec<Item>, Problem> {
    let items = match fields.get("items") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= ITEMS_MAX => items,
        Some(_) => return Err(fields.unusable("items", "must be a list of at most 100 items")),
    };
    let items: Vec<_> = items.iter().enumerate().map(item).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    for (at, item) in items.iter().enumerate() {
        if !seen.insert(&item.sku) {
            return Err(Problem::invalid(format!("items[{at}].sku"), "is there twice"));
        }
    }
    Ok(items)
}

fn item((at, item): (usize, &Value)) -> Result<Item, Problem> {
    let field = format!("items[{at}]");
    let Value::Object(fields) = item else {
        return Err(Problem::invalid(field, "must be an object with sku and quantity"));
    };
    let item = || {
        let fields = Fields::new(fields, &["sku", "quantity"])?;
        Ok(Item { sku: fields.id("sku")?, quantity: fields.count("quantity", QUANTITY_MAX)? })
    };
    item().map_err(|problem: Problem| problem.within(&field))
}
