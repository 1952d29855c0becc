//! Drives the four services as customers do: so many orders a second, whether they keep up or not.
//!
//! An order is measured from the moment at which it was to be placed, so a service that makes customers
//! wait is not asked less, and all of that wait counts. Its end is the message that tells it.

mod customers;
mod ends;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chassis::http::Client;
use chassis::start_up;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use uuid::Uuid;

use customers::Customers;
use ends::Ends;
use report::Report;

/// Places orders at a steady rate, and measures how long it takes until they are confirmed.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    /// Where the orders service answers.
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    url: String,
    /// The brokers that the services exchange messages through.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// Orders per second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long orders are placed and measured, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How long orders are placed before that, unmeasured, in seconds.
    #[arg(long, default_value_t = 5)]
    warm_up: u32,
    /// Where the histogram is drawn, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// A text whose table of figures is written anew, such as the README.
    #[arg(long)]
    table: Option<PathBuf>,
    /// A process whose memory is reported, by a name for it: `orders=1234`.
    #[arg(long = "process", value_name = "NAME=PID")]
    processes: Vec<String>,
}

/// How long the last order may take.
const SETTLE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    start_up::log(start_up::WARN);
    start_up::exit("load", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { rate, seconds, warm_up, .. } = arguments;
    ensure!(rate > 0 && seconds > 0, "--rate and --seconds must be more than 0");
    let orders = Client::new(&arguments.url).map_err(anyhow::Error::msg);
    let orders = orders.with_context(|| format!("--url {} cannot be used", arguments.url))?;
    let ends = Ends::watch(&arguments.brokers).await?;

    let (before, all) = (rate * warm_up, rate * (warm_up + seconds));
    let bar = progress_bar(all);
    let begin = Instant::now() + Duration::from_millis(100);
    let run = format!("load-{}", Uuid::now_v7().simple());
    let customers = Customers { run: run.clone(), orders, rate, all, begin };
    let latest = begin + Duration::from_secs((warm_up + seconds).into()) + SETTLE;
    let ending = ends.until(&run, all as usize, &bar, latest);
    // An order that is not taken ends the run at once.
    let measured = tokio::try_join!(customers.order(), async { Ok(ending.await) });
    bar.finish_and_clear();
    let (placed, ended) = measured?;
    let report = Report::new(rate, &placed[before as usize..], &ended);
    print!("{report}");
    let memory: Vec<_> =
        arguments.processes.iter().map(|it| report::memory(it)).collect::<Result<_, _>>()?;
    memory.iter().for_each(|line| println!("{line}"));
    if let Some(path) = &arguments.table {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
        std::fs::write(path, report.put_into(&text, &memory)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, report.to_svg())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        println!("the histogram is drawn in {}", path.display());
    }
    ensure!(report.is_complete(), "not every order ended within {} s", SETTLE.as_secs());
    Ok(())
}

fn progress_bar(orders: u32) -> ProgressBar {
    let style = "{elapsed_precise} {bar:40} {pos}/{len} orders ended, {per_sec}";
    let style = ProgressStyle::with_template(style).expect("the template is sound");
    ProgressBar::new(orders.into()).with_style(style)
}
