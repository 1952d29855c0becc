//! `--seed`: a service loads its seed data, and does nothing else.

use std::{env, fmt};

use anyhow::Context as _;

use super::config::variable;

/// What loading seed data came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seeded {
    /// What was missing, and is there now.
    pub added: usize,
    /// What was there.
    pub kept: usize,
}

impl Seeded {
    /// Counts one more.
    pub fn count(&mut self, is_new: bool) {
        *(if is_new { &mut self.added } else { &mut self.kept }) += 1;
    }
}

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed data is loaded: {} added, {} there already", self.added, self.kept)
    }
}

/// Returns the database that seed data is to be loaded into, if that is all that a program was asked for.
///
/// # Errors
///
/// One line that says what to set.
pub fn database() -> anyhow::Result<Option<String>> {
    if !env::args().skip(1).eq(["--seed"]) {
        return Ok(None);
    }
    let url = variable("DATABASE_URL")?;
    url.context("--seed fills the service's own database: set DATABASE_URL to it").map(Some)
}
