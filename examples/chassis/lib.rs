//! What a service needs beside its business: how it is configured, starts, answers, is observed, and stops.
//!
//! The four reference services stand on this chassis ([pattern]). It carries none of their business; only the list of
//! variables that `--help` shows names them.
//! [`service::Service`] holds its parts together.
//!
//! [pattern]: https://microservices.io/patterns/microservice-chassis.html

pub mod broker;
pub mod config;
pub mod database;
pub mod http;
pub mod money;
pub mod periodic;
pub mod seed;
pub mod service;
pub mod start_up;
pub mod telemetry;
