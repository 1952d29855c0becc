//! Putting steps together: the law of the pivot, held by the compiler.

use std::any::{Any, TypeId};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::erased::{Action, DataType, Definition, StepDefinition, StepKind, Upcast};
use super::{Cause, Compensate, DefinitionError, Saga, SagaData, Step};
use crate::ids::{FNV, fnv1a};
use crate::{Codec, CodecError, Command, MessageType, Payload, RetryPolicy, StepName};

/// Most steps that one saga may have.
const STEPS_MAX: usize = 256;

/// How long a participant may take to answer, unless `.deadline(..)` says otherwise.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// The saga can still turn back: `.step`, `.pivot` and `.then` can be added.
#[derive(Debug)]
pub enum BeforePivot {}

/// The saga only goes forward: `.then` can be added.
#[derive(Debug)]
pub enum AfterPivot {}

/// Where a saga can still turn back: [`BeforePivot`], and nowhere else.
#[diagnostic::on_unimplemented(
    message = "after its pivot a saga only goes forward",
    label = "cannot stand here: the saga has its pivot, or a `.then(..)`, already",
    note = "a saga has one pivot; what can be undone stands before it",
    note = "add what follows the pivot with `.then(..)` or `.then_parallel(..)`"
)]
pub trait CanTurnBack: sealed::Sealed {}

impl CanTurnBack for BeforePivot {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::BeforePivot {}
}

/// Builds a [`Saga`]: steps in order, settings after the step that they belong to.
///
/// The second parameter is where the builder stands; you never write it. Before the pivot every
/// step must have a compensation; after it no step needs one:
///
/// | method | before the pivot | after it |
/// |---|---|---|
/// | [`step`](Self::step), [`parallel`](Self::parallel), [`compensation`](Self::compensation), [`pivot`](Self::pivot) | yes | no |
/// | [`then`](Self::then), [`then_parallel`](Self::then_parallel) | yes, and ends it | yes |
/// | [`wait`](Self::wait) | yes | yes |
///
/// Settings ([`when`](Self::when), [`retry`](Self::retry), [`deadline`](Self::deadline),
/// [`compensation_retry`](Self::compensation_retry), [`compensation_deadline`](Self::compensation_deadline))
/// apply to the step, or to each step of the group, that was added last.
#[must_use = "a builder does nothing until `build` is called"]
pub struct SagaBuilder<D, Phase> {
    version: u32,
    steps: Vec<StepDefinition>,
    stages: usize,
    upcasts: Vec<Upcast>,
    error: Option<DefinitionError>,
    phase: PhantomData<fn() -> (D, Phase)>,
}

/// The steps of a parallel group: they start together, and the saga goes on when all have succeeded.
#[must_use = "a group does nothing until it is returned"]
pub struct Branches<D, Phase> {
    steps: Vec<StepDefinition>,
    phase: PhantomData<fn() -> (D, Phase)>,
}

impl<D: SagaData> SagaBuilder<D, BeforePivot> {
    pub(super) fn new() -> Self {
        let (steps, upcasts) = (Vec::new(), Vec::new());
        Self { version: 1, steps, stages: 0, upcasts, error: None, phase: PhantomData }
    }
}

impl<D: SagaData, Phase> SagaBuilder<D, Phase> {
    /// Adds a step that is undone if a later step fails.
    pub fn step<S: Compensate<D>>(self, step: S) -> Self
    where
        Phase: CanTurnBack,
    {
        self.stage(vec![compensable(step)])
    }

    /// Adds steps that run in parallel and are undone, in parallel, if one of them or a later step fails.
    ///
    /// If one branch is refused, the others are awaited before any of them is undone.
    pub fn parallel(self, group: impl FnOnce(Branches<D, Phase>) -> Branches<D, Phase>) -> Self
    where
        Phase: CanTurnBack,
    {
        let branches = group(Branches { steps: Vec::new(), phase: PhantomData });
        self.stage(branches.steps)
    }

    /// Adds a compensation for what had happened before the saga started, such as the order that is now to be placed.
    ///
    /// It is carried out if the saga compensates, after what stands behind it in the definition.
    pub fn compensation<C: Command>(
        self,
        name: StepName,
        compensation: impl Fn(&D, &Cause) -> C + Send + Sync + 'static,
    ) -> Self
    where
        Phase: CanTurnBack,
    {
        let compensation = action::<D, C>(
            RetryPolicy::PERSISTENT,
            move |data, cause| compensation(data, cause),
            |_, _| {},
        );
        self.stage(vec![StepDefinition {
            compensation: Some(compensation),
            ..StepDefinition::new(name, StepKind::Prior)
        }])
    }

