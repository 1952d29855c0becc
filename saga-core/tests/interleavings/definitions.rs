//! Random definitions, made with the public builder.

use std::fmt;
use std::time::Duration;

use proptest::prelude::*;
use saga_core::definition::AfterPivot;
use saga_core::{
    Backoff, Cause, Command, Compensate, Json, Message, MessageType, ParticipantName, RetryPolicy,
    Saga, SagaBuilder, SagaData, SagaName, Step, StepName,
};
use serde::{Deserialize, Serialize};

const PRIOR_ATTEMPTS: u32 = 2;

/// Most steps that a recipe has.
pub const STEPS_MAX: usize = NAMES.len();

const NAMES: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x",
];

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Data {
    /// What was answered: the number of the step, and its reply.
    pub replies: Vec<(usize, u32)>,
}

impl SagaData for Data {
    const SAGA: SagaName = SagaName::new("random");
    type Codec = Json;
}

/// The step of this number.
struct S<const N: usize>;

impl<const N: usize> Step<Data> for S<N> {
    const NAME: StepName = StepName::new(NAMES[N]);
    type Command = Do;

    fn command(&self, _: &Data) -> Do {
        Do {}
    }

    fn on_reply(&self, data: &mut Data, Answer { reply }: Answer) {
        data.replies.push((N, reply));
    }
}

impl<const N: usize> Compensate<Data> for S<N> {
    type Compensation = Undo;

    fn compensation(&self, _: &Data, _: &Cause) -> Undo {
        Undo {}
    }
}

macro_rules! message {
    ($(#[$doc:meta])* struct $name:ident $fields:tt) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize)]
        pub struct $name $fields

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    };
}

message!(
    struct Do {}
);
message!(
    struct Undo {}
);
message!(
    struct Answer {
        pub reply: u32,
    }
);

impl Command for Do {
    type Reply = Answer;
    const PARTICIPANT: ParticipantName = ParticipantName::new("world");
}

impl Command for Undo {
    type Reply = Answer;
    const PARTICIPANT: ParticipantName = ParticipantName::new("world");
}

/// Does something with the step of a number that is known only at run time.
macro_rules! with_step {
    ($number:expr, $step:ident => $body:expr) => {
        with_step!(@ $number, $step => $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23)
    };
    (@ $number:expr, $step:ident => $body:expr, $($n:literal)*) => {
        match $number {
            $($n => { let $step = S::<$n>; $body })*
            number => unreachable!("there is no step {number}"),
        }
    };
}

/// A recipe for a definition.
#[derive(Debug, Clone)]
pub struct Recipe {
    before: Vec<Stage>,
    /// The step after which it only goes forward, and what comes then.
    after: Option<(Turn, StepRecipe, Vec<Stage>)>,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Pivot,
    Then,
}

#[derive(Debug, Clone)]
enum Stage {
    Step(StepRecipe),
    Group(Vec<StepRecipe>, Attempts),
    Wait(u8),
    /// A compensation for what happened before the saga; before the pivot only.
    Prior,
}

#[derive(Debug, Clone)]
struct StepRecipe {
    attempts: Attempts,
    condition: Option<Condition>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    forward: u32,
    back: u32,
}

/// Holds for half of all data.
#[derive(Debug, Clone, Copy)]
struct Condition(bool);

/// What a test needs to know of a step.
#[derive(Debug, Clone)]
pub struct StepInfo {
    pub name: &'static str,
    /// Steps of one stage run in parallel.
    pub stage: usize,
    pub kind: Kind,
    pub attempts: u32,
    pub undo_attempts: u32,
}

impl fmt::Display for StepInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, stage, kind, attempts, undo_attempts } = self;
        write!(f, "  {name} at {stage}: {kind:?}, attempts {attempts}, back {undo_attempts}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prior,
    Compensable,
    Pivot,
    Retriable,
    Wait,
}

impl Condition {
    fn holds(self, data: &Data) -> bool {
        let sum = data.replies.iter().map(|(_, reply)| reply).sum::<u32>();
        (sum % 2 == 0) == self.0
    }
}

fn policy(attempts: u32) -> RetryPolicy {
    RetryPolicy::attempts(attempts).backoff(Backoff::fixed(Duration::from_secs(1)))
}

pub fn recipes() -> impl Strategy<Value = Recipe> {
    let attempts = || (1..=3_u32, 1..=3_u32).prop_map(|(forward, back)| Attempts { forward, back });
    let step = move || {
        let condition = proptest::option::weighted(0.3, any::<bool>().prop_map(Condition));
        (attempts(), condition).prop_map(|(attempts, condition)| StepRecipe { attempts, condition })
    };
    let group = move || {
        (prop::collection::vec(step(), 2..=3), attempts())
            .prop_map(|(branches, attempts)| Stage::Group(branches, attempts))
    };
    let before = prop_oneof![
        5 => step().prop_map(Stage::Step),
        3 => group(),
        1 => (0..3_u8).prop_map(Stage::Wait),
        1 => Just(Stage::Prior),
    ];
    let later = prop_oneof![
        4 => step().prop_map(Stage::Step),
        2 => group(),
        1 => (0..3_u8).prop_map(Stage::Wait),
    ];
    let turn = prop_oneof![3 => Just(Turn::Pivot), 1 => Just(Turn::Then)];
    let after = (turn, step(), prop::collection::vec(later, 0..=2));
    (prop::collection::vec(before, 0..=4), proptest::option::weighted(0.7, after))
        .prop_map(|(before, after)| Recipe { before, after })
        .prop_filter("a saga has a step", |recipe| {
            let is_step = |stage: &Stage| !matches!(stage, Stage::Prior);
            recipe.after.is_some() || recipe.before.iter().any(is_step)
        })
}

