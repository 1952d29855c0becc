//! A saga as the orchestrator shows it: where it stands, and what happened to it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A saga as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ShownSaga {
    /// Its id.
    pub id: String,
    /// The name of its definition.
    pub name: String,
    /// The version of that.
    pub version: u32,
    /// `running`, `compensating`, `completed`, `compensated` or `parked`.
    pub status: String,
    /// Where its steps stand, those to come included.
    pub steps: Vec<ShownStep>,
    /// What happened, oldest first.
    pub timeline: Vec<ShownEntry>,
}

/// A step of a saga.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ShownStep {
    /// Its name.
    pub name: String,
    /// Where it stands, in words.
    pub state: String,
}

/// Something that happened to a saga.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ShownEntry {
    /// When it was decided: ISO 8601, in UTC.
    pub at: String,
    /// The step that it happened to, if it happened to one.
    pub step: Option<String>,
    /// What it was, in words.
    pub event: String,
    /// The attempt that it belongs to, from 1; 0 if to none.
    pub attempt: u32,
    /// More about it, such as the code of a rejection.
    pub detail: String,
}

impl ShownSaga {
    /// Returns true if nothing more will happen to it by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "compensated" | "parked")
    }
}