    /// Adds the pivot: once it has succeeded the saga only goes forward.
    ///
    /// A refusal of the pivot itself still compensates. If its outcome stays unknown, it is asked
    /// for until its attempts are used up, and then the saga parks.
    pub fn pivot<S: Step<D>>(self, step: S) -> SagaBuilder<D, AfterPivot>
    where
        Phase: CanTurnBack,
    {
        self.after_pivot().stage(vec![forward(step, StepKind::Pivot)])
    }

    /// Adds a step that is retried until it succeeds and never undone; nothing that can be undone may follow.
    ///
    /// If its attempts are used up, or it is refused, the saga parks.
    pub fn then<S: Step<D>>(self, step: S) -> SagaBuilder<D, AfterPivot> {
        self.after_pivot().stage(vec![forward(step, StepKind::Retriable)])
    }

    /// Adds parallel steps that are retried until they succeed and never undone; nothing that can
    /// be undone may follow.
    pub fn then_parallel(
        self,
        group: impl FnOnce(Branches<D, AfterPivot>) -> Branches<D, AfterPivot>,
    ) -> SagaBuilder<D, AfterPivot> {
        let branches = group(Branches { steps: Vec::new(), phase: PhantomData });
        self.after_pivot().stage(branches.steps)
    }

    fn after_pivot(self) -> SagaBuilder<D, AfterPivot> {
        SagaBuilder {
            version: self.version,
            steps: self.steps,
            stages: self.stages,
            upcasts: self.upcasts,
            error: self.error,
            phase: PhantomData,
        }
    }
}

impl<D: SagaData, Phase> Branches<D, Phase> {
    /// Adds a branch that is undone if another branch or a later step fails.
    pub fn step<S: Compensate<D>>(mut self, step: S) -> Self
    where
        Phase: CanTurnBack,
    {
        self.steps.push(compensable(step));
        self
    }
}

impl<D: SagaData> Branches<D, AfterPivot> {
    /// Adds a branch that is retried until it succeeds.
    pub fn then<S: Step<D>>(mut self, step: S) -> Self {
        self.steps.push(forward(step, StepKind::Retriable));
        self
    }
}

impl<D: SagaData, Phase> Branches<D, Phase> {
    /// Carries out the branch added last only if the predicate holds for the data when the group is reached.
    pub fn when(mut self, predicate: impl Fn(&D) -> bool + Send + Sync + 'static) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.condition = Some(Box::new(move |data| predicate(typed(data))));
        }
        self
    }
}

impl<D: SagaData, Phase> SagaBuilder<D, Phase> {
    /// Sets the version; the default is 1.
    ///
    /// A new one is needed when a step is added, removed, renamed or moved, or becomes one of another kind; when its
    /// command or compensation is of another type or goes to another participant; and for some changes of the
    /// [data](SagaData). Retries, deadlines, conditions and what functions do can change without one.
    ///
    /// Register the old version beside the new one until its last saga has ended.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Adds a wait: a durable timer that outlives any process.
    pub fn wait(
        self,
        name: StepName,
        duration: impl Fn(&D) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.stage(vec![StepDefinition {
            wait: Some(Box::new(move |data| duration(typed(data)))),
            ..StepDefinition::new(name, StepKind::Wait)
        }])
    }

    /// Carries out the step added last only if the predicate holds for the data when the step is
    /// reached; else it is skipped, and has nothing to undo.
    pub fn when(self, predicate: impl Fn(&D) -> bool + Send + Sync + Clone + 'static) -> Self {
        self.set("when", |step| {
            let predicate = predicate.clone();
            step.condition = Some(Box::new(move |data| predicate(typed(data))));
            step.kind != StepKind::Prior
        })
    }

