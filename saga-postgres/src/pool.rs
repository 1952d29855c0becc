//! From a URL to a pool of connections that a dead network cannot wear out.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use saga_core::store::StoreError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool, Row as _};
use tokio::time::{Instant, timeout};

use crate::error;

/// What a service of some engines, participants and relays uses at the same time, with room for handlers.
const CONNECTIONS_MAX: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections are looked at before they are used, after one of them failed.
const SUSPECT_FOR: Duration = Duration::from_mins(1);
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How large a pool is, and how long one waits for it, if nobody says otherwise.
pub(crate) fn defaults() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Opens a pool and its first connection.
pub(crate) async fn connect(
    url: &str,
    pool: PgPoolOptions,
    suspicion: &Suspicion,
) -> Result<PgPool, StoreError> {
    let options = options(url)?;
    let (on_acquire, on_release) = (suspicion.clone(), suspicion.clone());
    let pool = pool
        // A ping before each call would double the round trips. A call on a connection that the
        // server has closed fails at once, and is repeated by whoever made it.
        .test_before_acquire(false)
        .before_acquire(move |connection, _| Box::pin(on_acquire.clone().check(connection)))
        .after_release(move |connection, _| Box::pin(on_release.clone().check(connection)))
        .connect_with(options)
        .await;
    pool.map_err(|problem| error::statement("connect", problem))
}

/// Remembers that a connection failed or did not answer. Others of the pool went the same way then:
/// the server was restarted, or the network swallows everything and nothing will ever tell them so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspicion(Arc<Mutex<Option<Instant>>>);

impl Suspicion {
    pub(crate) fn raise(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_raised(&self) -> bool {
        let raised = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        raised.is_some_and(|at| at.elapsed() < SUSPECT_FOR)
    }

    /// Lets a connection pass, but under suspicion only if it answers and takes writes; otherwise it is closed. One to a
    /// server that was demoted may live on, and would only ever read.
    async fn check(self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        if !self.is_raised() {
            return Ok(true);
        }
        let question = sqlx::raw_sql("show transaction_read_only").fetch_one(connection);
        let answer = timeout(PING_TIMEOUT, question).await;
        let answer = answer.map_err(|late| sqlx::Error::Io(late.into()))??;
        Ok(answer.try_get::<&str, _>(0)? == "off")
    }
}

/// Reads a URL. Nothing of it gets into an error: it holds the password.
fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let wrong = |reason: String| StoreError::Configuration { reason };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    // Python's and Java's URLs name a driver, such as `postgresql+asyncpg`; it is theirs alone.
    let (kind, _driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    if !matches!(kind, "postgres" | "postgresql") {
        let reason = "the database URL must look like postgres://user:password@host:5432/database";
        return Err(wrong(reason.to_owned()));
    }
    let url = format!("postgres://{}", known_parameters(rest)?);
    let options = PgConnectOptions::from_str(&url)
        .map_err(|problem| wrong(format!("the database URL is not usable: {problem}")))?
        // A pooler of transactions refuses settings that it does not know; this one is not needed.
        .extra_float_digits(None)
        .disable_statement_logging();
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("saga-postgres"),
    })
}

/// Drops the parameters that are for other clients: the driver would log their values.
fn known_parameters(rest: &str) -> Result<String, StoreError> {
    let Some((place, parameters)) = rest.split_once('?') else { return Ok(rest.to_owned()) };
    let mut known = Vec::new();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            // Dropping this one would send in the clear what was to be encrypted.
            "ssl" => {
                let reason = "the database URL has `ssl=`, which is for another driver: \
                              use `sslmode=`, for example `sslmode=verify-full`";
                return Err(StoreError::Configuration { reason: reason.to_owned() });
            }
            "sslmode"
            | "ssl-mode"
            | "sslrootcert"
            | "ssl-root-cert"
            | "ssl-ca"
            | "sslcert"
            | "ssl-cert"
            | "sslkey"
            | "ssl-key"
            | "statement-cache-capacity"
            | "host"
            | "hostaddr"
            | "port"
            | "dbname"
            | "user"
            | "password"
            | "application_name"
            | "options" => known.push(parameter),
            _ if name.starts_with("options[") => known.push(parameter),
            _ => tracing::warn!(
                parameter = %name.escape_debug(),
                "ignoring a parameter of the database URL that is for other clients"
            ),
        }
    }
    Ok(if known.is_empty() { place.to_owned() } else { format!("{place}?{}", known.join("&")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t-marker";

    #[test]
    fn urls_of_other_clients_are_understood() {
        for scheme in ["postgres", "postgresql", "postgresql+asyncpg", "postgres+psycopg"] {
            let url = format!("{scheme}://anna:{SECRET}@db.example:6543/orders?pool_size=5");
            let options = options(&url).expect(scheme);
            assert_eq!(options.get_host(), "db.example");
            assert_eq!(options.get_port(), 6543);
            assert_eq!(options.get_username(), "anna");
            assert_eq!(options.get_database(), Some("orders"));
        }
    }

    #[test]
    fn what_is_for_this_client_is_kept() {
        let url = "postgres://h/d?sslmode=disable&x=1&application_name=orders";
        assert_eq!(options(url).unwrap().get_application_name(), Some("orders"));
        let rest = "h/d?sslmode=disable&x=1&application_name=orders";
        let kept = "h/d?sslmode=disable&application_name=orders";
        assert_eq!(known_parameters(rest).unwrap(), kept);
        assert_eq!(known_parameters("h/d?x=1").unwrap(), "h/d");
    }

    #[test]
    fn a_url_that_is_refused_is_not_quoted() {
        for url in [
            &format!("mysql://anna:{SECRET}@h/d"),
            &format!("anna:{SECRET}@h/d"),
            &format!("postgres://anna:{SECRET}@h:port/d"),
            &format!("postgres://anna:{SECRET}@h/d?ssl=require"),
            &format!("postgres://anna:{SECRET}@h/d?sslmode=perhaps"),
            &format!("postgresql+asyncpg://anna:{SECRET}@:x:/d"),
        ] {
            let refused = options(url).expect_err("a bad URL");
            assert!(matches!(refused, StoreError::Configuration { .. }), "got {refused:?}");
            let text = format!("{refused} {refused:?}");
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}
