//! The name of the schema that the tables are in: checked once, quoted always.

use std::borrow::Cow;
use std::fmt;

/// Longest name, in bytes: `PostgreSQL` cuts longer ones off.
const NAME_BYTES_MAX: usize = 63;

/// The name of a schema of `PostgreSQL`. By default the tables are in `saga`.
///
/// Use a schema of its own for each service that shares a database with others.
///
/// ```
/// use saga_postgres::SchemaName;
/// const PAYMENTS: SchemaName = SchemaName::new("payments_saga");
/// assert_eq!(PAYMENTS.as_str(), "payments_saga");
/// assert_eq!(SchemaName::default().as_str(), "saga");
/// assert!(SchemaName::parse("saga\"; drop schema public").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(Cow<'static, str>);

/// A text that cannot be the name of a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no schema name: use 1 to {NAME_BYTES_MAX} of a-z 0-9 _, start with a letter or _, \
     and neither with pg_ nor with a reserved word of SQL",
    text.escape_debug()
)]
pub struct InvalidSchemaName {
    text: String,
}

impl SchemaName {
    /// Makes a name from a literal; meant for a `const`, so that a bad name does not compile.
    ///
    /// # Panics
    ///
    /// If the text is not a valid name. In a `const` that is a compile error.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(
            is_valid(name.as_bytes()),
            "not a valid schema name: use a-z 0-9 _, no pg_ prefix and no reserved word of SQL",
        );
        Self(Cow::Borrowed(name))
    }

    /// Makes a name from text that is known only at run time.
    ///
    /// # Errors
    ///
    /// [`InvalidSchemaName`] if the text is empty, longer than 63 bytes, holds anything but `a-z`,
    /// `0-9` and `_`, starts with a digit or `pg_`, or is a reserved word of SQL.
    pub fn parse(name: impl AsRef<str>) -> Result<Self, InvalidSchemaName> {
        let text = name.as_ref();
        if is_valid(text.as_bytes()) {
            return Ok(Self(Cow::Owned(text.to_owned())));
        }
        // What is refused may be huge; the message quotes the start of it.
        Err(InvalidSchemaName { text: text.chars().take(64).collect() })
    }

    /// Returns the name as text, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as it stands in SQL. It holds no quote, so that nothing needs escaping.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        const SAGA: SchemaName = SchemaName::new("saga");
        SAGA
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_valid(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name[0].is_ascii_digit() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    let mut word = 0;
    while word < RESERVED.len() {
        if same(name, RESERVED[word].as_bytes()) {
            return false;
        }
        word += 1;
    }
    !matches!(name, [b'p', b'g', b'_', ..])
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// What `pg_get_keywords()` calls reserved, and the schema that every database has already. Quotes
/// would make them work here, and everybody who types the name by hand would trip over them.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "information_schema",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(64);
        let hostile = [
            "",
            " ",
            "a b",
            "Saga",
            "1saga",
            "saga\"",
            "saga'",
            "saga;",
            "saga--",
            "saga.x",
            "s\0",
            "sagа", // a Cyrillic letter
            "säga",
            "$1",
            "{schema}",
            "pg_",
            "pg_catalog",
            "pg_temp_1",
            "information_schema",
            "select",
            "user",
            "saga\n",
            "saga/*",
            &long,
        ];
        for name in hostile {
            let error = SchemaName::parse(name).expect_err(name);
            assert!(error.to_string().contains("is no schema name"), "{error}");
        }
    }

    #[test]
    fn ordinary_names_are_taken_and_quoted() {
        for name in ["saga", "_", "a", "orders_saga_2", "public", "pgx", &"x".repeat(63)] {
            let schema = SchemaName::parse(name).expect(name);
            assert_eq!(schema.quoted(), format!("\"{name}\""));
        }
    }
}
