//! Reads the fields of a JSON body, and names the one that cannot be used.

use axum::body::Bytes;
use serde_json::{Map, Value};
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{OneOfBuilder, Schema, Type};

use super::Problem;
use crate::money::Money;

const ID_BYTES_MAX: usize = 64;

/// What an id must be.
pub const ID: &str = "must be a string of 1 to 64 of A-Z a-z 0-9 . _ -";

/// The fields of a JSON object.
#[derive(Debug)]
pub struct Fields<'a>(&'a Map<String, Value>);

/// Reads a body as a JSON object.
///
/// # Errors
///
/// A [`Problem`] if it is none.
pub fn object(body: &Bytes) -> Result<Map<String, Value>, Problem> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid("body", format!("must be JSON: {error}")))?;
    match body {
        Value::Object(fields) => Ok(fields),
        _ => Err(Problem::invalid("body", "must be a JSON object")),
    }
}

impl<'a> Fields<'a> {
    /// Takes fields of which these are known. A field that is ignored, such as a misspelt `items`, would be a
    /// surprise later.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that names one that is not.
    pub fn new(fields: &'a Map<String, Value>, known: &[&str]) -> Result<Self, Problem> {
        match fields.keys().find(|field| !known.contains(&field.as_str())) {
            None => Ok(Self(fields)),
            Some(unknown) => {
                let unknown: String = unknown.chars().take(64).collect();
                Err(Problem::invalid(unknown, "is no field of this"))
            }
        }
    }

    /// Returns a field; nothing if it is missing or `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Reads an id.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if it is none.
    pub fn id(&self, name: &str) -> Result<String, Problem> {
        match self.get(name) {
            Some(Value::String(text)) if is_id(text) => Ok(text.clone()),
            _ => Err(self.unusable(name, ID)),
        }
    }

    /// Reads a whole number.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if it is none, or not from 1 to `max`.
    pub fn count(&self, name: &str, max: u32) -> Result<u32, Problem> {
        let number = self.get(name).and_then(Value::as_u64);
        let number = number.and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| self.unusable(name, &format!("must be a whole number from 1 to {max}")))
    }

    /// Reads an `amount`, and its `currency` if that is said.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if one of them cannot be used.
    pub fn money(&self) -> Result<Money, Problem> {
        let amount = match self.get("amount") {
            // The text of the number, as it was sent: serde_json keeps it (`arbitrary_precision`).
            Some(Value::Number(number)) => number.as_str(),
            Some(Value::String(text)) => text,
            _ => return Err(self.unusable("amount", "must be a number such as 123.45")),
        };
        let amount = Money::parse(amount).map_err(|problem| Problem::invalid("amount", problem))?;
        match self.get("currency") {
            None => Ok(amount),
            Some(Value::String(code)) if is_currency(code) => {
                Ok(Money { currency: code.clone(), ..amount })
            }
            Some(_) => Err(Problem::invalid("currency", "must be three letters, such as EUR")),
        }
    }

    /// Returns what is wrong with a field.
    #[must_use]
    pub fn unusable(&self, name: &str, problem: &str) -> Problem {
        match self.get(name) {
            None => Problem::invalid(name, format!("is missing: it {problem}")),
            Some(_) => Problem::invalid(name, problem),
        }
    }
}

/// Returns true for what can be an id. Ids stand in URLs, topics' keys and logs, so they are plain.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Describes an amount: a decimal as a number, or as a string for those whose numbers are floats.
#[must_use]
pub fn amount_schema() -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Number);
    let number = number.minimum(Some(0.01)).maximum(Some(1_000_000_000.0));
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = text.pattern(Some(r"^[0-9]{1,10}(\.[0-9]{1,2})?$"));
    OneOfBuilder::new().item(number).item(text).examples([serde_json::json!(123.45)]).build().into()
}
