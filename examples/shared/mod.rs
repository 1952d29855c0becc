//! What the four services have in common: the contract between them, and how a service starts,
//! answers and stops.

pub mod broker;
pub mod config;
pub mod contract;
pub mod database;
pub mod http;
pub mod messages;
pub mod money;
pub mod periodic;
pub mod seed;
pub mod service;
pub mod start_up;
pub mod telemetry;
pub mod timeline;
