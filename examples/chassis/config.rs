//! What a service reads from its environment and its command line.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, bail};
use saga_core::ParticipantName;
use saga_kafka::{KafkaConfig, KafkaTransport};

use super::http::Tokens;

/// What the services accept, for `--help` and for mistakes.
const USAGE: &str = "\
  KAFKA_BROKERS     brokers to exchange messages through, e.g. localhost:9092
  DATABASE_URL      the service's own database, e.g. postgres://user:password@localhost:5432/orders
  PORT, --port <n>  port to answer on; 0 takes a free one
  LISTEN            address to answer on; 127.0.0.1 unless set
  API_TOKENS        tokens that are asked for: SECRET=read, SECRET=write, or SECRET=write:u-1 for
                    one customer's orders, with commas between; none is asked for unless set
  RESERVATION_SECONDS (inventory) how long goods stay set aside for an order that does not end; 3600
                    unless set
  ORCHESTRATOR_TOKEN (orders) the token that the orchestrator asks for, if it does
  ORCHESTRATOR_URL  (orders) where sagas can be asked for; http://127.0.0.1:8004 unless set
  OTEL_EXPORTER_OTLP_ENDPOINT  where traces are sent (OTLP over HTTP), e.g. http://localhost:4318;
                    OTEL_SERVICE_NAME names the service in them, OTEL_DISABLED=true sends none, and
                    OTEL_TRACES_SAMPLER=parentbased_traceidratio with OTEL_TRACES_SAMPLER_ARG=0.01 few
  RUST_LOG          what is logged, e.g. debug
  LOG_FORMAT        text, or json
  --once            (orders, with neither of the first two) exit after the story
  --seed            (payments, inventory) put the seed data into the database of DATABASE_URL, and exit";

/// What a service was told.
#[derive(Debug)]
pub struct Config {
    /// Where it answers HTTP.
    pub address: SocketAddr,
    /// The broker and the database; `None` if neither is set.
    pub backends: Option<Backends>,
    /// Whether it exits after the story.
    pub once: bool,
    /// The tokens that it asks for.
    pub tokens: Tokens,
}

/// The broker and the database of a service.
pub struct Backends {
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// The service's own database. It holds a password, so it is never printed.
    pub database_url: String,
}

impl Config {
    /// Reads the environment and the command line; `port` is the one unless they say otherwise.
    ///
    /// # Errors
    ///
    /// One line that says what to set.
    pub fn read(port: u16) -> anyhow::Result<Self> {
        let mut once = false;
        let mut port_text = variable("PORT")?;
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--once" => once = true,
                "--port" => port_text = Some(arguments.next().unwrap_or_default()),
                "--help" | "-h" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => bail!("`{other}` is no option; --help lists them"),
            }
        }
        let port = match port_text {
            None => port,
            Some(text) => text.parse().with_context(|| {
                format!("`{text}` is no port; PORT and --port take a number from 0 to 65535")
            })?,
        };
        let host = variable("LISTEN")?.unwrap_or_else(|| "127.0.0.1".to_owned());
        let host: IpAddr = host
            .parse()
            .with_context(|| format!("LISTEN is `{host}`; set it to an address such as 0.0.0.0"))?;
        let backends = Backends::from(variable("KAFKA_BROKERS")?, variable("DATABASE_URL")?)?;
        if once && backends.is_some() {
            bail!("--once tells a story in memory; unset KAFKA_BROKERS and DATABASE_URL for it");
        }
        let tokens = variable("API_TOKENS")?.map(|text| Tokens::parse(&text)).transpose()?;
        let tokens = tokens.unwrap_or_default();
        Ok(Self { address: (host, port).into(), backends, once, tokens })
    }

    /// Returns the broker and the database of a service that does not run without.
    ///
    /// # Errors
    ///
    /// One line that says what to set.
    pub fn backends(self, service: &ParticipantName) -> anyhow::Result<Backends> {
        self.backends.with_context(|| {
            format!(
                "{service} runs beside the other services: set KAFKA_BROKERS and DATABASE_URL; \
                 to see all four with neither, `cargo run --example orders`"
            )
        })
    }
}

impl Backends {
    /// Makes the transport to the brokers. Brokers that are away are waited for later.
    ///
    /// # Errors
    ///
    /// What is wrong with `KAFKA_BROKERS`.
    pub fn transport(&self) -> anyhow::Result<KafkaTransport> {
        let transport = KafkaTransport::new(KafkaConfig::new(&self.brokers));
        transport.context("KAFKA_BROKERS cannot be used; correct it")
    }

    fn from(brokers: Option<String>, database_url: Option<String>) -> anyhow::Result<Option<Self>> {
        match (brokers, database_url) {
            (None, None) => Ok(None),
            (Some(brokers), Some(database_url)) => Ok(Some(Self { brokers, database_url })),
            (Some(_), None) => bail!(
                "KAFKA_BROKERS is set and DATABASE_URL is not: set DATABASE_URL to the service's \
                 own database, or unset KAFKA_BROKERS to run in memory"
            ),
            (None, Some(_)) => bail!(
                "DATABASE_URL is set and KAFKA_BROKERS is not: set KAFKA_BROKERS to the brokers, \
                 e.g. localhost:9092, or unset DATABASE_URL to run in memory"
            ),
        }
    }
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// Reads a number of seconds, at least one.
///
/// # Errors
///
/// One line that says what to set.
pub fn seconds(name: &str) -> anyhow::Result<Option<Duration>> {
    let Some(text) = variable(name)? else { return Ok(None) };
    let seconds: NonZeroU32 = text.trim().parse().with_context(|| {
        format!("{name} is `{text}`; set it to a whole number of seconds, at least 1")
    })?;
    Ok(Some(Duration::from_secs(seconds.get().into())))
}

/// Reads a variable; an empty one counts as not set.
///
/// # Errors
///
/// One line that says what to do, if it is not text.
pub fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => bail!("{name} is no text; set it to UTF-8"),
    }
}
