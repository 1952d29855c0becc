//! `order-saga`: carries orders through a real database, checks every effect, and prints what it
//! cost, so that anyone can compare like with like.

mod arguments;
mod backlog;
mod before;
mod beside;
mod closed_loop;
mod compare;
mod database;
mod drive;
mod effects;
mod engine;
mod figures;
mod floor;
mod handlers;
mod meter;
mod orders;
mod place;
mod run;
mod saga;
mod scale_out;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::run::Peer;

/// One thread: an engine is one loop, and each wake-up of a second thread costs more than it helps.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("order-saga: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn work(arguments: &Arguments) -> anyhow::Result<()> {
    let peer = if arguments.floor { Peer::Floor } else { Peer::Engine };
    if let Some(number) = arguments.engine_number {
        scale_out::work_share(arguments, number).await
    } else if let Some(engines) = arguments.engines {
        scale_out::scale_out(arguments, engines).await
    } else if arguments.backlog {
        backlog::backlog(arguments).await
    } else if arguments.compare {
        compare::compare(arguments).await
    } else if arguments.drive {
        drive::drive(arguments, peer).await
    } else {
        let figures = run::run(arguments, peer, None).await?;
        figures.print(arguments.json)
    }
}
