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

#[derive(Serialize, Deserialize)]
struct Refund;

impl Message for Refund {
    const TYPE: MessageType = MessageType::new("Refund");
    type Codec = Json;
}

impl Command for Refund {
    type Reply = Book;
    const PARTICIPANT: ParticipantName = ParticipantName::new("card");
}

/// A step whose compensation is somebody else's.
struct Deposit;

impl Step<Trip> for Deposit {
    const NAME: StepName = StepName::new("deposit");
    type Command = Book;

    fn command(&self, _: &Trip) -> Book {
        Book
    }
}

impl Compensate<Trip> for Deposit {
    type Compensation = Refund;

    fn compensation(&self, _: &Trip, _: &Cause) -> Refund {
        Refund
    }
}

/// What was perhaps not done is perhaps undone, and what was asked for at once is awaited before.
#[test]
fn messages_are_drawn_in_frames() {
    let saga = Saga::<Trip>::builder()
        .step(Deposit)
        .when(|_| true)
        .parallel(|both| both.step(Part::<0>).step(Part::<1>))
        .wait(StepName::new("cool-off"), |_| Duration::from_hours(24))
        .then(Part::<2>);
    let diagram = saga.build().expect("sound").definition().mermaid_sequence();
    let lines: Vec<_> = diagram.lines().map(str::trim).collect();
    let (book, booked) = ("saga->>p1: Book", "p1-->>saga: Book");
    let compensated = "Note over saga: compensated";
    let refund = ["opt if done", "saga->>p2: Refund", "p2-->>saga: Book", "end"];
    let deposit = ["opt if wanted", book, "break refused", compensated, "end", booked, "end"];
    let branch = |begin| {
        [begin, book, "break refused", "Note over saga: once the others have answered"]
            .into_iter()
            .chain(["opt if done", book, booked, "end"])
            .chain(refund)
            .chain([compensated, "end", booked])
    };
    let expected = ["sequenceDiagram", "participant saga as trip"]
        .into_iter()
        .chain(["participant p1 as agency", "participant p2 as card"])
        .chain(deposit)
        .chain(branch("par"))
        .chain(branch("and"))
        .chain(["end", "Note over saga: cool-off waits", book, booked])
        .chain(["Note over saga: completed"]);
    assert_eq!(lines, expected.collect::<Vec<_>>());
}
