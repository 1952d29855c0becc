//! Driven from outside, by lines on standard input and output.

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use crate::arguments::Arguments;
use crate::run::{Peer, run};

/// Runs when it is told to, prints the figures, and ends when it is told to.
pub(crate) async fn drive(arguments: &Arguments, peer: Peer) -> anyhow::Result<()> {
    let mut driver = Driver::new();
    let figures = run(arguments, peer, Some(&mut driver)).await?;
    driver.end(&figures).await
}

/// Whoever is at the other end of standard input.
pub(crate) struct Driver {
    lines: Lines<BufReader<Stdin>>,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self { lines: BufReader::new(tokio::io::stdin()).lines() }
    }

    /// Tells what came of it, and waits for the word to end.
    pub(crate) async fn end(&mut self, result: &(impl Serialize + Sync)) -> anyhow::Result<()> {
        println!("DONE {}", serde_json::to_string(result)?);
        self.expect("QUIT").await
    }

    /// Says that everything is prepared, and waits for the word to begin.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        println!("READY");
        self.expect("GO").await
    }

    async fn expect(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.lines.next_line().await?;
        let line = line.with_context(|| format!("the input ended before a line {word}"))?;
        if line.trim() != word {
            bail!("expected a line {word}, got `{}`", line.escape_debug());
        }
        Ok(())
    }
}
