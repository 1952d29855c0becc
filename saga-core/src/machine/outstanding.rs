//! What a saga waits for, and the same commands once more.

use crate::definition::Definition;
use crate::machine::command::compensation_id;
use crate::machine::{OutgoingCommand, Progress, StepState};
use crate::{MessageId, ParticipantName, StepName, Timestamp};

impl Progress {
    /// Returns the commands that were sent and not answered, as they were sent last.
    ///
    /// A command whose message can be lost with its process, because its participant runs inside
    /// the engine, is made again from here after a crash. One that cannot be encoded is left out;
    /// its deadline takes care of it.
    #[must_use]
    pub fn outstanding(&self, definition: &Definition) -> Vec<OutgoingCommand> {
        let steps = definition.steps().iter().zip(&self.steps);
        steps
            .filter_map(|(definition, step)| match step.state {
                StepState::Outstanding => self.command(definition, step.attempt).ok(),
                StepState::Compensating => self.compensation(definition, step, step.attempt).ok(),
                _ => None,
            })
            .collect()
    }

    /// Returns when each command was sent that is not answered, as far as its deadline tells.
    pub(crate) fn asked(
        &self,
        definition: &Definition,
    ) -> impl Iterator<Item = (StepName, Timestamp)> {
        let steps = definition.steps().iter().zip(&self.steps);
        steps.filter_map(|(definition, step)| {
            let deadline = match step.state {
                StepState::Outstanding => definition.action().deadline,
                StepState::Compensating => definition.compensation().deadline,
                _ => return None,
            };
            Some((definition.name.clone(), step.due - deadline))
        })
    }

    /// Returns true if this attempt of a command was sent and not answered.
    #[must_use]
    pub fn awaits(&self, definition: &Definition, command: MessageId, attempt: u32) -> bool {
        let mut steps = definition.steps().iter().zip(&self.steps);
        steps.any(|(definition, step)| {
            step.attempt.number == attempt
                && match step.state {
                    StepState::Outstanding => step.command == command,
                    StepState::Compensating => {
                        compensation_id(self.saga, &definition.name) == command
                    }
                    _ => false,
                }
        })
    }

    /// Returns true if a command for one of these participants was sent and not answered.
    pub(crate) fn awaits_any(
        &self,
        definition: &Definition,
        is_meant: impl Fn(&ParticipantName) -> bool,
    ) -> bool {
        let mut steps = definition.steps().iter().zip(&self.steps);
        steps.any(|(definition, step)| {
            let action = match step.state {
                StepState::Outstanding => &definition.action,
                StepState::Compensating => &definition.compensation,
                _ => return false,
            };
            action.as_ref().is_some_and(|action| is_meant(&action.participant))
        })
    }
}
