//! Reads the body of `POST /orders`, and names the field that cannot be used.

use std::collections::HashSet;

use saga_core::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{OneOfBuilder, Schema, Type};

use super::super::{Item, Order, Status};
use crate::shared::http::Problem;
use crate::shared::money::Money;

const ID_BYTES_MAX: usize = 64;
const ITEMS_MAX: usize = 100;
const QUANTITY_MAX: u32 = 1_000_000;

/// What an id must be.
pub(super) const ID: &str = "must be a string of 1 to 64 of A-Z a-z 0-9 . _ -";

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

/// A decimal as a number, or as a string for those whose numbers are floats.
fn amount_schema() -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Number);
    let number = number.minimum(Some(0.01)).maximum(Some(1_000_000_000.0));
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = text.pattern(Some(r"^[0-9]{1,10}(\.[0-9]{1,2})?$"));
    OneOfBuilder::new().item(number).item(text).examples([json!(123.45)]).build().into()
}

/// Reads an order that is to be placed.
///
/// # Errors
///
/// A [`Problem`] with the name of the field.
pub(super) fn read(body: &[u8]) -> Result<Order, Problem> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid("body", format!("must be JSON: {error}")))?;
    let Value::Object(fields) = body else {
        return Err(Problem::invalid("body", "must be a JSON object"));
    };
    refuse_unknown(&fields, &["order_id", "user_id", "amount", "currency", "items"])?;
    Ok(Order {
        order_id: id(&fields, "order_id")?,
        user_id: id(&fields, "user_id")?,
        amount: amount(&fields)?,
        items: items(&fields)?,
        status: Status::Pending,
        reason: None,
        placed_at: SystemClock::new().now(),
    })
}

/// A field that is ignored, such as a misspelt `items`, would be a surprise later.
fn refuse_unknown(fields: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let unknown: String = unknown.chars().take(64).collect();
            Err(Problem::invalid(unknown, "is no field of this"))
        }
    }
}

/// Returns true for what can be an id. Ids stand in URLs, topics' keys and logs, so they are plain.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn id(fields: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    match fields.get(name) {
        Some(Value::String(text)) if is_id(text) => Ok(text.clone()),
        found => Err(unusable(name, found, ID)),
    }
}

fn amount(fields: &Map<String, Value>) -> Result<Money, Problem> {
    let amount = match fields.get("amount") {
        // The text of the number, as it was sent: serde_json keeps it (`arbitrary_precision`).
        Some(Value::Number(number)) => number.as_str(),
        Some(Value::String(text)) => text,
        found => return Err(unusable("amount", found, "must be a number such as 123.45")),
    };
    let amount = Money::parse(amount).map_err(|problem| Problem::invalid("amount", problem))?;
    match fields.get("currency") {
        None | Some(Value::Null) => Ok(amount),
        Some(Value::String(code)) if is_currency(code) => {
            Ok(Money { currency: code.clone(), ..amount })
        }
        _ => Err(Problem::invalid("currency", "must be three letters, such as EUR")),
    }
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn items(fields: &Map<String, Value>) -> Result<Vec<Item>, Problem> {
    let items = match fields.get("items") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= ITEMS_MAX => items,
        found => return Err(unusable("items", found, "must be a list of at most 100 items")),
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
    let within = |problem: Problem| problem.within(&field);
    refuse_unknown(fields, &["sku", "quantity"]).map_err(within)?;
    let sku = id(fields, "sku").map_err(within)?;
    let quantity = quantity(fields.get("quantity")).map_err(within)?;
    Ok(Item { sku, quantity })
}

fn quantity(found: Option<&Value>) -> Result<u32, Problem> {
    found
        .and_then(Value::as_u64)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
        .ok_or_else(|| unusable("quantity", found, "must be a whole number from 1 to 1000000"))
}

fn unusable(field: &str, found: Option<&Value>, problem: &str) -> Problem {
    match found {
        None => Problem::invalid(field, format!("is missing: it {problem}")),
        Some(_) => Problem::invalid(field, problem),
    }
}
