//! Proves a saga: with everything that can go wrong at every step, and a crash at every point.
//!
//! A run has a world of its own: an orchestrator and the participants, each a service that can crash by
//! itself, a network between them, and a clock that jumps when nobody has anything to do. All of it is
//! one thread, so that what happens follows from the plan of the run, and from nothing else.

#![expect(clippy::future_not_send, reason = "a run stays on its thread")]

mod audit;
mod clock;
mod defect;
mod dice;
mod judge;
mod network;
mod parallel;
mod plan;
mod planted;
mod play;
mod report;
mod scene;
mod seeds;
mod services;
mod subject;
mod trouble;
mod witness;

use std::env;
use std::ops::Range;
use std::thread;

use saga_core::StepName;

pub use clock::SimulatedClock;
pub use defect::Defect;
pub use planted::{Cursors, Planted, PlantedPublisher, PlantedSubscriber};
pub use report::Report;
pub use subject::Subject;

use self::plan::{Deed, Fault, Plan};
use self::play::{Flaw, Run, play};
use self::trouble::{Side, Trouble, TroubleKind};
use crate::{Moment, Operation};

/// Names the only plan that is to be played.
const ONLY: &str = "SAGA_PROOF";
/// The only seed that is to be played.
const SEED: &str = "SAGA_SEED";

/// Proves that a saga ends completed or compensated, all or nothing, whatever goes wrong.
///
/// The engine and your participants are the real ones; the network between them, the
/// orchestrator's store and the time are simulated. One after the other,
///
/// - each action is rejected, fails once, every time or for good, is lost once or every time,
///   succeeds or is rejected after its deadline or when all is over, arrives late, and arrives twice;
/// - each compensation fails once, every time or for good, is lost, answered late, and arrives twice;
/// - somebody cancels after each commit of the saga;
///
/// and each of these again with a crash before and after each durable write, publication and acknowledgement
/// of the orchestrator and of the participants, with a second crash while the first is recovered
/// from, and with a failure instead whose outcome is unknown. A saga that any of this befalls is cancelled as well, after
/// each of its commits until it comes to rest. One that parks is tried again once the trouble is over.
///
/// After each run it must hold that the saga has ended once; that each step has one outcome; that no command was
/// carried out twice, or after its compensation; that a completed saga has undone nothing, and a compensated one
/// everything, in reverse; that every message was sent; and what [`Subject::check`] says. A
/// saga that was rejected something after its pivot is left to a person, and only what does not depend on its end is checked.
///
/// Each participant runs in a service of its own, also one that is [local](saga_core::EngineBuilder::local) in yours: what is
/// proved is the definition with its handlers, and that it is local or not makes no difference to them. A saga must end
/// within a day of simulated time. A saga of four steps takes some 19,000 runs and half a minute on two processors.
///
/// The report names what went wrong in how many runs, and the steps that no run has asked for. Print it, and let the
/// test fail if something was [never seen](Report::unseen).
///
/// A saga of six steps over three services, with a parallel group and a step that is only compensated, is proved in
/// `examples/tests/proof.rs`: that of the example services.
///
/// # Panics
///
/// If something does not hold: with what it is, what went wrong in that run, all that happened
/// in it, and the line that plays this run alone: `SAGA_PROOF='...' cargo test ...`, or `SAGA_SEED=...` for [`simulate`].
///
/// # Examples
///
/// A saga of one step, which raises a counter, and lowers it again if it is compensated:
///
/// ```
/// use saga_core::*;
/// use saga_testkit::{SimulatedClock, Subject, prove};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Raise {}
/// #[derive(Serialize, Deserialize)]
/// struct Lower {}
/// #[derive(Serialize, Deserialize)]
/// struct Done {}
/// #[derive(Serialize, Deserialize)]
/// struct Order {}
///
/// # macro_rules! messages { ($($name:ident),*) => { $(impl Message for $name {
/// #     const TYPE: MessageType = MessageType::new(stringify!($name));
/// #     type Codec = Json;
/// # })* } }
/// # messages!(Raise, Lower, Done);
/// # macro_rules! commands { ($($name:ident),*) => { $(impl Command for $name {
/// #     type Reply = Done;
/// #     const PARTICIPANT: ParticipantName = ParticipantName::new("counter");
/// # })* } }
/// # commands!(Raise, Lower);
/// # impl SagaData for Order {
/// #     const SAGA: SagaName = SagaName::new("order");
/// #     type Codec = Json;
/// # }
/// # struct Count;
/// # impl Step<Order> for Count {
/// #     const NAME: StepName = StepName::new("count");
/// #     type Command = Raise;
/// #     fn command(&self, _: &Order) -> Raise { Raise {} }
/// # }
/// # impl Compensate<Order> for Count {
/// #     type Compensation = Lower;
/// #     fn compensation(&self, _: &Order, _: &Cause) -> Lower { Lower {} }
/// # }
/// // ... the messages, and `Count`, a step that sends `Raise` and is undone by `Lower` ...
///
/// struct Counter;
///
/// impl Handle<Raise, MemoryConnection<i64>> for Counter {
///     async fn handle(&self, _: Raise, cx: &mut Context<'_, MemoryConnection<i64>>) -> HandlerResult<Done> {
///         **cx.connection() += 1;
///         Ok(Reply::succeeded(Done {}))
///     }
/// }
///
/// impl Handle<Lower, MemoryConnection<i64>> for Counter {
///     async fn handle(&self, _: Lower, cx: &mut Context<'_, MemoryConnection<i64>>) -> HandlerResult<Done> {
///         **cx.connection() -= 1;
///         Ok(Reply::succeeded(Done {}))
///     }
/// }
///
/// struct Counting;
///
/// impl Subject for Counting {
///     type Data = Order;
///     type Store = MemoryStore<i64>;
///
///     fn saga(&self) -> Saga<Order> {
///         Saga::<Order>::builder().step(Count).build().unwrap()
///     }
///
///     fn data(&self) -> Order {
///         Order {}
///     }
///
///     fn store(&self, clock: &SimulatedClock) -> MemoryStore<i64> {
///         MemoryStore::default().clock(clock.clone())
///     }
///
///     fn participants(&self) -> Vec<Participant<MemoryConnection<i64>>> {
///         let counter = Participant::builder(Raise::PARTICIPANT);
///         let counter = counter.handle::<Raise>(Counter).handle::<Lower>(Counter);
///         vec![counter.build().unwrap()]
///     }
///
///     fn check(&self, store: &MemoryStore<i64>, status: Status) -> Result<(), String> {
///         let want = i64::from(status == Status::Completed);
///         let have = store.read(|count| *count);
///         if have == want { Ok(()) } else { Err(format!("it counts {have}, not {want}")) }
///     }
/// }
///
/// println!("{}", prove(&Counting)); // what was covered
/// ```
pub fn prove(subject: &(impl Subject + Sync)) -> Report {
    let only = env::var(ONLY).ok();
    let report = Report::new(subject.saga().definition(), only.is_some());
    let mut proof = Proof { subject, report, plans: Vec::new(), bases: Vec::new() };
    proof.explore();
    if let Some(only) = only {
        let is_base = proof.bases.contains(&only);
        proof.plans.retain(|plan| only == plan.to_string());
        assert!(is_base || !proof.plans.is_empty(), "there is no run of {ONLY}='{only}'");
    }
    proof.play_all();
    proof.report
}

