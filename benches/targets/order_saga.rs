//! Runs the program `order-saga`, and keeps what it prints.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// How often each figure is taken.
const RUNS: usize = 3;

/// What some runs with the same options printed.
pub(crate) struct Runs(Vec<Value>);

/// Runs the program with these options, some times.
pub(crate) fn order_saga(options: &str) -> anyhow::Result<Runs> {
    let [runs] = in_turn([options])?;
    Ok(runs)
}

/// Runs the program with each of these options in turn, some times: the runs of a turn can be compared.
pub(crate) fn in_turn<const N: usize>(options: [&str; N]) -> anyhow::Result<[Runs; N]> {
    let mut runs = options.map(|_| Runs(Vec::with_capacity(RUNS)));
    for _ in 0..RUNS {
        for (runs, options) in runs.iter_mut().zip(options) {
            runs.0.push(run(options)?);
        }
    }
    Ok(runs)
}

/// Runs the program that stands beside this one.
fn run(options: &str) -> anyhow::Result<Value> {
    let program = std::env::current_exe()?.with_file_name("order-saga");
    let mut command = Command::new(&program);
    let command = command.args(options.split(' ')).arg("--json").stderr(Stdio::inherit());
    let output = command.output().with_context(|| {
        let program = program.display();
        format!("{program} does not start; `cargo build --release -p benches --bins` makes it")
    })?;
    ensure!(output.status.success(), "order-saga {options} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Runs {
    /// Returns the median of a figure.
    pub(crate) fn median(&self, figure: &str) -> f64 {
        median(self.0.iter().map(|run| number(run, figure)))
    }

    /// Returns the median of a figure over that of other runs, turn by turn.
    pub(crate) fn median_over(&self, others: &Self, figure: &str) -> f64 {
        let turns = self.0.iter().zip(&others.0);
        median(turns.map(|(run, other)| number(run, figure) / number(other, figure)))
    }
}

/// A figure that is missing shows as NaN in the table.
fn number(run: &Value, figure: &str) -> f64 {
    run.pointer(figure).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