    /// Sets how often the step added last is tried. The default is [`RetryPolicy::DEFAULT`] before the
    /// pivot and [`RetryPolicy::PERSISTENT`] from the pivot on.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.set("retry", |step| step.action.as_mut().map(|action| action.retry = policy).is_some())
    }

    /// Sets how long the participant may take to answer each attempt. The default is 30 s.
    ///
    /// Time in which the engine reaches its broker or its store not at all does not count.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set("deadline", |step| {
            step.action.as_mut().map(|action| action.deadline = deadline).is_some()
        })
    }

    /// Sets how often the compensation of the step added last is tried. The default is [`RetryPolicy::PERSISTENT`].
    pub fn compensation_retry(self, policy: RetryPolicy) -> Self {
        self.set("compensation_retry", |step| {
            step.compensation.as_mut().map(|action| action.retry = policy).is_some()
        })
    }

    /// Sets how long the participant may take to answer each attempt of the compensation. The default is 30 s.
    pub fn compensation_deadline(self, deadline: Duration) -> Self {
        self.set("compensation_deadline", |step| {
            step.compensation.as_mut().map(|action| action.deadline = deadline).is_some()
        })
    }

    /// Reads the data of running sagas that was stored as an older type, and turns it into today's.
    ///
    /// It is asked only for data that today's type does not decode, in the format of today's
    /// ([`SagaData::Codec`]). With several of them, the one added last is asked first. The saga's next
    /// commit stores today's type. The version of the definition stays.
    ///
    /// A format that decodes everything, as Protocol Buffers does, never asks. There, and wherever today's type would
    /// misread what it decodes, the new type needs a [new version](Self::version), and the old version keeps the
    /// old type.
    ///
    /// # Examples
    ///
    /// ```
    /// # use saga_core::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct Done;
    /// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
    /// # #[derive(Serialize, Deserialize)] struct Greet { name: String }
    /// # impl Message for Greet { const TYPE: MessageType = MessageType::new("Greet"); type Codec = Json; }
    /// # impl Command for Greet { type Reply = Done; const PARTICIPANT: ParticipantName = ParticipantName::new("greeter"); }
    /// # struct GreetStep;
    /// # impl Step<Welcome> for GreetStep {
    /// #     const NAME: StepName = StepName::new("greet"); type Command = Greet;
    /// #     fn command(&self, data: &Welcome) -> Greet { Greet { name: data.names.join(" and ") } }
    /// # }
    /// #[derive(Serialize, Deserialize)]
    /// struct Welcome { names: Vec<String> }
    /// # impl SagaData for Welcome { const SAGA: SagaName = SagaName::new("welcome"); type Codec = Json; }
    ///
    /// /// As it was until May.
    /// #[derive(Serialize, Deserialize)]
    /// struct WelcomeOne { name: String }
    ///
    /// let saga = Saga::<Welcome>::builder()
    ///     .then(GreetStep)
    ///     .upcast(|old: WelcomeOne| Welcome { names: vec![old.name] })
    ///     .build()?;
    /// # Ok::<(), DefinitionError>(())
    /// ```
    pub fn upcast<Old: 'static>(mut self, upcast: impl Fn(Old) -> D + Send + Sync + 'static) -> Self
    where
        D::Codec: Codec<Old>,
    {
        let upcast: Upcast = Box::new(move |bytes| {
            let old = <D::Codec as Codec<Old>>::decode(bytes)?;
            Ok(Box::new(upcast(old)))
        });
        self.upcasts.insert(0, upcast);
        self
    }

    /// Checks the definition and finishes it.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if two steps share a name, there is no step or an empty group, there are
    /// more than 256 steps, or a setting follows nothing that it applies to.
    pub fn build(self) -> Result<Saga<D>, DefinitionError> {
        let saga = D::SAGA;
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.steps.iter().all(|step| step.action.is_none() && step.wait.is_none()) {
            return Err(DefinitionError::NoSteps { saga });
        }
        if self.steps.len() > STEPS_MAX {
            let steps = self.steps.len();
            return Err(DefinitionError::TooManySteps { saga, steps, max: STEPS_MAX });
        }
        let mut names = HashSet::new();
        if let Some(step) = self.steps.iter().find(|step| !names.insert(step.name.clone())) {
            return Err(DefinitionError::DuplicateStep { saga, step: step.name.clone() });
        }
        Ok(Saga::new(Definition {
            name: saga,
            version: self.version,
            fingerprint: fingerprint(&self.steps),
            steps: self.steps,
            data: DataType {
                id: TypeId::of::<D>(),
                encode: encode::<D>,
                decode: decode::<D>,
                upcasts: self.upcasts,
            },
        }))
    }

    fn stage(mut self, steps: Vec<StepDefinition>) -> Self {
        if steps.is_empty() {
            self.error.get_or_insert(DefinitionError::EmptyGroup { saga: D::SAGA });
        }
        let stage = self.stages;
        self.steps.extend(steps.into_iter().map(|step| StepDefinition { stage, ..step }));
        self.stages += 1;
        self
    }

    /// Applies a setting to each step of the last stage; `apply` says whether the step has such a setting.
    fn set(mut self, setting: &'static str, apply: impl Fn(&mut StepDefinition) -> bool) -> Self {
        let last = self.stages.checked_sub(1);
        let mut applied = false;
        for step in self.steps.iter_mut().filter(|step| Some(step.stage) == last) {
            applied |= apply(step);
        }
        if !applied {
            let saga = D::SAGA;
            self.error.get_or_insert(DefinitionError::MisplacedSetting { saga, setting });
        }
        self
    }
}