/// Plays a saga once for each seed, which decides everything that goes wrong in that run.
///
/// What [`prove`] does in turn may happen here at once: several troubles, crashes, failures and
/// pauses, a cancel, a second orchestrator that takes over and is taken over from, and a network that delays and
/// doubles at random. What must hold is the same. Some 800 seeds take a second on two processors.
///
/// # Panics
///
/// If something does not hold: as [`prove`], with as little left of what went wrong as still shows it.
///
/// # Examples
///
/// With the subject of the example of [`prove`]: `println!("{}", simulate(&Counting, 0..10_000))`.
pub fn simulate(subject: &(impl Subject + Sync), seeds: Range<u64>) -> Report {
    let smooth = Plan::default();
    let smooth =
        play(subject, &smooth).unwrap_or_else(|flaw| give_up(&smooth, &flaw, &by_name(&smooth)));
    let only = env::var(SEED).ok().map(|seed| seed.parse().expect("a number"));
    let mut report = Report::new(subject.saga().definition(), only.is_some());
    let seeds: Vec<u64> = only.map_or_else(|| seeds.collect(), |only| vec![only]);
    let plans: Vec<_> = seeds.iter().map(|seed| seeds::plan(*seed, &smooth)).collect();
    let runs = parallel::map(&plans, |plan| play(subject, plan));
    for ((seed, plan), run) in seeds.iter().zip(plans).zip(runs) {
        match run {
            Ok(run) => report.add(&plan, &run),
            Err(flaw) => {
                let (plan, flaw) = seeds::smallest(subject, plan, flaw);
                give_up(&plan, &flaw, &format!("{SEED}={seed}"));
            }
        }
    }
    report
}

