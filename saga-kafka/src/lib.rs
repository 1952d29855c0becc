//! Apache Kafka as the transport of `saga-core`.
//!
//! ```no_run
//! use saga_core::{ParticipantName, Transport};
//! use saga_kafka::{KafkaConfig, KafkaTransport};
//! # async fn run() -> Result<(), saga_core::TransportError> {
//! const INVENTORY: ParticipantName = ParticipantName::new("inventory");
//!
//! let config = KafkaConfig::new("kafka-1:9092,kafka-2:9092").partitions(16).replication(3);
//! let transport = KafkaTransport::new(config)?;
//! transport.ensure_topics(&[INVENTORY.commands(), INVENTORY.events()]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A publisher is idempotent and waits for all replicas; a record is retried until it is there or
//! the broker refuses it for good. A subscriber is a member of a consumer group whose offsets move
//! only over what was acknowledged. Kafka's transactions are not used: outbox and inbox give the
//! same effect, on every broker.
//!
//! | feature | what it adds |
//! |---|---|
//! | `ssl` | TLS and SASL, by [`KafkaConfig::setting`]; needs the system's OpenSSL and Cyrus SASL |
//! | `zstd` | reading and writing zstd-compressed records |

mod config;
mod error;
mod log;
mod publisher;
mod subscriber;
mod topics;
mod transport;

pub use config::KafkaConfig;
pub use publisher::KafkaPublisher;
pub use subscriber::KafkaSubscriber;
pub use transport::KafkaTransport;
