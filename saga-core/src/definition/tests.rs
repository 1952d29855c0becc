//! How definitions are drawn.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Cause, Command, Compensate, Json, Message, MessageType, ParticipantName, Saga, SagaData,
    SagaName, Step, StepName,
};

#[derive(Serialize, Deserialize)]
struct Trip;

impl SagaData for Trip {
    const SAGA: SagaName = SagaName::new("trip");
    type Codec = Json;
}

#[derive(Serialize, Deserialize)]
struct Book;

impl Message for Book {
    const TYPE: MessageType = MessageType::new("Book");
    type Codec = Json;
}

impl Command for Book {
    type Reply = Book;
    const PARTICIPANT: ParticipantName = ParticipantName::new("agency");
}

struct Part<const N: usize>;

impl<const N: usize> Step<Trip> for Part<N> {
    const NAME: StepName = StepName::new(["flight", "hotel", "car"][N]);
    type Command = Book;

    fn command(&self, _: &Trip) -> Book {
        Book
    }
}

impl<const N: usize> Compensate<Trip> for Part<N> {
    type Compensation = Book;

    fn compensation(&self, _: &Trip, _: &Cause) -> Book {
        Book
    }
}

#[test]
fn branches_waits_and_conditions_are_drawn() {
    let saga = Saga::<Trip>::builder()
        .parallel(|both| both.step(Part::<0>).step(Part::<1>))
        .wait(StepName::new("cool-off"), |_| Duration::from_hours(24))
        .then(Part::<2>)
        .when(|_| true);
    let graph = saga.build().expect("sound").definition().mermaid();
    let arrows: Vec<_> = graph.lines().map(str::trim).collect();
    assert_eq!(
        arrows,
        [
            "flowchart LR",
            "start((start))",
            "step1[\"flight<br>Book to agency\"]",
            "step2[\"hotel<br>Book to agency\"]",
            "step3[\"cool-off<br>waits\"]",
            "step4[\"car<br>Book to agency<br>if wanted\"]",
            "completed((completed))",
            "undo1[\"Book to agency\"]",
            "undo2[\"Book to agency\"]",
            "compensated((compensated))",
            "start --> step1",
            "start --> step2",
            "step1 --> step3",
            "step2 --> step3",
            "step3 --> step4",
            "step4 --> completed",
            "step1 -. refused .-> undo2",
            "step2 -. refused .-> undo1",
            "undo1 -.-> compensated",
            "undo2 -.-> compensated",
        ]
    );
}

#[test]
fn what_happens_at_once_is_framed() {
    let saga = Saga::<Trip>::builder()
        .parallel(|both| both.step(Part::<0>).step(Part::<1>))
        .wait(StepName::new("cool-off"), |_| Duration::from_hours(24))
        .then(Part::<2>)
        .when(|_| true);
    let diagram = saga.build().expect("sound").definition().mermaid_sequence();
    let lines: Vec<_> = diagram.lines().map(str::trim).collect();
    let refused = |saga: [&'static str; 2]| {
        let (ask, answer) = ("saga->>p1: Book", "p1-->>saga: Book");
        [saga[0], ask, "break refused", ask, answer, saga[1], "end", answer]
    };
    let compensated = "Note over saga: compensated";
    let expected = ["sequenceDiagram", "participant saga as trip", "participant p1 as agency"]
        .into_iter()
        .chain(refused(["par", compensated]))
        .chain(refused(["and", compensated]))
        .chain(["end", "Note over saga: cool-off waits", "opt if wanted"])
        .chain(["saga->>p1: Book", "p1-->>saga: Book", "end", "Note over saga: completed"]);
    assert_eq!(lines, expected.collect::<Vec<_>>());
}
