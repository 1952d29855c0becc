//! A program that cannot start says in one line what to do, and exits with an error.

mod support;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use chassis::http::Client;
use support::database::Databases;
use support::programs::command;

const SERVICES: [&str; 4] = ["orders", "payments", "inventory", "orchestrator"];
const SECRET: &str = "s3cr3t-marker";
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Runs a program that is expected to give up, and returns its one line.
fn complaint(program: &mut Command) -> String {
    let ended = program.stdin(Stdio::null()).output().expect("the program runs");
    let line = String::from_utf8(ended.stderr).expect("text");
    assert!(!ended.status.success(), "it should have failed: {line}");
    assert_eq!(line.trim_end().lines().count(), 1, "one line is expected: {line}");
    assert!(!line.contains(SECRET), "{line}");
    line
}

#[test]
fn one_of_two_variables_is_not_enough() {
    for service in SERVICES {
        let line = complaint(command(service).env("KAFKA_BROKERS", NOWHERE));
        assert!(line.contains("set DATABASE_URL"), "{line}");
        let url = format!("postgres://anna:{SECRET}@{NOWHERE}/d");
        let line = complaint(command(service).env("DATABASE_URL", url).env("KAFKA_BROKERS", ""));
        assert!(line.contains("set KAFKA_BROKERS"), "{line}");
    }
}

#[test]
fn only_orders_runs_with_nothing_set() {
    for service in ["payments", "inventory", "orchestrator"] {
        let line = complaint(&mut command(service));
        assert!(line.contains("set KAFKA_BROKERS and DATABASE_URL"), "{line}");
        assert!(line.contains("cargo run --example orders"), "{line}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for line in [
        complaint(command("orders").args(["--once", "--port", &port])),
        complaint(configured("inventory", &format!("postgres://{NOWHERE}/d")).env("PORT", &port)),
    ] {
        assert!(line.contains(&port) && line.contains("--port"), "{line}");
    }
}

#[test]
fn a_database_that_does_not_answer_is_said() {
    // The driver in the scheme is another program's; it is no reason to complain.
    let url = format!("postgresql+asyncpg://anna:{SECRET}@{NOWHERE}/d");
    let line = complaint(&mut configured("payments", &url));
    assert!(line.contains("the database of DATABASE_URL does not answer"), "{line}");
}

#[test]
fn a_url_that_does_not_parse_is_said() {
    for url in ["mysql://anna:{}@h/d", "{}", "postgres://anna:{}@h:port/d"] {
        let line = complaint(&mut configured("orders", &url.replace("{}", SECRET)));
        assert!(line.contains("DATABASE_URL cannot be used"), "{line}");
    }
    let orchestrator = "localhost:8004/x y";
    let mut program = configured("orders", &format!("postgres://{NOWHERE}/d"));
    let line = complaint(program.env("ORCHESTRATOR_URL", orchestrator));
    assert!(line.contains("ORCHESTRATOR_URL cannot be used"), "{line}");
}

#[test]
fn what_is_no_option_or_no_port_is_said() {
    for (arguments, said) in [
        (vec!["--twice"], "--help"),
        (vec!["--port"], "no port"),
        (vec!["--port", "70000"], "no port"),
        (vec!["--port", "65534"], "a lower one"),
    ] {
        let line = complaint(command("orders").args(&arguments));
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
    for service in ["orders", "orchestrator"] {
        let line = complaint(command(service).arg("--seed"));
        assert!(line.contains("--help"), "{service} has no seed data: {line}");
    }
    let line = complaint(command("payments").arg("--seed"));
    assert!(line.contains("set DATABASE_URL"), "{line}");
    let mut inventory = configured("inventory", &format!("postgres://{NOWHERE}/d"));
    for text in ["0", "an hour", "-1"] {
        let line = complaint(inventory.env("RESERVATION_SECONDS", text));
        assert!(line.contains("RESERVATION_SECONDS") && line.contains(text), "{line}");
    }
    let line = complaint(command("orders").env("LISTEN", "here"));
    assert!(line.contains("LISTEN"), "{line}");
}

/// A broker that is away at the start is waited for, and after a while others are to be asked instead; and a URL
/// from a Python project works.
#[tokio::test]
async fn a_service_serves_while_the_broker_is_away_and_says_so() {
    let databases = Databases::new("examples_start_up_").await;
    let url = databases.create("payments").await;
    let url = url.replacen("://", "+asyncpg://", 1);
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let mut service = configured("payments", &url)
        .env("PORT", address.port().to_string())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");

    let client = Client::new(&format!("http://{address}")).expect("a URL");
    let says = async |expected: u16| loop {
        match client.get("/ready").await {
            Ok((status, problem)) if status == expected => break problem,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(30), says(200)).await;
    let not_ready = tokio::time::timeout(Duration::from_secs(30), says(503)).await;
    let shown = client.get("/accounts/u-1").await;
    let ended = service.try_wait().expect("its state");
    service.kill().expect("stop it");
    service.wait().expect("its end");
    assert_eq!(ended, None, "it must not give up");
    ready.expect("the service is ready");
    let problem = not_ready.expect("the broker is missed");
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("broker")), "{problem}");
    assert_eq!(shown.expect("it still serves").0, 200);
}

fn configured(service: &str, database_url: &str) -> Command {
    let mut command = command(service);
    // A port of its own, so that nothing else can be what is complained about.
    command.env("KAFKA_BROKERS", NOWHERE).env("DATABASE_URL", database_url).env("PORT", "0");
    command
}