impl Recipe {
    /// Builds the definition, and says what it is made of.
    pub fn build(&self) -> (Saga<Data>, Vec<StepInfo>) {
        let mut infos = Vec::new();
        let mut builder = Saga::<Data>::builder();
        for stage in &self.before {
            let number = infos.len();
            stage.describe(Kind::Compensable, &mut infos);
            builder = match stage {
                Stage::Step(step) => {
                    let added = with_step!(number, it => builder.step(it))
                        .retry(policy(step.attempts.forward))
                        .compensation_retry(policy(step.attempts.back));
                    when(added, step.condition)
                }
                Stage::Group(branches, attempts) => builder
                    .parallel(|mut group| {
                        for (number, branch) in (number..).zip(branches) {
                            group = with_step!(number, it => group.step(it));
                            if let Some(condition) = branch.condition {
                                group = group.when(move |data| condition.holds(data));
                            }
                        }
                        group
                    })
                    .retry(policy(attempts.forward))
                    .compensation_retry(policy(attempts.back)),
                Stage::Wait(minutes) => builder.wait(name(number), wait(*minutes)),
                Stage::Prior => builder
                    .compensation(name(number), |_, _| Undo {})
                    .compensation_retry(policy(PRIOR_ATTEMPTS)),
            };
        }
        let built = match &self.after {
            None => builder.build(),
            Some((turn, step, later)) => {
                let number = infos.len();
                let (kind, builder) = match turn {
                    Turn::Pivot => (Kind::Pivot, with_step!(number, it => builder.pivot(it))),
                    Turn::Then => (Kind::Retriable, with_step!(number, it => builder.then(it))),
                };
                Stage::Step(step.clone()).describe(kind, &mut infos);
                let builder = builder.retry(policy(step.attempts.forward));
                add_later(when(builder, step.condition), later, &mut infos).build()
            }
        };
        (built.expect("the recipe is sound"), infos)
    }
}

fn add_later(
    mut builder: SagaBuilder<Data, AfterPivot>,
    later: &[Stage],
    infos: &mut Vec<StepInfo>,
) -> SagaBuilder<Data, AfterPivot> {
    for stage in later {
        let number = infos.len();
        stage.describe(Kind::Retriable, infos);
        builder = match stage {
            Stage::Step(step) => {
                let added = with_step!(number, it => builder.then(it));
                when(added.retry(policy(step.attempts.forward)), step.condition)
            }
            Stage::Group(branches, attempts) => builder
                .then_parallel(|mut group| {
                    for (number, branch) in (number..).zip(branches) {
                        group = with_step!(number, it => group.then(it));
                        if let Some(condition) = branch.condition {
                            group = group.when(move |data| condition.holds(data));
                        }
                    }
                    group
                })
                .retry(policy(attempts.forward)),
            Stage::Wait(minutes) => builder.wait(name(number), wait(*minutes)),
            Stage::Prior => unreachable!("stands before the pivot only"),
        };
    }
    builder
}

fn when<Phase>(
    builder: SagaBuilder<Data, Phase>,
    condition: Option<Condition>,
) -> SagaBuilder<Data, Phase> {
    match condition {
        Some(condition) => builder.when(move |data| condition.holds(data)),
        None => builder,
    }
}

fn name(number: usize) -> StepName {
    StepName::new(NAMES[number])
}

fn wait(minutes: u8) -> impl Fn(&Data) -> Duration + Send + Sync + 'static {
    move |_| Duration::from_mins(u64::from(minutes))
}

impl Stage {
    /// Notes the steps of this stage, numbered on from those that are there.
    fn describe(&self, kind: Kind, infos: &mut Vec<StepInfo>) {
        let stage = infos.last().map_or(0, |info| info.stage + 1);
        let mut add = |kind, Attempts { forward, back }| {
            let name = NAMES[infos.len()];
            infos.push(StepInfo { name, stage, kind, attempts: forward, undo_attempts: back });
        };
        match self {
            Self::Step(step) => add(kind, step.attempts),
            Self::Group(branches, attempts) => branches.iter().for_each(|_| add(kind, *attempts)),
            Self::Wait(_) => add(Kind::Wait, Attempts { forward: 0, back: 0 }),
            Self::Prior => add(Kind::Prior, Attempts { forward: 0, back: PRIOR_ATTEMPTS }),
        }
    }
}
