//! Driven from outside, by lines on standard input and output.

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use crate::arguments::Arguments;
use crate::run::{Peer, run};

/// Prints `READY`, runs at `GO`, prints `DONE` with the figures, and ends at `QUIT`.
pub(crate) async fn drive(arguments: &Arguments, peer: Peer) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let figures = run(arguments, peer, async || {
        println!("READY");
        expect(&mut lines, "GO").await
    });
    let figures = figures.await?;
    println!("DONE {}", serde_json::to_string(&figures)?);
    expect(&mut lines, "QUIT").await
}

async fn expect(lines: &mut Lines<BufReader<Stdin>>, word: &str) -> anyhow::Result<()> {
    let line = lines.next_line().await?.with_context(|| format!("input ended before {word}"))?;
    if line.trim() != word {
        bail!("expected a line {word}, got `{}`", line.escape_debug());
    }
    Ok(())
}
