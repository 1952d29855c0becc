//! The example programs as processes of their own.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// What the programs read from their environment; a test sets what it means to.
const VARIABLES: [&str; 10] = [
    "API_TOKENS",
    "DATABASE_URL",
    "KAFKA_BROKERS",
    "LISTEN",
    "LOG_FORMAT",
    "ORCHESTRATOR_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "PORT",
    "RESERVATION_SECONDS",
    "RUST_LOG",
];

/// Prepares to run an example with nothing set.
pub(crate) fn command(example: &str) -> Command {
    let mut command = Command::new(path(example));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// Returns where cargo puts an example: beside the folder that this test is in.
fn path(example: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let path = profile.join("examples").join(format!("{example}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build -p examples --examples`",
        path.display()
    );
    path
}
