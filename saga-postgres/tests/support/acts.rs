//! What operators do to orders that stand still, and what is to come of it.

use saga_core::machine::{HistoryKind, Operation, OperatorAction, Resolution};
use saga_core::{Codec as _, Engine, Error, Json, Payload, SagaId, Status, StepName, Timestamp};

use crate::orders::Trouble::{FailsForGood, IsRefused};
use crate::orders::{Done, Shop, Trouble, ended, history, stands_still, start};

/// What a person does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Operate(OperatorAction),
    /// Lets a timer fire at once.
    Fire(&'static str),
    Cancel,
}

impl Act {
    /// Returns the action of somebody who has looked at the saga as it is now.
    pub(crate) async fn decided(&self, engine: &Engine, saga: SagaId) -> Self {
        let Self::Fire(step) = self else { return self.clone() };
        let step = StepName::parse(step).expect("a name");
        let view = engine.inspect(saga).await.expect("inspect");
        let steps = view.map(|view| view.steps()).unwrap_or_default();
        let timer = steps.into_iter().find(|it| it.name == step).and_then(|it| it.due);
        let (from, to) = (timer.unwrap_or_default(), Timestamp::default());
        Self::Operate(OperatorAction::MoveTimer { step, from, to })
    }
}

/// Does it, and returns why not if it is refused.
pub(crate) async fn act(engine: &Engine, saga: SagaId, act: &Act) -> Result<(), &'static str> {
    match try_to(engine, saga, act, "ada").await {
        Ok(()) => Ok(()),
        Err(Error::Refused { reason, .. }) => Err(reason),
        Err(error) => panic!("{act:?}: {error:?}"),
    }
}

pub(crate) async fn try_to(
    engine: &Engine,
    saga: SagaId,
    act: &Act,
    by: &str,
) -> Result<(), Error> {
    let Act::Operate(action) = act.decided(engine, saga).await else {
        return engine.cancel(saga).await;
    };
    let (by, reason) = (by.to_owned(), "the cause is known".to_owned());
    engine.operate(saga, Operation { by, reason, action }).await
}

pub(crate) const RETRY: Act = Act::Operate(OperatorAction::Retry);
pub(crate) const SKIP: Act = Act::Operate(OperatorAction::Skip);
const CANCEL: Act = Act::Operate(OperatorAction::Cancel);

pub(crate) fn succeeded() -> Act {
    let reply = Json::encode(&Done { receipt: "by hand".to_owned() }).expect("it can be encoded");
    Act::Operate(OperatorAction::Resolve(Resolution::Succeeded(reply)))
}

pub(crate) fn rejected() -> Act {
    Act::Operate(OperatorAction::Resolve(Resolution::Rejected("no-money".to_owned())))
}

/// An action on an order that stands still, and what is to come of it.
pub(crate) struct Case {
    pub(crate) order: &'static str,
    /// Which commands go wrong before.
    troubles: &'static [(&'static str, Trouble)],
    pub(crate) act: Act,
    /// What the same is answered at once, and after the end.
    pub(crate) again: Result<(), &'static str>,
    pub(crate) after: Result<(), &'static str>,
    end: Status,
    /// Which commands took effect, sorted.
    effects: &'static [&'static str],
    /// What is on record: the step, and what was done to it.
    entry: (&'static str, &'static str),
}

const NOT_PARKED: Result<(), &str> = Err("it is not parked");
const HAS_ENDED: Result<(), &str> = Err("it has ended");
pub(crate) const ALL: &[&str] = &["charge", "check", "reserve", "ship"];
const UNDONE: &[&str] = &["check", "reserve", "undo check", "undo reserve"];

/// All actions, wherever they can be made.
pub(crate) fn cases() -> Vec<Case> {
    let case = |order, troubles, act, entry| {
        let (again, after) = (NOT_PARKED, HAS_ENDED);
        Case { order, troubles, act, again, after, end: Status::Completed, effects: ALL, entry }
    };
    let broken_compensation =
        &[("charge", IsRefused), ("undo reserve", FailsForGood)] as &[(&str, Trouble)];
    let end = Status::Compensated;
    vec![
        case("retry", &[("check", FailsForGood)], RETRY, ("check", "retry")),
        Case {
            effects: &["charge", "reserve", "ship"],
            ..case("skip", &[("check", FailsForGood)], SKIP, ("check", "skip"))
        },
        Case {
            effects: &["check", "reserve", "ship"],
            ..case("skip-pivot", &[("charge", FailsForGood)], SKIP, ("charge", "skip"))
        },
        Case {
            effects: &["check", "reserve", "ship"],
            ..case("resolve", &[("charge", FailsForGood)], succeeded(), ("charge", "resolve"))
        },
        Case {
            end,
            effects: UNDONE,
            ..case("reject", &[("charge", FailsForGood)], rejected(), ("charge", "resolve"))
        },
        Case {
            // Nothing is left to do.
            again: HAS_ENDED,
            effects: &["charge", "check", "reserve"],
            ..case("refused", &[("ship", IsRefused)], succeeded(), ("ship", "resolve"))
        },
        Case {
            end,
            effects: UNDONE,
            ..case("retry-undo", broken_compensation, RETRY, ("reserve", "retry"))
        },
        Case {
            again: HAS_ENDED,
            end,
            effects: &["check", "reserve", "undo check"],
            ..case("skip-undo", broken_compensation, SKIP, ("reserve", "skip"))
        },
        Case {
            again: Err("the step has no timer running"),
            ..case("pause", &[], Act::Fire("pause"), ("pause", "timer moved"))
        },
        Case {
            again: Ok(()),
            after: Ok(()),
            end,
            effects: &["reserve", "undo reserve"],
            ..case("cancel", &[("check", FailsForGood)], Act::Cancel, ("", ""))
        },
        Case {
            again: Ok(()),
            after: Ok(()),
            end,
            effects: &["reserve", "undo reserve"],
            ..case("cancel-on-record", &[("check", FailsForGood)], CANCEL, ("", "cancel"))
        },
    ]
}

