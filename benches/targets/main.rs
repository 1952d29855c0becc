//! `targets`: runs `order-saga` for every target and prints the figures reached, as a table.
//!
//! Each figure is the median of three runs. A ratio is within one run, or of two runs that follow
//! each other.

mod order_saga;

use order_saga::{Runs, in_turn, order_saga};

fn main() -> anyhow::Result<()> {
    println!("| figure | target | reached |");
    println!("|---|---|---|");
    busy()?;
    few()?;
    flat()?;
    kafka()?;
    backlog()?;
    scale_out()
}

/// Local participants with many orders under way.
fn busy() -> anyhow::Result<()> {
    let batch = order_saga("--n 40000 --compare")?;
    let engine = |figure: &str| batch.median(&format!("/engine/1/{figure}"));
    row("local, `batch`, C=512: share of the floor's sagas/s", "≥ 40 %", &share(&batch));
    row("the same: sagas/s", "", &number(engine("sagas_per_s"), 0));
    row("the same: p99", "≤ 150 ms", &milliseconds(engine("p99_ms"), 0));
    let cpu = milliseconds(engine("cpu_ms_per_saga"), 3);
    row("the same: CPU per saga, engine and PostgreSQL", "≤ 0.15 ms", &cpu);
    let wal = number(engine("wal_bytes_per_saga"), 0) + " B";
    row("the same: WAL per saga", "≤ 3 000 B", &wal);
    row("the same: commits per saga", "≤ 0.1", &number(engine("commits_per_saga"), 3));
    let each = order_saga("--n 20000 --handlers each --compare")?;
    row("local, `each`, C=512: share of the floor's sagas/s", "≥ 15 %", &share(&each));
    Ok(())
}

/// Local participants with few orders under way, one, and none.
fn few() -> anyhow::Result<()> {
    let some = order_saga("--n 20000 --concurrency 64 --compare")?;
    row("local, `batch`, C=64: share of the floor's sagas/s", "", &share(&some));
    let one = order_saga("--n 1500 --concurrency 1 --compare")?;
    row("local, C=1: p50 over one transaction a step", "≤ 2", &times(&one));
    let commits = number(one.median("/engine/1/commits_per_saga"), 1);
    row("the same: commits per saga", "≤ 4", &commits);
    let none = order_saga("--n 1000 --idle 20")?;
    let idle = percent(none.median("/idle_cpu_percent") / 100.0, 2);
    row("local, no order under way: CPU of the process", "≤ 0.5 %", &idle);
    Ok(())
}

/// What must not slow the rest: a share is of the same work without it.
fn flat() -> anyhow::Result<()> {
    let [none, some, all, finished, ended, retention, snapshot, waiting] = in_turn([
        "--n 100000",
        "--n 100000 --variant B",
        "--n 100000 --variant C",
        "--n 100000 --finished-before 1000000",
        "--n 100000 --finished-before 100000",
        "--n 100000 --finished-before 100000 --retention",
        "--n 100000 --snapshot",
        "--n 100000 --waiting-before 100000",
    ])?;
    let of_none = |runs: &Runs| percent(runs.median_over(&none, "/sagas_per_s"), 0);
    row("10 % compensated: share of none", "≥ 80 %", &of_none(&some));
    row("all compensated: share of none", "≥ 50 %", &of_none(&all));
    row("1 000 000 finished sagas in the tables: share of none", "≥ 90 %", &of_none(&finished));
    let kept = percent(retention.median_over(&ended, "/sagas_per_s"), 0);
    row("retention removes 100 000 and what ends: share of without it", "≥ 90 %", &kept);
    row("an old snapshot is open: share of none", "", &of_none(&snapshot));
    row("100 000 waiting sagas: share of none", "", &of_none(&waiting));
    let memory = number(waiting.median("/peak_rss_mb"), 0) + " MB";
    row("the same: most memory of the process", "≤ 100 MB", &memory);
    let ready = |runs: &Runs| milliseconds(runs.median("/ready_ms"), 0);
    let ready = format!("{}; {} without", ready(&waiting), ready(&none));
    row("the same: from the start to the end of the first order", "", &ready);
    Ok(())
}

fn kafka() -> anyhow::Result<()> {
    let many = order_saga("--participants kafka --n 20000 --compare")?;
    row("Kafka, C=512: share of the raw loop's sagas/s", "≥ 50 %", &share(&many));
    let rate = number(many.median("/engine/1/sagas_per_s"), 0);
    row("the same: sagas/s", "", &rate);
    let some = order_saga("--participants kafka --n 5000 --concurrency 64 --compare")?;
    row("Kafka, C=64: share of the raw loop's sagas/s", "≥ 50 %", &share(&some));
    let one = order_saga("--participants kafka --n 500 --concurrency 1 --compare")?;
    row("Kafka, C=1: p50 over the raw loop's", "≤ 1.5", &times(&one));
    Ok(())
}

fn backlog() -> anyhow::Result<()> {
    let backlog = order_saga("--participants kafka --backlog --n 200000")?;
    let accepted = number(backlog.median("/accepted_per_s"), 0);
    row("no broker: sagas accepted/s", "", &accepted);
    let drained = number(backlog.median("/drained_per_s"), 0);
    row("200 000 messages wait when it is back: drained/s", "≥ 20 000", &drained);
    Ok(())
}

fn scale_out() -> anyhow::Result<()> {
    let [one, two, four] = in_turn([
        "--participants kafka --n 40000 --engines 1",
        "--participants kafka --n 40000 --engines 2",
        "--participants kafka --n 40000 --engines 4",
    ])?;
    for (name, engines) in [("2", &two), ("4", &four)] {
        let share = percent(engines.median_over(&one, "/sagas_per_s"), 0);
        let figure = format!("Kafka, {name} orchestrators: share of one's sagas/s");
        row(&figure, "≥ 100 %", &share);
        let conflicts = percent(engines.median("/conflict_share"), 2);
        row("the same: ticks that met a conflict", "", &conflicts);
    }
    let killed = order_saga("--participants kafka --n 40000 --engines 2 --kill")?;
    let handed_over = number(killed.median("/handed_over_s"), 1) + " s";
    row("one of 2 is killed: until its last saga has ended", "≤ 10 s", &handed_over);
    Ok(())
}

fn row(figure: &str, target: &str, reached: &str) {
    println!("| {figure} | {target} | {reached} |");
}

fn share(compared: &Runs) -> String {
    percent(compared.median("/sagas_per_s_ratio"), 0)
}

fn times(compared: &Runs) -> String {
    number(compared.median("/p50_ratio"), 2)
}

fn percent(ratio: f64, digits: usize) -> String {
    format!("{:.digits$} %", ratio * 100.0)
}

fn milliseconds(figure: f64, digits: usize) -> String {
    format!("{figure:.digits$} ms")
}

fn number(figure: f64, digits: usize) -> String {
    format!("{figure:.digits$}")
}
