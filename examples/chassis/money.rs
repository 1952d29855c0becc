//! Money: exact, and never a float.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// The currency of every order: one with two decimals.
pub const CURRENCY: &str = "EUR";

/// An amount of money in whole cents, and the currency that they are cents of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// How many of the smallest unit, e.g. cents.
    pub minor: i64,
    /// The ISO 4217 code of the currency, e.g. `EUR`.
    pub currency: String,
}

/// Largest amount of one order: what is larger is more likely a slip than an order.
const MINOR_MAX: i64 = 100_000_000_000;

impl Money {
    /// Makes an amount in the [currency of every order](CURRENCY).
    #[must_use]
    pub fn new(minor: i64) -> Self {
        Self { minor, currency: CURRENCY.to_owned() }
    }

    /// Reads a positive decimal such as `123.45` as it was written, digit by digit.
    ///
    /// # Errors
    ///
    /// What the text must be instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err("must be a plain positive decimal number, such as 123.45");
        }
        let cents = fraction.trim_end_matches('0');
        if cents.len() > 2 {
            return Err("must have at most two decimals");
        }
        // What has more digits than an i64 is too large as well.
        let minor = format!("{whole}{cents:0<2}").parse().unwrap_or(i64::MAX);
        match minor {
            0 => Err("must be more than 0"),
            1..=MINOR_MAX => Ok(Self::new(minor)),
            _ => Err("must be at most 1000000000.00"),
        }
    }

    /// Returns the decimal as a JSON number of exactly these digits; a float might have others.
    ///
    /// # Panics
    ///
    /// Never: what [`Display`](fmt::Display) prints is a JSON number.
    #[must_use]
    pub fn as_number(&self) -> Number {
        self.to_string().parse().expect("digits, a point and two digits are a JSON number")
    }

    /// Returns the decimal as a float, for consumers that know nothing else. Nothing computes with it.
    #[must_use]
    pub fn as_float(&self) -> f64 {
        self.to_string().parse().unwrap_or_default()
    }
}

impl fmt::Display for Money {
    /// Prints the decimal without the currency.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minor < 0 { "-" } else { "" };
        let minor = self.minor.unsigned_abs();
        write!(f, "{sign}{}.{:02}", minor / 100, minor % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, minor) in [
            ("123.45", 12_345),
            ("0.01", 1),
            ("7", 700),
            ("1.5", 150),
            ("1.50000", 150),
            // As doubles these two would be one cent off.
            ("1.15", 115),
            ("70368744.17", 7_036_874_417),
            ("1000000000.00", MINOR_MAX),
        ] {
            assert_eq!(Money::parse(text), Ok(Money::new(minor)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            ".",
            "0",
            "0.00",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.234",
            "1e2",
            "1,5",
            " 1",
            "NaN",
            "1000000000.01",
            "99999999999999999999",
        ] {
            assert!(Money::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cents_are_printed_with_two_digits() {
        assert_eq!(Money::new(5).to_string(), "0.05");
        assert_eq!(Money::new(-12_345).to_string(), "-123.45");
    }
}
