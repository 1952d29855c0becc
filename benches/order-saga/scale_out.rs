//! Several engines on the same topics and database, each in a process of its own.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use uuid::Uuid;

use crate::arguments::{Arguments, Participants};
use crate::closed_loop::{self, Shop as _};
use crate::database::METER;
use crate::drive::Driver;
use crate::engine::{Orchestrator, Services};
use crate::figures::as_f64;
use crate::orders::Order;
use crate::place::Place;

/// How many orders each engine carries through before it is ready.
const WARM_UP: u64 = 50;
/// How often the tables are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a dead engine's sagas may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one of the engines did.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    elapsed_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    ticks: u64,
    saga_commits: u64,
    conflicts: u64,
}

/// What they did together.
#[derive(Debug, Serialize)]
struct Together {
    peer: &'static str,
    engines: u64,
    n: u64,
    concurrency: u64,
    sagas_per_s: f64,
    p99_ms: f64,
    ticks: u64,
    saga_commits: u64,
    conflicts: u64,
    /// Conflicts per tick.
    conflict_share: f64,
    /// From the death of an engine to the end of the sagas that it had under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    handed_over_s: Option<f64>,
    shares: Vec<Share>,
}

/// Runs the services, lets the engines carry the orders through, and verifies the effects.
pub(crate) async fn scale_out(arguments: &Arguments, engines: u64) -> anyhow::Result<()> {
    if arguments.participants == Participants::Local {
        bail!("--engines needs --participants kafka");
    }
    let place = Place::prepare(arguments).await?;
    let services = Services::start_anew(arguments, &place).await?;
    let mut tables = METER.connect(&place.orchestrator).await?;
    let mut processes = Vec::new();
    // One after the other: the first one makes the tables.
    for number in 0..engines {
        let mut process = Process::start(number)?;
        process.expect("READY").await?;
        processes.push(process);
    }
    let begun = Instant::now();
    for process in &mut processes {
        process.say("GO").await?;
    }
    let handed_over = if arguments.kill {
        let victim = processes.remove(0);
        Some(kill(victim, &mut tables, arguments.n / 4).await?)
    } else {
        None
    };
    let mut shares: Vec<Share> = Vec::new();
    for process in &mut processes {
        let done = process.expect("DONE").await?;
        shares.push(serde_json::from_str(&done)?);
    }
    let elapsed = begun.elapsed();
    for process in &mut processes {
        process.say("QUIT").await?;
        process.child.wait().await?;
    }
    services.shutdown().await?;
    place.verify(&accepted(arguments, engines, &mut tables).await?).await?;
    let together = Together::new(arguments, shares, elapsed, handed_over);
    println!("{}", serde_json::to_string(&together)?);
    Ok(())
}

/// Carries one engine's share of the orders through.
pub(crate) async fn work_share(arguments: &Arguments, number: u64) -> anyhow::Result<()> {
    let engines = arguments.engines.context("--engine-number needs --engines")?;
    let concurrency = arguments.concurrency.div_ceil(engines);
    let arguments = Arguments { concurrency, ..arguments.clone() };
    let n = arguments.n;
    let mut driver = Driver::new();
    let url = Place::orchestrator(&arguments)?;
    let shop = Arc::new(Orchestrator::start(&arguments, &url).await?);
    let warm_up = n + number * WARM_UP..n + (number + 1) * WARM_UP;
    closed_loop::run(&shop, &arguments, warm_up).await?;
    driver.begin().await?;
    let before = shop.engine.counters();
    let orders = number * n / engines..(number + 1) * n / engines;
    let latencies = closed_loop::run(&shop, &arguments, orders).await?;
    let after = shop.engine.counters();
    let share = Share {
        elapsed_s: latencies.elapsed.as_secs_f64(),
        p50_ms: latencies.percentile_ms(50),
        p99_ms: latencies.percentile_ms(99),
        ticks: after.ticks - before.ticks,
        saga_commits: after.saga_commits - before.saga_commits,
        conflicts: after.conflicts - before.conflicts,
    };
    driver.end(&share).await?;
    Arc::into_inner(shop).context("somebody still orders")?.shutdown().await
}

