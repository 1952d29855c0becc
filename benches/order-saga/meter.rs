//! What a run costs: processor time, log, commits and memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::database::{BACKENDS, METER};

/// The kernel's unit of processor time in `/proc`: `USER_HZ`, 100 a second on Linux.
const TICK: Duration = Duration::from_millis(10);
/// How long backends may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the counters of one server and of this process.
pub(crate) struct Meter {
    connection: PgConnection,
    databases: Vec<String>,
    begun: Option<Counters>,
}

struct Counters {
    own_cpu: Duration,
    backend_cpu: HashMap<i32, Duration>,
    wal_bytes: i64,
    commits: i64,
}

/// What was used between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) own_cpu: Duration,
    pub(crate) backend_cpu: Duration,
    pub(crate) wal_bytes: i64,
    pub(crate) commits: i64,
    pub(crate) rss_peak_bytes: u64,
}

/// What was used, but for the commits: they are known once the backends have ended.
pub(crate) struct Reading {
    usage: Usage,
    commits_before: i64,
}

impl Meter {
    /// Makes a meter for the databases of these URLs, which are on one server.
    pub(crate) async fn new(urls: &[String]) -> anyhow::Result<Self> {
        let mut databases = Vec::new();
        let mut connection = None;
        for url in urls {
            let mut one = METER.connect(url).await?;
            databases
                .push(sqlx::query_scalar("select current_database()").fetch_one(&mut one).await?);
            connection = Some(one);
        }
        let connection = connection.context("no database to measure")?;
        Ok(Self { connection, databases, begun: None })
    }

    /// Begins to count.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        // A checkpoint now, so that each run logs as many full pages. Not every role may ask for it.
        let _ = sqlx::query("checkpoint").execute(&mut self.connection).await;
        // Resets the peak of this process's memory.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        self.begun = Some(self.read().await?);
        Ok(())
    }

    /// Reads everything that must be read while the backends live.
    pub(crate) async fn end(&mut self) -> anyhow::Result<Reading> {
        let begun = self.begun.take().context("the meter was not begun")?;
        let ended = self.read().await?;
        let backend_cpu = ended.backend_cpu.iter().map(|(backend, cpu)| {
            cpu.saturating_sub(begun.backend_cpu.get(backend).copied().unwrap_or_default())
        });
        let usage = Usage {
            own_cpu: ended.own_cpu.saturating_sub(begun.own_cpu),
            backend_cpu: backend_cpu.sum(),
            wal_bytes: ended.wal_bytes - begun.wal_bytes,
            commits: 0,
            rss_peak_bytes: rss_peak_bytes(),
        };
        Ok(Reading { usage, commits_before: begun.commits })
    }

    /// Completes a reading with the commits, once all connections of the run are closed: a backend
    /// tells what it counted when it ends.
    pub(crate) async fn complete(&mut self, reading: Reading) -> anyhow::Result<Usage> {
        self.wait_for_backends().await?;
        let commits = self.commits().await? - reading.commits_before;
        Ok(Usage { commits, ..reading.usage })
    }

    async fn read(&mut self) -> anyhow::Result<Counters> {
        let wal = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
        let wal_bytes = sqlx::query_scalar(wal).fetch_one(&mut self.connection).await?;
        let commits = self.commits().await?;
        let backend_cpu = self.backends().await?.into_iter();
        let backend_cpu =
            backend_cpu.filter_map(|pid| Some((pid, cpu(&pid.to_string())?))).collect();
        Ok(Counters { own_cpu: own_cpu(), backend_cpu, wal_bytes, commits })
    }

    /// Waits until the backends of the run have ended.
    pub(crate) async fn wait_for_backends(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !self.backends().await?.is_empty() {
            if begun.elapsed() > PATIENCE {
                bail!("connections to the database stayed open after the run");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn commits(&mut self) -> anyhow::Result<i64> {
        let sum = "select sum(xact_commit)::bigint from pg_stat_database where datname = any($1)";
        Ok(sqlx::query_scalar(sum).bind(&self.databases).fetch_one(&mut self.connection).await?)
    }

    async fn backends(&mut self) -> anyhow::Result<Vec<i32>> {
        let pids =
            "select pid from pg_stat_activity where datname = any($1) and application_name = $2";
        let pids = sqlx::query(pids).bind(&self.databases).bind(BACKENDS.application_name());
        let rows = pids.fetch_all(&mut self.connection).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Ends the meter's own connection.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close().await?)
    }
}

impl Usage {
    /// Returns the processor time of this process and of the backends that it used.
    pub(crate) fn cpu(&self) -> Duration {
        self.own_cpu + self.backend_cpu
    }
}

/// Returns the user and system time of this process.
pub(crate) fn own_cpu() -> Duration {
    cpu("self").unwrap_or_default()
}

/// Returns the user and system time of a process; nothing if it is not on this machine.
fn cpu(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

fn rss_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
