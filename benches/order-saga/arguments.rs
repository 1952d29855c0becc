//! What the program can be asked to do.

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Carries order sagas through a real database, checks every effect, and prints what it cost.
#[derive(Debug, Clone, Parser)]
#[command(name = "order-saga", version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Arguments {
    /// Database to work in; its role must be allowed to create schemas, and databases for `kafka`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,

    /// Number of orders
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) n: u64,

    /// Orders under way at the same time: each that ends lets the next one start
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) concurrency: u64,

    /// A: all succeed; B: every tenth is declined by its last step; C: all are
    #[arg(long, value_enum, default_value_t = Variant::A, ignore_case = true)]
    pub(crate) variant: Variant,

    /// Where commands are carried out: in the engine's transactions, or by three services over Kafka
    #[arg(long, value_enum, default_value_t = Participants::Local)]
    pub(crate) participants: Participants,

    /// Kafka's brokers, as host:port with commas in between
    #[arg(long, env = "KAFKA_BROKERS", value_name = "HOST:PORT")]
    pub(crate) brokers: Option<String>,

    /// Handlers that take one command a call, or all that came together
    #[arg(long, value_enum, default_value_t = Handlers::Batch)]
    pub(crate) handlers: Handlers,

    /// Finished sagas that are in the tables before the run begins
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) finished_before: u64,

    /// Engines, each in a process of its own, on the same topics and database
    #[arg(long, conflicts_with_all = ["floor", "compare", "drive"], value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) engines: Option<u64>,

    /// Kills the first of the engines in the middle of its work
    #[arg(long, requires = "engines")]
    pub(crate) kill: bool,

    /// Accepts all orders while the broker is away, and measures how fast their commands go out after
    #[arg(long, conflicts_with_all = ["floor", "compare", "drive", "engines"])]
    pub(crate) backlog: bool,

    /// What a process of `--engines` calls itself with: which of them it is
    #[arg(long, requires = "engines", hide = true)]
    pub(crate) engine_number: Option<u64>,

    /// Sagas that wait for an hour and are in the tables before the run begins
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) waiting_before: u64,

    /// Removes ended sagas meanwhile
    #[arg(long, conflicts_with = "floor")]
    pub(crate) retention: bool,

    /// Holds a transaction open meanwhile that sees the tables as they were before
    #[arg(long)]
    pub(crate) snapshot: bool,

    /// Seconds without an order after the run, to measure what an idle engine costs
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) idle: u64,

    /// Does the work by hand-written code without the engine
    #[arg(long, conflicts_with = "compare")]
    pub(crate) floor: bool,

    /// Runs floor, engine, floor, engine, and prints their ratios
    #[arg(long, conflicts_with = "drive")]
    pub(crate) compare: bool,

    /// Waits for a line GO on standard input, and for a line QUIT at the end
    #[arg(long)]
    pub(crate) drive: bool,

    /// Existing table that the effects are written into, instead of one of the program's own
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) effect_table: Option<String>,

    /// Prints one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Arguments {
    /// Returns Kafka's brokers.
    pub(crate) fn brokers(&self) -> anyhow::Result<&str> {
        let missing = "--participants kafka needs --brokers (or KAFKA_BROKERS); \
                       `scripts/services up` starts a broker";
        self.brokers.as_deref().context(missing)
    }
}

/// Which orders are declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "UPPER")]
pub(crate) enum Variant {
    A,
    B,
    C,
}

/// Where commands are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Participants {
    Local,
    Kafka,
}

/// How many commands a handler is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Handlers {
    Each,
    Batch,
}
