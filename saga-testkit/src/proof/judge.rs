//! What must hold once a saga has ended, whatever went wrong on the way.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use saga_core::machine::{HistoryEntry, HistoryKind};
use saga_core::{Status, StepName};

use super::scene::{Carried, Sent};
use super::services::World;
use super::subject::Subject;
use super::trouble::Side;

/// Returns what does not hold, in words.
pub(super) async fn judge<P: Subject>(
    world: &World<'_, P>,
    status: Status,
    history: &[HistoryEntry],
) -> Result<(), String> {
    if let Some(flaw) = world.scene.audit(|audit| audit.flaw().cloned()) {
        return Err(flaw);
    }
    let carried = world.scene.on_record();
    one_outcome_per_step(history)?;
    at_most_once(&carried)?;
    barred(&carried)?;
    in_reverse(
        &carried,
        |step| world.scene.place(step, Side::Compensation),
        |step| world.scene.place(step, Side::Action),
    )?;
    nothing_left(world).await?;
    if status == Status::Parked && was_rejected(history) {
        return Ok(());
    }
    one_end(status, history)?;
    all_or_nothing(status, &carried)?;
    if status == Status::Completed {
        all_of_it(&world.scene.sent(), &carried)?;
    }
    check(world, status)
}

/// Returns what the user says does not hold.
pub(super) fn check<P: Subject>(world: &World<'_, P>, status: Status) -> Result<(), String> {
    let check = AssertUnwindSafe(|| world.subject.check(&world.store, status));
    catch_unwind(check).unwrap_or_else(|panic| Err(format!("the check panics: {}", text(&*panic))))
}

/// Returns what a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// What a completed saga has asked for was carried out.
fn all_of_it(sent: &[Sent], carried: &[Carried]) -> Result<(), String> {
    let is_done = |sent: &&Sent| {
        carried.iter().any(|it| it.has_succeeded && it.side == sent.side && it.step == sent.step)
    };
    match sent.iter().filter(|it| it.side == Side::Action).find(|it| !is_done(it)) {
        Some(sent) => Err(format!("it completed, and `{}` was not carried out", sent.step)),
        None => Ok(()),
    }
}

/// Only a person can end a saga that was refused something when it could no longer turn back.
fn was_rejected(history: &[HistoryEntry]) -> bool {
    history.iter().any(|entry| entry.kind == HistoryKind::Rejected)
}

/// The saga has ended, once, and nothing has happened to it since.
fn one_end(status: Status, history: &[HistoryEntry]) -> Result<(), String> {
    if !status.is_final() {
        return Err(format!(
            "it is still {status}, though the trouble is over and it was tried again"
        ));
    }
    let is_end = |entry: &&HistoryEntry| {
        matches!(entry.kind, HistoryKind::Completed | HistoryKind::SagaCompensated)
    };
    match (history.iter().filter(is_end).count(), history.last()) {
        (1, Some(last)) if is_end(&last) => Ok(()),
        (1, last) => Err(format!("something happened after its end: {last:?}")),
        (ends, _) => Err(format!("it has ended {ends} times")),
    }
}

/// No step has succeeded twice, or succeeded and been rejected, unless a person had it tried again.
fn one_outcome_per_step(history: &[HistoryEntry]) -> Result<(), String> {
    let mut outcomes = HashMap::<&StepName, u32>::new();
    for entry in history {
        if let (HistoryKind::Operator, Some(step)) = (entry.kind, &entry.step) {
            outcomes.remove(step);
        }
        if let (HistoryKind::Succeeded | HistoryKind::Rejected, Some(step)) =
            (entry.kind, &entry.step)
        {
            *outcomes.entry(step).or_default() += 1;
        }
    }
    match outcomes.into_iter().find(|(_, outcomes)| *outcomes > 1) {
        Some((step, outcomes)) => Err(format!("`{step}` has {outcomes} outcomes")),
        None => Ok(()),
    }
}

/// No command has been carried out twice.
fn at_most_once(carried: &[Carried]) -> Result<(), String> {
    let mut known = HashSet::new();
    match carried.iter().find(|it| !known.insert((&it.step, it.side))) {
        Some(Carried { step, side, .. }) => {
            Err(format!("the {side} of `{step}` was carried out twice"))
        }
        None => Ok(()),
    }
}

/// A completed saga has undone nothing; of a compensated one every effect is undone.
fn all_or_nothing(status: Status, carried: &[Carried]) -> Result<(), String> {
    let done = |side| carried.iter().filter(move |it| it.has_succeeded && it.side == side);
    let undone = || done(Side::Compensation).filter(|it| !it.is_empty);
    if status == Status::Completed {
        return match undone().next() {
            Some(it) => Err(format!("it completed, and `{}` was undone", it.step)),
            None => Ok(()),
        };
    }
    match done(Side::Action).find(|action| undone().all(|it| it.step != action.step)) {
        Some(action) => Err(format!("it was compensated, and `{}` was not undone", action.step)),
        None => Ok(()),
    }
}

/// No action has been carried out after its compensation.
fn barred(carried: &[Carried]) -> Result<(), String> {
    let mut undone = HashSet::new();
    for it in carried.iter().filter(|it| it.has_succeeded) {
        match it.side {
            Side::Compensation => drop(undone.insert(&it.step)),
            Side::Action if undone.contains(&it.step) => {
                return Err(format!("`{}` was carried out after it had been undone", it.step));
            }
            Side::Action => {}
        }
    }
    Ok(())
}

/// Of two steps of which the second began when the first was done, the second is undone first.
fn in_reverse(
    carried: &[Carried],
    undo_sent: impl Fn(&StepName) -> Option<usize>,
    action_sent: impl Fn(&StepName) -> Option<usize>,
) -> Result<(), String> {
    let done = |side| carried.iter().filter(move |it| it.has_succeeded && it.side == side);
    for first in done(Side::Action) {
        for second in done(Side::Compensation).filter(|it| !it.is_empty) {
            let follows = action_sent(&second.step).is_some_and(|at| at >= first.after_sent);
            let too_early = undo_sent(&first.step).is_some_and(|at| at < second.after_sent);
            let is_order = || undo_sent(&first.step) < undo_sent(&second.step);
            if follows && too_early && is_order() {
                let (first, second) = (&first.step, &second.step);
                return Err(format!("`{first}` was undone before `{second}`, which came after it"));
            }
        }
    }
    Ok(())
}

/// Everything was sent, and nothing was set aside.
async fn nothing_left<P: Subject>(world: &World<'_, P>) -> Result<(), String> {
    let [orchestrator, participants] = world.unsent().await;
    match (orchestrator, participants, world.sagas.dead_letters().len()) {
        (0, 0, 0) => Ok(()),
        (0, 0, letters) => Err(format!("the orchestrator has set {letters} messages aside")),
        (0, unsent, _) => Err(format!("{unsent} rows of the participants' outbox were never sent")),
        (unsent, ..) => Err(format!("{unsent} rows of the orchestrator's outbox were never sent")),
    }
}
