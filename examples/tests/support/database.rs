//! Databases that a test makes for itself on the server at `DATABASE_URL`.

use std::env;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

/// The databases of one run of a test; those of runs that are over are dropped by the next one.
pub(crate) struct Databases {
    prefix: String,
    server: String,
}

impl Databases {
    /// Prepares for databases whose names start with `prefix`.
    pub(crate) async fn new(prefix: &str) -> Self {
        let server = server();
        let mut connection = connect(&server).await;
        let others = "select datname from pg_database where starts_with(datname, $1)";
        let others = sqlx::query_scalar(others).bind(prefix);
        let others: Vec<String> = others.fetch_all(&mut connection).await.expect("list databases");
        for other in others {
            // Fails for a run that is still going on.
            let drop = AssertSqlSafe(format!("drop database \"{other}\""));
            let _ = sqlx::query(drop).execute(&mut connection).await;
        }
        Self { prefix: format!("{prefix}{}_", Uuid::now_v7().simple()), server }
    }

    /// Makes a database and returns its URL.
    pub(crate) async fn create(&self, name: &str) -> String {
        let name = format!("{}{name}", self.prefix);
        let create = AssertSqlSafe(format!("create database \"{name}\""));
        let mut connection = connect(&self.server).await;
        sqlx::query(create).execute(&mut connection).await.expect("create a database");
        let (server, parameters) = match self.server.split_once('?') {
            Some((server, parameters)) => (server, format!("?{parameters}")),
            None => (self.server.as_str(), String::new()),
        };
        let authority = server.find("://").map_or(0, |at| at + 3);
        let end = server[authority..].find('/').map_or(server.len(), |at| authority + at);
        format!("{}/{name}{parameters}", &server[..end])
    }
}

/// Connects to a database.
pub(crate) async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("DATABASE_URL");
    PgConnection::connect_with(&options).await.unwrap_or_else(|error| {
        panic!("no PostgreSQL at DATABASE_URL: run `make test`, which starts one ({error})")
    })
}

fn server() -> String {
    env::var("DATABASE_URL").unwrap_or_else(|_| {
        panic!("DATABASE_URL is not set: run `make test`, which starts the services")
    })
}
