//! Reads the body of `POST /orders`, and names the field that cannot be used.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Item, Order, Status};
use crate::shared::http::Problem;
use crate::shared::money::Money;

const ID_BYTES_MAX: usize = 64;
const ITEMS_MAX: usize = 100;
const QUANTITY_MAX: u32 = 1_000_000;

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
    let known = ["order_id", "user_id", "amount", "items"];
    if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        // A field that is ignored, such as a misspelt `items`, would be a surprise later.
        return Err(Problem::invalid(
            unknown.chars().take(64).collect::<String>(),
            "is no field of an order",
        ));
    }
    Ok(Order {
        order_id: id(&fields, "order_id")?,
        user_id: id(&fields, "user_id")?,
        amount: amount(&fields)?,
        items: items(&fields)?,
        status: Status::Pending,
        reason: None,
    })
}

/// Ids stand in URLs, topics' keys and logs, so they are plain.
fn id(fields: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match fields.get(name) {
        Some(Value::String(text))
            if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) =>
        {
            Ok(text.clone())
        }
        found => Err(unusable(name, found, "must be a string of 1 to 64 of A-Z a-z 0-9 . _ -")),
    }
}

fn amount(fields: &Map<String, Value>) -> Result<Money, Problem> {
    match fields.get("amount") {
        // The text of the number, as it was sent: serde_json keeps it (`arbitrary_precision`).
        Some(Value::Number(number)) => {
            Money::parse(number.as_str()).map_err(|problem| Problem::invalid("amount", problem))
        }
        found => Err(unusable("amount", found, "must be a number such as 123.45")),
    }
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
