//! `targets`: runs `order-saga` for every target and prints the figures reached, as a table.
//!
//! Each figure is the median of three runs. A ratio is within one run: floor and engine in turn.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// How often each figure is taken.
const RUNS: usize = 3;

/// What is measured: the options of `order-saga`.
type Options = &'static [&'static str];

const BATCH_512: Options = &["--n", "40000", "--compare"];
const EACH_512: Options = &["--n", "20000", "--handlers", "each", "--compare"];
const BATCH_64: Options = &["--n", "20000", "--concurrency", "64", "--compare"];
const ONE: Options = &["--n", "1500", "--concurrency", "1", "--compare"];
const KAFKA_512: Options = &["--participants", "kafka", "--n", "20000", "--compare"];
const KAFKA_64: Options =
    &["--participants", "kafka", "--n", "5000", "--concurrency", "64", "--compare"];
const KAFKA_ONE: Options =
    &["--participants", "kafka", "--n", "500", "--concurrency", "1", "--compare"];
const VARIANT_A: Options = &["--n", "40000"];
const VARIANT_B: Options = &["--n", "40000", "--variant", "B"];
const VARIANT_C: Options = &["--n", "40000", "--variant", "C"];
const FINISHED: Options = &["--n", "40000", "--finished-before", "1000000"];

fn main() -> anyhow::Result<()> {
    println!("| figure | target | reached |");
    println!("|---|---|---|");
    let local = measure(BATCH_512)?;
    row("local, `batch`, C=512: share of the floor's sagas/s", "≥ 40 %", &share(&local))?;
    row("the same: sagas/s", "", &number(&local, "/engine/1/sagas_per_s", 0))?;
    row("the same: p99", "≤ 150 ms", &(number(&local, "/engine/1/p99_ms", 0) + " ms"))?;
    let cpu = number(&local, "/engine/1/cpu_ms_per_saga", 3);
    row("the same: CPU per saga, engine and PostgreSQL", "≤ 0.15 ms", &(cpu + " ms"))?;
    let wal = number(&local, "/engine/1/wal_bytes_per_saga", 0);
    row("the same: WAL per saga", "≤ 3 000 B", &(wal + " B"))?;
    let commits = number(&local, "/engine/1/commits_per_saga", 3);
    row("the same: commits per saga", "≤ 0.1", &commits)?;
    row(
        "local, `each`, C=512: share of the floor's sagas/s",
        "≥ 15 %",
        &share(&measure(EACH_512)?),
    )?;
    row("local, `batch`, C=64: share of the floor's sagas/s", "", &share(&measure(BATCH_64)?))?;
    let one = measure(ONE)?;
    row("local, C=1: p50 over one transaction a step", "≤ 2", &times(&one))?;
    row("the same: commits per saga", "≤ 4", &number(&one, "/engine/1/commits_per_saga", 1))?;
    let all_succeed = rate(&measure(VARIANT_A)?);
    let over = |options| Ok::<_, anyhow::Error>(percent(rate(&measure(options)?) / all_succeed));
    row("10 % compensated: share of none", "≥ 80 %", &over(VARIANT_B)?)?;
    row("all compensated: share of none", "≥ 50 %", &over(VARIANT_C)?)?;
    row("1 000 000 finished sagas in the tables: share of none", "≥ 90 %", &over(FINISHED)?)?;
    row("Kafka, C=512: share of the raw loop's sagas/s", "≥ 50 %", &share(&measure(KAFKA_512)?))?;
    row("Kafka, C=64: share of the raw loop's sagas/s", "≥ 50 %", &share(&measure(KAFKA_64)?))?;
    row("Kafka, C=1: p50 over the raw loop's", "≤ 1.5", &times(&measure(KAFKA_ONE)?))
}

fn row(figure: &str, target: &str, reached: &str) -> anyhow::Result<()> {
    println!("| {figure} | {target} | {reached} |");
    Ok(std::io::stdout().flush()?)
}

fn measure(options: Options) -> anyhow::Result<Vec<Value>> {
    (0..RUNS).map(|_| order_saga(options)).collect()
}

/// Runs the program that stands beside this one.
fn order_saga(options: Options) -> anyhow::Result<Value> {
    let program = std::env::current_exe()?.with_file_name("order-saga");
    let mut command = Command::new(&program);
    let command = command.args(options).arg("--json").stderr(Stdio::inherit());
    let output = command.output().with_context(|| {
        let program = program.display();
        format!("{program} does not start; `cargo build --release -p benches --bins` makes it")
    })?;
    ensure!(output.status.success(), "order-saga {} failed", options.join(" "));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Returns the median of a figure.
fn median(runs: &[Value], pointer: &str) -> f64 {
    let figure = |run: &Value| run.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut figures: Vec<_> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn rate(runs: &[Value]) -> f64 {
    median(runs, "/sagas_per_s")
}

fn share(runs: &[Value]) -> String {
    percent(median(runs, "/sagas_per_s_ratio"))
}

fn times(runs: &[Value]) -> String {
    format!("{:.2}", median(runs, "/p50_ratio"))
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

fn number(runs: &[Value], pointer: &str, digits: usize) -> String {
    format!("{:.digits$}", median(runs, pointer))
}
