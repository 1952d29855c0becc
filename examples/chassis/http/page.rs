//! Lists in pages: each says where the next one begins, so that what is added meanwhile shifts nothing.

use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// What to ask for with `after` to get the next part; nothing if there is none.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of what was read: one more than is shown, if there are more.
    pub fn new(mut items: Vec<T>, limit: usize, place: impl FnOnce(&T) -> String) -> Self {
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last().map(place)
        } else {
            None
        };
        Self { items, next }
    }

    /// Makes a page of the same length.
    pub fn map<U>(self, shown: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(shown).collect(), next: self.next }
    }
}

/// Says that no page begins there.
#[must_use]
pub fn no_next() -> Problem {
    Problem::invalid("after", "must be the `next` of an earlier page")
}

/// Returns how many are shown.
///
/// # Errors
///
/// A [`Problem`] if nobody may ask for so many.
pub fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        _ => Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}"))),
    }
}