impl Together {
    fn new(
        arguments: &Arguments,
        shares: Vec<Share>,
        elapsed: Duration,
        handed_over: Option<Duration>,
    ) -> Self {
        let sum = |figure: fn(&Share) -> u64| shares.iter().map(figure).sum::<u64>();
        let (ticks, conflicts) = (sum(|it| it.ticks), sum(|it| it.conflicts));
        Self {
            peer: "orderweaver",
            engines: arguments.engines.unwrap_or(1),
            n: arguments.n,
            concurrency: arguments.concurrency,
            sagas_per_s: as_f64(arguments.n) / elapsed.as_secs_f64(),
            p99_ms: shares.iter().map(|share| share.p99_ms).fold(0.0, f64::max),
            ticks,
            saga_commits: sum(|it| it.saga_commits),
            conflicts,
            conflict_share: as_f64(conflicts) / as_f64(ticks.max(1)),
            handed_over_s: handed_over.map(|it| it.as_secs_f64()),
            shares,
        }
    }
}

/// One of the engines.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program again, as one of the engines.
    fn start(number: u64) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).arg("--engine-number").arg(number.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("another process cannot be started")?;
        let input = child.stdin.take().context("the process has no standard input")?;
        let output = child.stdout.take().context("the process has no standard output")?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    async fn say(&mut self, word: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{word}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    /// Waits for a line that begins with a word, and returns what follows it.
    async fn expect(&mut self, word: &str) -> anyhow::Result<String> {
        let line = self.output.next_line().await?;
        let line = line.with_context(|| format!("an engine ended before it said {word}"))?;
        let rest = line.strip_prefix(word);
        Ok(rest.with_context(|| format!("an engine said `{line}` instead of {word}"))?.to_owned())
    }
}

/// Kills an engine once some sagas have ended; returns how long others took to end those it had begun.
async fn kill(
    mut victim: Process,
    tables: &mut PgConnection,
    after: u64,
) -> anyhow::Result<Duration> {
    let ended = "select count(*) from saga.saga where status in (2, 3)";
    while sqlx::query_scalar::<_, i64>(ended).fetch_one(&mut *tables).await?.unsigned_abs() < after
    {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    victim.child.kill().await?;
    let died = Instant::now();
    let running = "select id from saga.saga where status in (0, 1)";
    let orphans: Vec<Uuid> = sqlx::query_scalar(running).fetch_all(&mut *tables).await?;
    let left = "select count(*) from saga.saga where id = any($1) and status in (0, 1)";
    loop {
        let left: i64 = sqlx::query_scalar(left).bind(&orphans).fetch_one(&mut *tables).await?;
        if left == 0 {
            return Ok(died.elapsed());
        }
        if died.elapsed() > PATIENCE {
            bail!("{left} sagas of a killed engine have not ended after {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the orders that were accepted: all, but for those that a killed engine had not begun.
async fn accepted(
    arguments: &Arguments,
    engines: u64,
    tables: &mut PgConnection,
) -> anyhow::Result<Vec<Order>> {
    let keys = sqlx::query("select key from saga.saga_key").fetch_all(tables).await?;
    let keys = keys.iter().map(|row| row.try_get::<String, _>(0));
    let keys = keys.collect::<Result<HashSet<_>, _>>()?;
    let all = (0..arguments.n + engines * WARM_UP).map(|it| Order::new(it, arguments.variant));
    let (accepted, missing): (Vec<_>, Vec<_>) =
        all.partition(|order| keys.contains(&order.id.to_string()));
    if !missing.is_empty() && !arguments.kill {
        bail!("{} orders were never accepted", missing.len());
    }
    Ok(accepted)
}
