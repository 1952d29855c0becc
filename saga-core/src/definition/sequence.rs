//! A definition as a sequence of messages, for people.

use std::collections::BTreeSet;

use super::erased::{Action, Definition, StepDefinition, StepKind};
use crate::ParticipantName;

impl Definition {
    /// Returns the messages of a saga as a [Mermaid](https://mermaid.js.org) sequence diagram: what is asked, what is
    /// answered, and, in a frame at each step that can be refused, what is then asked to undo what was done.
    ///
    /// The text is the same for equal definitions, so it can be kept in a document and compared.
    ///
    /// # Examples
    ///
    /// ```
    /// # use saga_core::*;
    /// # use serde::{Deserialize, Serialize};
    /// # macro_rules! command { ($name:ident => $reply:ident) => {
    /// #     #[derive(Serialize, Deserialize)] struct $name;
    /// #     impl Message for $name { const TYPE: MessageType = MessageType::new(stringify!($name)); type Codec = Json; }
    /// #     #[derive(Serialize, Deserialize)] struct $reply;
    /// #     impl Message for $reply { const TYPE: MessageType = MessageType::new(stringify!($reply)); type Codec = Json; }
    /// #     impl Command for $name { type Reply = $reply; const PARTICIPANT: ParticipantName = ParticipantName::new("shop"); }
    /// # }}
    /// # command!(Reserve => Reserved); command!(Release => Released); command!(Charge => Charged);
    /// # #[derive(Serialize, Deserialize)] struct Order;
    /// # impl SagaData for Order { const SAGA: SagaName = SagaName::new("order"); type Codec = Json; }
    /// # struct ReserveStock;
    /// # impl Step<Order> for ReserveStock {
    /// #     const NAME: StepName = StepName::new("reserve-stock"); type Command = Reserve;
    /// #     fn command(&self, _: &Order) -> Reserve { Reserve }
    /// # }
    /// # impl Compensate<Order> for ReserveStock {
    /// #     type Compensation = Release;
    /// #     fn compensation(&self, _: &Order, _: &Cause) -> Release { Release }
    /// # }
    /// # struct ChargeCard;
    /// # impl Step<Order> for ChargeCard {
    /// #     const NAME: StepName = StepName::new("charge-card"); type Command = Charge;
    /// #     fn command(&self, _: &Order) -> Charge { Charge }
    /// # }
    /// let saga = Saga::<Order>::builder().step(ReserveStock).pivot(ChargeCard).build()?;
    /// assert_eq!(saga.definition().mermaid_sequence(), "sequenceDiagram
    ///     participant saga as order
    ///     participant p1 as shop
    ///     saga->>p1: Reserve
    ///     break refused
    ///         Note over saga: compensated
    ///     end
    ///     p1-->>saga: Reserved
    ///     saga->>p1: Charge
    ///     break refused
    ///         saga->>p1: Release
    ///         p1-->>saga: Released
    ///         Note over saga: compensated
    ///     end
    ///     p1-->>saga: Charged
    ///     Note over saga: completed
    /// ");
    /// # Ok::<(), DefinitionError>(())
    /// ```
    #[must_use]
    pub fn mermaid_sequence(&self) -> String {
        let mut diagram = Diagram::of(self);
        let stages: Vec<_> = self.steps.chunk_by(|one, next| one.stage == next.stage).collect();
        for (index, stage) in stages.iter().enumerate() {
            let (before, steps) = (&stages[..index], stage.iter());
            let steps: Vec<_> = steps.filter(|step| step.kind != StepKind::Prior).collect();
            diagram.side_by_side(&steps, |diagram, step| diagram.step(step, stage, before));
        }
        diagram.line("Note over saga: completed");
        diagram.text
    }
}

/// The text of a diagram.
struct Diagram<'a> {
    participants: Vec<&'a ParticipantName>,
    text: String,
    depth: usize,
}

impl<'a> Diagram<'a> {
    fn of(definition: &'a Definition) -> Self {
        let mut seen = BTreeSet::new();
        let asked = definition.commands().map(|(participant, _)| participant);
        let participants: Vec<_> = asked.filter(|it| seen.insert(*it)).collect();
        let text = "sequenceDiagram\n".to_owned();
        let mut diagram = Self { participants, text, depth: 1 };
        diagram.line(format!("participant saga as {}", definition.name()));
        for index in 0..diagram.participants.len() {
            let name = diagram.participants[index];
            diagram.line(format!("participant p{} as {name}", index + 1));
        }
        diagram
    }

    fn step(
        &mut self,
        step: &StepDefinition,
        stage: &[StepDefinition],
        before: &[&[StepDefinition]],
    ) {
        let Some(action) = &step.action else {
            return self.line(format!("Note over saga: {} waits", step.name));
        };
        let is_optional = step.condition.is_some();
        if is_optional {
            self.open("opt if wanted");
        }
        self.ask(action);
        if step.kind.can_be_refused() {
            self.open("break refused");
            let others: Vec<_> = stage.iter().filter(|it| it.name != step.name).collect();
            if !others.is_empty() {
                self.line("Note over saga: once the others have answered");
            }
            self.way_back(&others, |_| true);
            for stage in before.iter().rev() {
                let stage: Vec<_> = stage.iter().collect();
                self.way_back(&stage, |step| step.condition.is_some());
            }
            self.line("Note over saga: compensated");
            self.close();
        }
        self.answer(action);
        if is_optional {
            self.close();
        }
    }

    /// Draws how steps are undone; of some it is not sure that they were done.
    fn way_back(&mut self, steps: &[&StepDefinition], is_doubtful: fn(&StepDefinition) -> bool) {
        let undone = steps.iter().filter_map(|step| Some((*step, step.compensation.as_ref()?)));
        let undone: Vec<_> = undone.collect();
        self.side_by_side(&undone, |diagram, (step, compensation)| {
            let is_doubtful = is_doubtful(step);
            if is_doubtful {
                diagram.open("opt if done");
            }
            diagram.ask(compensation);
            diagram.answer(compensation);
            if is_doubtful {
                diagram.close();
            }
        });
    }

    /// Draws what happens at the same time; what happens alone stands for itself.
    fn side_by_side<T: Copy>(&mut self, all: &[T], draw: impl Fn(&mut Self, T)) {
        let is_one_of_many = all.len() > 1;
        for (index, one) in all.iter().enumerate() {
            match index {
                0 if is_one_of_many => self.open("par"),
                0 => {}
                _ => self.next("and"),
            }
            draw(self, *one);
        }
        if is_one_of_many {
            self.close();
        }
    }

    fn ask(&mut self, action: &Action) {
        self.line(format!("saga->>{}: {}", self.id(action), action.message_type));
    }

    fn answer(&mut self, action: &Action) {
        self.line(format!("{}-->>saga: {}", self.id(action), action.reply_type));
    }

    /// Returns what a participant is called in the text: its name may hold what Mermaid reads as an arrow.
    fn id(&self, action: &Action) -> String {
        let index = self.participants.iter().position(|it| **it == action.participant);
        format!("p{}", index.map_or(0, |index| index + 1))
    }

    fn open(&mut self, frame: &str) {
        self.line(frame);
        self.depth += 1;
    }

    fn next(&mut self, part: &str) {
        self.depth -= 1;
        self.open(part);
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("end");
    }

    fn line(&mut self, line: impl AsRef<str>) {
        self.text.extend(["    ".repeat(self.depth).as_str(), line.as_ref(), "\n"]);
    }
}