impl StepDefinition {
    fn new(name: StepName, kind: StepKind) -> Self {
        Self { name, stage: 0, kind, condition: None, action: None, compensation: None, wait: None }
    }
}

fn compensable<D: SagaData, S: Compensate<D>>(step: S) -> StepDefinition {
    // Two closures need the one step, and a step need not be `Clone`.
    let step = std::sync::Arc::new(step);
    let undo = std::sync::Arc::clone(&step);
    let compensation = action::<D, S::Compensation>(
        RetryPolicy::PERSISTENT,
        move |data, cause| undo.compensation(data, cause),
        |_, _| {},
    );
    StepDefinition {
        compensation: Some(compensation),
        ..forward_shared(step, StepKind::Compensable)
    }
}

fn forward<D: SagaData, S: Step<D>>(step: S, kind: StepKind) -> StepDefinition {
    forward_shared(std::sync::Arc::new(step), kind)
}

fn forward_shared<D: SagaData, S: Step<D>>(
    step: std::sync::Arc<S>,
    kind: StepKind,
) -> StepDefinition {
    let retry = match kind {
        StepKind::Pivot | StepKind::Retriable => RetryPolicy::PERSISTENT,
        StepKind::Prior | StepKind::Compensable | StepKind::Wait => RetryPolicy::DEFAULT,
    };
    let fold = std::sync::Arc::clone(&step);
    let action = action::<D, S::Command>(
        retry,
        move |data, _| step.command(data),
        move |data, reply| fold.on_reply(data, reply),
    );
    StepDefinition { action: Some(action), ..StepDefinition::new(S::NAME, kind) }
}

fn action<D: SagaData, C: Command>(
    retry: RetryPolicy,
    build: impl Fn(&D, &Cause) -> C + Send + Sync + 'static,
    fold: impl Fn(&mut D, C::Reply) + Send + Sync + 'static,
) -> Action {
    Action {
        participant: C::PARTICIPANT,
        message_type: C::TYPE,
        reply_type: <C::Reply as crate::Message>::TYPE,
        retry,
        deadline: DEADLINE_DEFAULT,
        build: Box::new(move |data, cause| C::Codec::encode(&build(typed(data), cause))),
        fold: Box::new(move |data, payload| {
            let reply = <C::Reply as crate::Message>::Codec::decode(payload.as_bytes())?;
            fold(data.downcast_mut().expect("data is of its definition's type"), reply);
            Ok(())
        }),
    }
}

fn typed<D: 'static>(data: &(dyn Any + Send + Sync)) -> &D {
    data.downcast_ref().expect("data is of its definition's type")
}

fn encode<D: SagaData>(data: &(dyn Any + Send + Sync)) -> Result<Payload, CodecError> {
    D::Codec::encode(typed(data))
}

fn decode<D: SagaData>(bytes: &[u8]) -> Result<super::Data, CodecError> {
    Ok(Box::new(D::Codec::decode(bytes)?))
}

/// FNV-1a over what a running saga depends on. It is stored, so it never changes for one shape.
fn fingerprint(steps: &[StepDefinition]) -> u64 {
    let mut hash = FNV;
    let mut add = |bytes: &[u8]| hash = fnv1a(fnv1a(hash, bytes), &[0]);
    for step in steps {
        // The same on every machine.
        add(&(step.stage as u64).to_be_bytes());
        add(step.name.as_str().as_bytes());
        add(&[match step.kind {
            StepKind::Prior => 1,
            StepKind::Compensable => 2,
            StepKind::Pivot => 3,
            StepKind::Retriable => 4,
            StepKind::Wait => 5,
        }]);
        for action in [&step.action, &step.compensation] {
            let (participant, command): (&str, &str) = action.as_ref().map_or(("", ""), |action| {
                (action.participant.as_str(), MessageType::as_str(&action.message_type))
            });
            add(participant.as_bytes());
            add(command.as_bytes());
        }
    }
    hash
}

impl<D, Phase> fmt::Debug for SagaBuilder<D, Phase> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|step| &step.name).collect::<Vec<_>>();
        f.debug_struct("SagaBuilder")
            .field("version", &self.version)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}

impl<D, Phase> fmt::Debug for Branches<D, Phase> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.name)).finish()
    }
}
