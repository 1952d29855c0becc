//! What is stored: ids that are derived, and states that are read back or refused.

use prost::Message as _;

use super::*;
use crate::machine::{Failure, StateError, parked_without_definition};
use crate::wire;

fn saga() -> Saga<Ledger> {
    Saga::builder().step(A).wait(name("pause"), |_| DEADLINE).pivot(B).build().unwrap()
}

/// The derivation is a stored format: a running saga meets these ids again after an upgrade.
#[test]
fn command_ids_never_change() {
    use crate::machine::command::{command_id, compensation_id};
    for (saga, step, command, compensation) in [
        (
            "0190b5a0-0000-7000-8000-000000000001",
            "reserve-stock",
            "0190b5a0-0000-71e3-8ee7-defd4891149a",
            "0190b5a0-0000-7ceb-b9d5-256995c9e04c",
        ),
        (
            "ffffffff-ffff-7fff-bfff-ffffffffffff",
            "a",
            "ffffffff-ffff-753d-9415-286db979ed5e",
            "ffffffff-ffff-7970-b280-ae07e2ea9824",
        ),
    ] {
        let (saga, step) = (saga.parse().unwrap(), name(step));
        assert_eq!(command_id(saga, &step).to_string(), command);
        assert_eq!(compensation_id(saga, &step).to_string(), compensation);
    }
}

#[test]
fn command_ids_differ_by_saga_step_and_direction() {
    use crate::machine::command::{command_id, compensation_id};
    let mut ids = std::collections::HashSet::new();
    for saga in (0..50).map(|saga| SagaId(Uuid::from_u128(SAGA.0.as_u128() + saga))) {
        for step in ["a", "b", "compensation"].map(name) {
            for id in [command_id(saga, &step), compensation_id(saga, &step)] {
                assert!(ids.insert(id), "{saga} {step}");
                assert_eq!(id.0.get_version_num(), 7);
                assert_eq!(id.as_bytes()[..6], saga.as_bytes()[..6], "ids sort by time");
            }
        }
    }
}

#[test]
fn what_was_sent_is_made_again_the_same() {
    let mut run = Run::start(saga());
    assert_eq!(run.progress.outstanding(run.saga.definition()), run.sent);
    let (command, attempt) = (run.sent[0].id, run.sent[0].attempt);
    assert!(run.progress.awaits(run.saga.definition(), command, attempt));
    assert!(!run.progress.awaits(run.saga.definition(), command, attempt + 1));

    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    run.succeed("a");
    assert_eq!(run.sent(), "~a");
    assert_eq!(run.progress.outstanding(run.saga.definition()), run.sent);
    assert!(run.progress.awaits(run.saga.definition(), run.compensation("a"), 1));
    assert!(!run.progress.awaits(run.saga.definition(), run.command("a"), 1));
}

fn decode(state: &wire::SagaState) -> Result<Progress, StateError> {
    let bytes = state.encode_to_vec().into();
    Progress::decode(saga().definition(), SAGA, Status::Running, bytes)
}

fn state() -> wire::SagaState {
    let run = Run::start(saga());
    let bytes = run.progress.encode(run.saga.definition()).unwrap();
    wire::SagaState::decode(bytes).unwrap()
}

#[test]
fn steps_not_reached_are_not_stored_and_added_ones_are_ahead() {
    let state = state();
    assert_eq!(state.steps.len(), 1);
    let progress = decode(&state).unwrap();
    let states = progress.steps(saga().definition()).map(|view| view.state).collect::<Vec<_>>();
    assert_eq!(states, [StepState::Outstanding, StepState::Ahead, StepState::Ahead]);
}

#[test]
fn a_step_that_the_definition_does_not_have_is_refused() {
    let mut state = state();
    state.steps[0].name = "gone".to_owned();
    assert!(matches!(decode(&state), Err(StateError::UnknownStep(step)) if step == "gone"));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    type Damage = fn(&mut wire::SagaState);
    let damages: [(&str, Damage); 5] = [
        ("state", |state| state.steps[0].state = 99),
        ("state", |state| {
            // A wait asks for nothing, so it cannot be outstanding.
            state.steps[0].name = "pause".to_owned();
        }),
        ("state", |state| {
            // A pivot has no compensation.
            state.steps[0].name = "b".to_owned();
            state.steps[0].set_state(wire::step_state::State::Compensating);
        }),
        ("command", |state| state.steps[0].command = vec![1, 2, 3].into()),
        ("correlation_id", |state| state.correlation_id = String::new()),
    ];
    for (value, damage) in damages {
        let mut state = state();
        damage(&mut state);
        let error = decode(&state).expect_err(value);
        assert!(matches!(error, StateError::Value(what) if what == value), "{error}");
    }
    let mut state = state();
    state.data = b"{".to_vec().into();
    assert!(matches!(decode(&state), Err(StateError::Data(_))));
    let bytes = vec![0xff].into();
    let error = Progress::decode(saga().definition(), SAGA, Status::Running, bytes);
    assert!(matches!(error, Err(StateError::Undecodable(_))));
}

#[test]
fn attempts_are_not_counted_beyond_the_highest_number() {
    let mut state = state();
    state.steps[0].attempt = u32::MAX;
    state.steps[0].due_us = 0;
    state.steps[0].set_state(wire::step_state::State::Delayed);
    let (saga, progress) = (saga(), decode(&state).unwrap());
    let decision = decide(
        saga.definition(),
        progress,
        Event::TimerFired { reachable_since: Timestamp::default() },
        Timestamp::default(),
    );
    assert_eq!(decision.commands[0].attempt, u32::MAX);
}

#[test]
fn a_saga_parked_without_its_definition_goes_on_where_it_was() {
    let mut run = Run::start(saga());
    let failure =
        Failure { step: None, code: "unknown-version".to_owned(), message: String::new() };
    let bytes = run.progress.encode(run.saga.definition()).unwrap();
    let bytes = parked_without_definition(bytes, &failure).unwrap();
    run.progress = Progress::decode(run.saga.definition(), SAGA, Status::Parked, bytes).unwrap();
    assert_eq!(run.failure(), (None, "unknown-version"));

    run.succeed("a");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Parked, ""), "a person decides");
    for action in [OperatorAction::Skip, resolve_succeeded(), resolve_rejected()] {
        assert!(matches!(run.operate(action), Verdict::Refused(_)));
    }
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!(run.state("pause"), StepState::Waiting);
}

#[test]
#[should_panic(expected = "not over this type of data")]
fn data_of_another_type_is_a_mistake_in_the_program() {
    struct Other;
    impl SagaData for Other {
        const SAGA: SagaName = SagaName::new("test");
        type Codec = OtherCodec;
    }
    struct OtherCodec;
    impl Codec<Other> for OtherCodec {
        fn encode(_: &Other) -> Result<Payload, CodecError> {
            Ok(Payload::default())
        }
        fn decode(_: &[u8]) -> Result<Other, CodecError> {
            Ok(Other)
        }
    }
    _ = Progress::start(saga().definition(), SAGA, origin(), Other);
}
