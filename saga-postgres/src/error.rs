//! What the driver and the server say, as what the engine should do about it.

use std::iter::successors;

use saga_core::error::BoxError;
use saga_core::store::StoreError;
use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Raised by our functions when a saga is not at the expected version.
const STALE: &str = "SG001";

/// Where an error came from: some codes mean another thing at the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A statement of ours.
    Statement,
    /// `COMMIT` of a transaction that others wrote in as well.
    Commit,
}

/// Classifies an error of a statement.
pub(crate) fn statement(operation: &'static str, error: Error) -> StoreError {
    classify(operation, Stage::Statement, error)
}

/// Classifies an error of `COMMIT`.
pub(crate) fn commit(operation: &'static str, error: Error) -> StoreError {
    classify(operation, Stage::Commit, error)
}

/// A refusal of ours, of data that the tables cannot hold.
pub(crate) fn refused(operation: &'static str, source: impl Into<BoxError>) -> StoreError {
    StoreError::Refused { operation, source: source.into() }
}

/// No driver error holds the password: a connection string is parsed in `pool.rs` and never quoted.
fn classify(operation: &'static str, stage: Stage, error: Error) -> StoreError {
    let unavailable = |error: Error| StoreError::Unavailable { operation, source: error.into() };
    match error {
        Error::Database(reported) => match reported.try_downcast::<PgDatabaseError>() {
            Ok(reported) => of_server(operation, stage, *reported),
            Err(reported) => unavailable(Error::Database(reported)),
        },
        // A value that is larger than the protocol can carry.
        Error::Encode(source) => refused(operation, source),
        Error::Configuration(problem) => StoreError::Configuration { reason: problem.to_string() },
        // A column that is missing or of another type than this version made it.
        Error::ColumnDecode { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::TypeNotFound { .. }
        | Error::Decode(_)
        | Error::RowNotFound => {
            let reason = format!("the tables are not those of this version: {error}; {MIGRATE}");
            StoreError::Configuration { reason }
        }
        // Io, Tls, PoolTimedOut, Protocol and the like: the connection, not what was asked of it.
        error => unavailable(error),
    }
}

/// Returns what a handler met if that passes by itself.
pub(crate) fn passing(failure: &(dyn std::error::Error + 'static)) -> Option<StoreError> {
    let mut chain = successors(Some(failure), |error| error.source());
    // A wrapper such as `anyhow::Error` may hide the type of what it wraps, but not of what that came from.
    let reported = chain.find_map(|error| match error.downcast_ref() {
        Some(Error::Database(reported)) => Some(reported),
        _ => error.downcast_ref::<Box<dyn DatabaseError>>(),
    });
    let reported = reported?.try_downcast_ref::<PgDatabaseError>()?;
    // 25006 a server that only reads, 40001 serialization failure, 40P01 deadlock, 53 resources, 55P03
    // a lock that was not granted in time. A statement that takes too long (57014) may always do so.
    let passes = matches!(reported.code(), "25006" | "40001" | "40P01" | "55P03")
        || reported.code().starts_with("53");
    let source = reported.message().into();
    passes.then_some(StoreError::Unavailable { operation: "a handler", source })
}

const MIGRATE: &str = "call `PostgresStore::migrate` when the program starts";

/// What follows from an SQLSTATE, without what it was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Conflict,
    Unavailable,
    Refused,
    Configuration(&'static str),
}

fn of_server(operation: &'static str, stage: Stage, error: PgDatabaseError) -> StoreError {
    match class(stage, error.code()) {
        Class::Conflict => StoreError::Conflict,
        Class::Unavailable => StoreError::Unavailable { operation, source: error.into() },
        Class::Refused => StoreError::Refused { operation, source: error.into() },
        Class::Configuration(advice) => {
            StoreError::Configuration { reason: format!("{}; {advice}", error.message()) }
        }
    }
}

/// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn class(stage: Stage, code: &str) -> Class {
    const PRIVILEGES: &str = "grant the role what the store needs";
    const LOGIN: &str = "correct the database URL or the server's access rules";
    const POOLER: &str = "the pooler must know prepared statements \
                          (PgBouncer 1.21 or later: `max_prepared_statements`)";
    match code {
        // Somebody else wrote the saga since it was read. 40001 serialization failure and 40P01
        // deadlock: somebody else went first. Nothing was written.
        STALE | "40001" | "40P01" => Class::Conflict,
        // 23505 unique violation: of our tables in our statements; at COMMIT it is a deferred
        // constraint of the application.
        "23505" if stage == Stage::Statement => Class::Conflict,
        // 25P02 aborted transaction: a handler went on after an error of the database. P0: what a
        // function or trigger of the application raised; it would again.
        "25P02" => Class::Refused,
        // What a deferred trigger of the application raised; it would again, whatever its code.
        _ if stage == Stage::Commit && !is_of_the_server(code) => Class::Refused,
        // 26000 and 42P05: a statement that was prepared on another server connection.
        "26000" | "42P05" => Class::Configuration(POOLER),
        // 42501 insufficient privilege.
        "42501" => Class::Configuration(PRIVILEGES),
        // 3D000: no such database.
        "3D000" => Class::Configuration(LOGIN),
        // 42P01, 42883, 42703, 3F000: no such table, function, column or schema; 42P07, 42723:
        // another program's stand in their place.
        _ => match code.get(..2).unwrap_or_default() {
            // Data exceptions (22021 is NUL in a text), broken constraints, and limits such as 54000.
            "21" | "22" | "23" | "44" | "54" | "P0" => Class::Refused,
            "28" => Class::Configuration(LOGIN),
            "3F" | "42" => Class::Configuration(MIGRATE),
            // 08 connection, 25 (25006: a standby after a switch-over), 40003 completion unknown,
            // 53 resources (53100: disk full), 55 (55P03: lock timeout), 57 (57014: statement
            // timeout, 57P01 to 57P03: the server stops or starts), 58 and XX: trouble inside.
            // 0A000: a prepared statement from before a migration. What is unknown is tried again.
            _ => Class::Unavailable,
        },
    }
}

/// Returns true for what the server says of itself, and not of what it was asked to commit.
fn is_of_the_server(code: &str) -> bool {
    const CLASSES: [&str; 8] = ["08", "25", "40", "53", "57", "58", "XX", ""];
    code == "55P03" || CLASSES.contains(&code.get(..2).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified_by_what_to_do() {
        let configuration = |code| matches!(class(Stage::Statement, code), Class::Configuration(_));
        for code in ["SG001", "23505", "40001", "40P01"] {
            assert_eq!(class(Stage::Statement, code), Class::Conflict, "{code}");
        }
        let passing = [
            "08006", "08P01", "0A000", "25006", "25P03", "40003", "53100", "53200", "53300",
            "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030", "XX000", "", "?",
        ];
        for code in passing {
            assert_eq!(class(Stage::Statement, code), Class::Unavailable, "{code}");
        }
        for code in ["22021", "22P05", "22008", "23502", "23514", "25P02", "54000", "P0001"] {
            assert_eq!(class(Stage::Statement, code), Class::Refused, "{code}");
        }
        for code in ["42P01", "42883", "3F000", "42501", "28P01", "28000", "3D000", "26000"] {
            assert!(configuration(code), "{code}");
        }
    }

    #[test]
    fn a_deferred_constraint_of_the_application_is_no_conflict() {
        assert_eq!(class(Stage::Commit, "23505"), Class::Refused);
        for code in ["AB001", "42501", "42P01", "2F002", "38000", "P0001", "55000"] {
            assert_eq!(class(Stage::Commit, code), Class::Refused, "{code}");
        }
        for code in ["", "08006", "25006", "40003", "53100", "55P03", "57014", "57P01", "XX000"] {
            assert_eq!(class(Stage::Commit, code), Class::Unavailable, "{code}");
        }
        assert_eq!(class(Stage::Commit, "40001"), Class::Conflict);
    }
}
