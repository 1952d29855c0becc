//! How a program starts and stops: logs, ports, signals, and the one line if something is wrong.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What a service logs by default. What the server says about tables that exist is no news.
pub const INFO: &str = "info,sqlx=warn,opentelemetry=warn,opentelemetry_sdk=warn";
/// What is logged by default where something else is to be read.
pub const WARN: &str = "warn";

/// Writes logs to stderr: what `RUST_LOG` says, or else `default`; as JSON if `LOG_FORMAT` says so.
pub fn log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    // Fails if a log is set up already, and then that one is used.
    let _ = match std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        true => log.json().flatten_event(true).try_init(),
        false => log.try_init(),
    };
}

/// Turns how a program ended into its exit code; an error becomes one line on stderr.
pub fn exit(program: impl Display, ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a port.
///
/// # Errors
///
/// One line that says what to do if another program has it.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be used; stop what listens there, or choose another with --port")
    })
}

/// Returns a token that is cancelled by Ctrl-C and by SIGTERM.
///
/// # Errors
///
/// If the signals cannot be listened to.
pub fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let signalled = signal()?;
    let token = stop.clone();
    tokio::spawn(async move {
        signalled.await;
        token.cancel();
    });
    Ok(stop)
}

#[cfg(unix)]
fn signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        // An error means that Ctrl-C cannot be seen, so there is nothing to stop for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
