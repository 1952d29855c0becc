//! What a process of the matrix is told.

use std::env;
use std::time::Duration;

use saga_testkit::Defect;
use serde::{Deserialize, Serialize};

const LIFE: &str = "CRASH_MATRIX_LIFE";
/// Longer than a letter's lease and the broker's session, twice, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);
const PATIENCE_WITH_DEFECT: Duration = Duration::from_secs(30);

/// What a process of the matrix is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) case: usize,
    pub(crate) life: u32,
    pub(crate) url: String,
    pub(crate) sagas: String,
    pub(crate) effects: String,
    pub(crate) prefix: String,
    pub(crate) order: String,
    /// What is done wrong on purpose: a place in [`Defect::ALL`].
    pub(crate) planted: Option<usize>,
}

impl Told {
    /// Returns what this process was told, if it is one of the matrix.
    pub(crate) fn here() -> Option<Self> {
        let told = env::var(LIFE).ok()?;
        Some(serde_json::from_str(&told).expect("it was written by this program"))
    }

    pub(crate) fn defect(&self) -> Option<Defect> {
        self.planted.map(|place| Defect::ALL[place])
    }

    /// How long a life may last. Where something is done wrong, it need not end.
    pub(crate) fn patience(&self) -> Duration {
        if self.planted.is_some() { PATIENCE_WITH_DEFECT } else { PATIENCE }
    }

    pub(crate) fn tell(&self, process: &mut std::process::Command) {
        process.env(LIFE, serde_json::to_string(self).expect("plain data"));
    }
}
