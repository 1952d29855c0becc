//! What came of it: how many, how fast, as text and as a picture.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::customers::Placed;
use super::ends::End;

/// Widest bar of the histogram, in characters.
const BAR: usize = 50;
/// Each class of the histogram is so many times as long as the one before.
const GROWTH: f64 = 1.5;
const FIRST_CLASS: Duration = Duration::from_millis(5);
/// Into so many parts of equal length a run is cut.
const PARTS: usize = 10;

/// Where a text has the figures.
const TABLE: &str = "<!-- written by `make load TABLE=1` -->";
const TABLE_END: &str = "<!-- end -->";

/// What was measured.
pub(super) struct Report {
    rate: u32,
    confirmed: usize,
    rejected: usize,
    missing: usize,
    per_second: u64,
    /// From when an order was due until it was accepted; sorted.
    accepted: Vec<Duration>,
    /// From when an order was due until it ended; sorted.
    ended: Vec<Duration>,
    /// The same for each part of the run, with when it began.
    parts: Vec<(Duration, Vec<Duration>)>,
}

impl Report {
    pub(super) fn new(rate: u32, placed: &[Placed], ends: &HashMap<String, End>) -> Self {
        let found: Vec<_> =
            placed.iter().filter_map(|it| Some((it.due, ends.get(&it.order_id)?))).collect();
        let mut ended: Vec<_> = found.iter().map(|(due, end)| end.at - *due).collect();
        let mut accepted: Vec<_> = placed.iter().map(|it| it.accepted - it.due).collect();
        ended.sort_unstable();
        accepted.sort_unstable();
        let parts = parts(&found);
        let confirmed = found.iter().filter(|(_, end)| end.is_confirmed).count();
        let first = placed.first().map(|it| it.due);
        let last = found.iter().map(|(_, end)| end.at).max();
        let time = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
        let seconds = time.as_secs().max(1);
        Self {
            rate,
            confirmed,
            rejected: found.len() - confirmed,
            missing: placed.len() - found.len(),
            per_second: found.len() as u64 / seconds,
            accepted,
            ended,
            parts,
        }
    }

    /// Returns true if every order ended.
    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Returns how many orders ended within each class, with its upper bound.
    fn classes(&self) -> Vec<(Duration, usize)> {
        let mut classes = Vec::new();
        let (mut bound, mut done) = (FIRST_CLASS, 0);
        while done < self.ended.len() {
            let within = self.ended.partition_point(|it| *it <= bound);
            if within > 0 {
                classes.push((bound, within - done));
            }
            (done, bound) = (within, bound.mul_f64(GROWTH));
        }
        classes
    }

    /// Puts the figures into the table of a text, in place of those that are there.
    ///
    /// # Errors
    ///
    /// If the text has no place for them.
    pub(super) fn put_into(&self, text: &str, processes: &[String]) -> anyhow::Result<String> {
        let places = text.split_once(TABLE).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(TABLE_END)?;
            Some((before, after))
        });
        let (before, after) = places.with_context(|| format!("it has no `{TABLE}`"))?;
        let mut table =
            String::from("| | median | 90 % | 99 % | longest |\n|---|---|---|---|---|\n");
        for (name, times) in [("accepted", &self.accepted), ("ended", &self.ended)] {
            let [p50, p90, p99, most] = [50, 90, 99, 100].map(|percent| shown(at(times, percent)));
            writeln!(table, "| {name} within | {p50} | {p90} | {p99} | {most} |")?;
        }
        let Self { rate, confirmed, per_second, .. } = self;
        writeln!(
            table,
            "\n{rate} orders a second were asked for, {per_second} a second ended; {confirmed} were confirmed."
        )?;
        let processes =
            processes.iter().map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
        writeln!(table, "Memory: {}.", processes.collect::<Vec<_>>().join("; "))?;
        Ok(format!("{before}{TABLE}\n{table}{TABLE_END}{after}"))
    }

    /// Draws the histogram.
    pub(super) fn to_svg(&self) -> String {
        let classes = self.classes();
        let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
        let (row, left, width) = (22, 90, 480);
        let height = row * classes.len() + 60;
        let title = format!(
            "{} orders/s: {} orders, p50 {}, p99 {}",
            self.rate,
            self.ended.len(),
            shown(at(&self.ended, 50)),
            shown(at(&self.ended, 99))
        );
        let mut rows = String::new();
        for (index, (bound, count)) in classes.iter().enumerate() {
            let (y, bar) = (40 + row * index, width * count / most);
            let text = y + 14;
            // Writing to a string cannot fail.
            let _ = writeln!(
                rows,
                r#"<text x="{}" y="{text}" text-anchor="end">≤ {}</text><rect x="{left}" y="{y}" width="{bar}" height="18" fill="steelblue"/><text x="{}" y="{text}">{count}</text>"#,
                left - 8,
                shown(*bound),
                left + bar + 6,
            );
        }
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="10" y="22" font-size="14">{title}</text>
{rows}</svg>
"#
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, confirmed, rejected, missing, per_second, .. } = self;
        writeln!(f, "asked for {rate} orders/s, ended {per_second} orders/s")?;
        writeln!(f, "{confirmed} confirmed, {rejected} rejected, {missing} without an end")?;
        for (name, times) in [("accepted", &self.accepted), ("ended", &self.ended)] {
            let [p50, p90, p99, most] = [50, 90, 99, 100].map(|percent| shown(at(times, percent)));
            writeln!(f, "{name:8}  p50 {p50:>8}  p90 {p90:>8}  p99 {p99:>8}  most {most:>8}")?;
        }
        for (begin, times) in &self.parts {
            let [p50, p99] = [50, 99].map(|percent| shown(at(times, percent)));
            let begin = format!("{:.0} s", begin.as_secs_f64());
            writeln!(f, "  from {begin:>6}  p50 {p50:>8}  p99 {p99:>8}")?;
        }
        let classes = self.classes();
        let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (bound, count) in classes {
            let bar = "█".repeat((BAR * count).div_ceil(most));
            writeln!(f, "  ≤ {:>8}  {count:>7}  {bar}", shown(bound))?;
        }
        Ok(())
    }
}

/// Cuts a run into parts of equal length: a stall shows in one of them.
fn parts(found: &[(Instant, &End)]) -> Vec<(Duration, Vec<Duration>)> {
    let Some((first, _)) = found.first() else { return Vec::new() };
    let parts = found.chunks(found.len().div_ceil(PARTS)).map(|part| {
        let mut times: Vec<_> = part.iter().map(|(due, end)| end.at - *due).collect();
        times.sort_unstable();
        (part[0].0 - *first, times)
    });
    parts.collect()
}

/// Returns what so many percent of them, sorted, do not exceed.
fn at(times: &[Duration], percent: usize) -> Duration {
    let place = (times.len() * percent).div_ceil(100);
    times.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1_000.0)
}

/// Says how much memory a process takes, told as `name=pid`.
pub(super) fn memory(process: &str) -> anyhow::Result<String> {
    let (name, pid) = process.split_once('=').context("--process takes NAME=PID")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("there is no process {pid}"))?;
    let kilobytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").parse::<u64>().ok()
    };
    let now = kilobytes("VmRSS").context("the system does not say how much memory it takes")?;
    let most = kilobytes("VmHWM").unwrap_or(now);
    Ok(format!("{name:14} {:>4} MB, at most {:>4} MB", now / 1024, most / 1024))
}