impl Case {
    /// Starts the order and waits until it can only go on by the action; by then nothing is wrong any more.
    pub(crate) async fn stands_still(&self, shop: &Shop, engine: &Engine) -> SagaId {
        for &(command, trouble) in self.troubles {
            shop.goes_wrong(self.order, command, trouble);
        }
        let saga = start(engine, self.order, self.order == "pause").await;
        stands_still(engine, saga).await;
        shop.mend();
        saga
    }

    /// The order ends as it is to, each effect is there once, and so is who did what and why.
    pub(crate) async fn ends(&self, shop: &Shop, engine: &Engine, saga: SagaId) {
        let order = self.order;
        assert_eq!(ended(engine, saga).await, self.end, "{order}");
        assert_eq!(shop.effects(order).await, self.effects, "{order}");
        let mut entries = history(engine, saga).await;
        entries
            .retain(|it| matches!(it.kind, HistoryKind::Operator | HistoryKind::CancelRequested));
        let [entry] = &entries[..] else { panic!("{order}: one entry, not {entries:#?}") };
        let step = entry.step.as_ref().map_or("", StepName::as_str);
        let expected = match self.act {
            // A customer's cancel does not say who asks.
            Act::Cancel => String::new(),
            Act::Operate(_) | Act::Fire(_) => {
                format!("{} by ada: the cause is known", self.entry.1)
            }
        };
        assert_eq!((step, entry.detail.as_str()), (self.entry.0, &*expected), "{order}");
    }
}

/// An order, what goes wrong with it, and which actions are not safe then, and why not.
type Unsafe = (&'static str, &'static [(&'static str, Trouble)], Vec<(Act, &'static str)>);

pub(crate) fn unsafe_acts() -> Vec<Unsafe> {
    const PAST_THE_PIVOT: &str = "it has reached its pivot and can only go forward";
    const ON_RECORD: &str =
        "the participant has refused it on record and would again; skip or resolve it";
    let garbled = Resolution::Succeeded(Payload::from(b"?".to_vec()));
    let garbled = Act::Operate(OperatorAction::Resolve(garbled));
    let not_parked = [RETRY, SKIP, succeeded(), rejected()].map(|act| (act, "it is not parked"));
    let waits = [
        (Act::Cancel, PAST_THE_PIVOT),
        (CANCEL, PAST_THE_PIVOT),
        (Act::Fire("nowhere"), "it has no step of this name"),
        (Act::Fire("ship"), "the step has no timer running"),
    ];
    let has_ended =
        [RETRY, SKIP, succeeded(), rejected(), Act::Fire("ship")].map(|act| (act, "it has ended"));
    let broken = &[("charge", IsRefused), ("undo reserve", FailsForGood)] as &[_];
    let refused = &[("charge", IsRefused), ("undo reserve", IsRefused)] as &[_];
    let undo = "a compensation cannot be rejected; resolve it as succeeded or skip it";
    vec![
        ("pause", &[], not_parked.into_iter().chain(waits).collect()),
        ("ended", &[], has_ended.into_iter().chain([(Act::Cancel, "it has completed")]).collect()),
        (
            "pivot",
            &[("charge", FailsForGood)],
            vec![
                (Act::Cancel, PAST_THE_PIVOT),
                (garbled, "the step cannot read this reply"),
                (Act::Fire("charge"), "the step has no timer running"),
            ],
        ),
        (
            "ship",
            &[("ship", IsRefused)],
            vec![(RETRY, ON_RECORD), (rejected(), "a step after the pivot cannot be rejected")],
        ),
        ("broken", broken, vec![(rejected(), undo)]),
        ("refused", refused, vec![(RETRY, ON_RECORD), (rejected(), undo)]),
    ]
}
