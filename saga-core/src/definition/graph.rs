//! A definition as a graph, for people.

use super::erased::{Action, Definition, StepDefinition, StepKind};

impl Definition {
    /// Returns the definition as a [Mermaid](https://mermaid.js.org) flowchart, which GitHub and most
    /// documentation tools draw: solid arrows are the way forward, dotted ones the way back.
    ///
    /// The pivot is a hexagon. A refusal before it, or of it, leads into the compensations of what was done by
    /// then. The text is the same for equal definitions, so it can be kept in a document and compared.
    ///
    /// # Examples
    ///
    /// ```
    /// # use saga_core::*;
    /// # use serde::{Deserialize, Serialize};
    /// # macro_rules! command { ($name:ident) => {
    /// #     #[derive(Serialize, Deserialize)] struct $name;
    /// #     impl Message for $name { const TYPE: MessageType = MessageType::new(stringify!($name)); type Codec = Json; }
    /// #     impl Command for $name { type Reply = Done; const PARTICIPANT: ParticipantName = ParticipantName::new("shop"); }
    /// # }}
    /// # #[derive(Serialize, Deserialize)] struct Done;
    /// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
    /// # command!(Reserve); command!(Release); command!(Charge);
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
    /// assert_eq!(saga.definition().mermaid(), r#"flowchart LR
    ///     start((start))
    ///     step1["reserve-stock<br>Reserve to shop"]
    ///     step2{{"charge-card<br>Charge to shop"}}
    ///     completed((completed))
    ///     undo1["Release to shop"]
    ///     compensated((compensated))
    ///     start --> step1
    ///     step1 --> step2
    ///     step2 --> completed
    ///     step1 -. refused .-> compensated
    ///     undo1 -.-> compensated
    ///     step2 -. refused .-> undo1
    /// "#);
    /// # Ok::<(), DefinitionError>(())
    /// ```
    #[must_use]
    pub fn mermaid(&self) -> String {
        let stages: Vec<_> = self.steps.chunk_by(|one, next| one.stage == next.stage).collect();
        let mut graph = Graph::default();
        graph.line("start((start))");
        self.steps.iter().for_each(|step| self.draw_step(step, &mut graph));
        graph.line("completed((completed))");
        self.steps.iter().for_each(|step| self.draw_compensation(step, &mut graph));
        if self.steps.iter().any(|it| it.kind.can_be_refused() || it.compensation.is_some()) {
            graph.line("compensated((compensated))");
        }
        self.draw_way_forward(&stages, &mut graph);
        self.draw_way_back(&stages, &mut graph);
        graph.0
    }

    fn draw_step(&self, step: &StepDefinition, graph: &mut Graph) {
        let does = match &step.action {
            Some(action) => asks(action),
            None if step.wait.is_some() => "waits".to_owned(),
            // It was done before the saga started.
            None => return,
        };
        let sometimes = if step.condition.is_some() { "<br>if wanted" } else { "" };
        let (open, close) = if step.kind == StepKind::Pivot { ("{{", "}}") } else { ("[", "]") };
        let (id, name) = (self.id("step", step), &step.name);
        graph.line(format!("{id}{open}\"{name}<br>{does}{sometimes}\"{close}"));
    }

    fn draw_compensation(&self, step: &StepDefinition, graph: &mut Graph) {
        let Some(compensation) = &step.compensation else { return };
        let (id, does) = (self.id("undo", step), asks(compensation));
        match step.kind {
            StepKind::Prior => graph.line(format!("{id}[\"{}<br>{does}\"]", step.name)),
            _ => graph.line(format!("{id}[\"{does}\"]")),
        }
    }

    fn draw_way_forward(&self, stages: &[&[StepDefinition]], graph: &mut Graph) {
        let mut before = vec!["start".to_owned()];
        for stage in stages {
            let steps = stage.iter().filter(|step| step.kind != StepKind::Prior);
            let steps: Vec<_> = steps.map(|step| self.id("step", step)).collect();
            if !steps.is_empty() {
                graph.arrows(&before, "-->", &steps);
                before = steps;
            }
        }
        graph.arrows(&before, "-->", &["completed".to_owned()]);
    }

    fn draw_way_back(&self, stages: &[&[StepDefinition]], graph: &mut Graph) {
        // Where a refusal leads.
        let mut back = vec!["compensated".to_owned()];
        for stage in stages {
            for step in stage.iter().filter(|step| step.kind.can_be_refused()) {
                let others = stage.iter().filter(|it| it.name != step.name);
                let others: Vec<_> = others.map(|it| self.id("undo", it)).collect();
                let undone = if others.is_empty() { &back } else { &others };
                graph.arrows(&[self.id("step", step)], "-. refused .->", undone);
            }
            let undoes = stage.iter().filter(|step| step.compensation.is_some());
            let undoes: Vec<_> = undoes.map(|step| self.id("undo", step)).collect();
            if !undoes.is_empty() {
                graph.arrows(&undoes, "-.->", &back);
                back = undoes;
            }
        }
    }

    /// Returns what a step or its compensation is called in the graph.
    fn id(&self, what: &str, step: &StepDefinition) -> String {
        let index = self.steps.iter().position(|it| it.name == step.name);
        format!("{what}{}", index.map_or(0, |index| index + 1))
    }
}

impl StepKind {
    pub(super) const fn can_be_refused(self) -> bool {
        matches!(self, Self::Compensable | Self::Pivot)
    }
}

/// The text of a graph.
struct Graph(String);

impl Default for Graph {
    fn default() -> Self {
        Self("flowchart LR\n".to_owned())
    }
}

impl Graph {
    fn line(&mut self, line: impl AsRef<str>) {
        self.0.extend(["    ", line.as_ref(), "\n"]);
    }

    /// Draws an arrow from each to each.
    fn arrows(&mut self, from: &[String], arrow: &str, to: &[String]) {
        for from in from {
            for to in to {
                self.line(format!("{from} {arrow} {to}"));
            }
        }
    }
}

fn asks(action: &Action) -> String {
    format!("{} to {}", action.message_type, action.participant)
}