/// Plays seeds with a planted defect, and returns the flaws that were seen.
#[doc(hidden)]
pub fn see<P: Subject + Sync>(
    subject: &P,
    defect: Defect,
    seeds: Range<u64>,
) -> impl Iterator<Item = String> + use<'_, P> {
    let smooth = play(subject, &Plan::default()).unwrap_or_else(|flaw| panic!("{}", flaw.what));
    let plan = move |seed| Plan { defect: Some(defect), ..seeds::plan(seed, &smooth) };
    seeds.map(plan).filter_map(|plan| play(subject, &plan).err()).map(|flaw| flaw.what)
}

/// Returns all that happens in the run of a seed, or in one that shows a flaw.
#[doc(hidden)]
pub fn story(subject: &impl Subject, seed: u64) -> Vec<String> {
    let smooth = play(subject, &Plan::default()).unwrap_or_else(|flaw| panic!("{}", flaw.what));
    match play(subject, &seeds::plan(seed, &smooth)) {
        Ok(run) => run.story,
        Err(flaw) => flaw.story,
    }
}

struct Proof<'a, P> {
    subject: &'a P,
    report: Report,
    /// What is to be played besides.
    plans: Vec<Plan>,
    /// The names of what was played to find that out.
    bases: Vec<String>,
}

impl<P: Subject + Sync> Proof<'_, P> {
    /// Plays every trouble once, and finds out where each of them can crash.
    fn explore(&mut self) {
        let smooth = self.base(&Plan::default());
        for commits in 1..=smooth.commits {
            self.base(&Plan { cancel_after: Some(commits), ..Plan::default() });
        }
        let mut undone = Vec::new();
        for step in smooth.sent.iter().map(|sent| &sent.step) {
            for kind in TroubleKind::OF_ACTIONS {
                let trouble = Trouble { step: step.clone(), side: Side::Action, kind };
                let plan = Plan::default().with(trouble);
                let run = self.base_and_cancels(&plan);
                if kind == TroubleKind::Rejected {
                    note_undone(&plan, &run, &mut undone);
                }
            }
        }
        for (step, turned_back) in undone {
            for kind in TroubleKind::OF_COMPENSATIONS {
                let trouble = Trouble { step: step.clone(), side: Side::Compensation, kind };
                self.base_and_cancels(&turned_back.with(trouble));
            }
        }
    }

    /// As [`base`](Self::base), and plans to play it with a cancel after each commit.
    fn base_and_cancels(&mut self, plan: &Plan) -> Run {
        let run = self.base(plan);
        let cancels = (1..=run.commits).map(Some);
        self.plans.extend(cancels.map(|cancel_after| Plan { cancel_after, ..plan.clone() }));
        run
    }

    /// Plays a plan, and plans to play it with a crash, a failure, and a second crash at each point that it has.
    fn base(&mut self, plan: &Plan) -> Run {
        let run =
            play(self.subject, plan).unwrap_or_else(|flaw| give_up(plan, &flaw, &by_name(plan)));
        self.report.add(plan, &run);
        self.bases.push(plan.to_string());
        for &(service, operation, calls) in &run.calls {
            for (nth, moment) in (1..=calls).flat_map(|nth| MOMENTS.map(|moment| (nth, moment))) {
                let at = |deed| Fault { service, life: 0, operation, nth, moment, deed };
                self.plans.push(plan.and([at(Deed::Crash)]));
                if operation != Operation::Acknowledge {
                    self.plans.push(plan.and([at(Deed::Fail)]));
                }
                if operation == Operation::Write {
                    let again = Fault { life: 1, nth: 1, ..at(Deed::Crash) };
                    self.plans.push(plan.and([at(Deed::Crash), again]));
                }
            }
        }
        run
    }

    /// Plays all that was planned, on every processor.
    fn play_all(&mut self) {
        let runs = parallel::map(&self.plans, |plan| play(self.subject, plan));
        for (plan, run) in self.plans.iter().zip(runs) {
            let run = run.unwrap_or_else(|flaw| give_up(plan, &flaw, &by_name(plan)));
            self.report.add(plan, &run);
        }
    }
}

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// Notes by which plan each step is undone: the one that gets furthest before it turns back.
fn note_undone(plan: &Plan, run: &Run, undone: &mut Vec<(StepName, Plan)>) {
    for sent in run.sent.iter().filter(|sent| sent.side == Side::Compensation) {
        undone.retain(|(step, _)| *step != sent.step);
        undone.push((sent.step.clone(), plan.clone()));
    }
}

fn give_up(plan: &Plan, flaw: &Flaw, again: &str) -> ! {
    let Flaw { what, story } = flaw;
    let story = story.join("\n");
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
    panic!("{what}\n\nwhen {plan}:\n{story}\n\nto play this alone: {again} cargo test {test}")
}

fn by_name(plan: &Plan) -> String {
    format!("{ONLY}='{plan}'")
}
