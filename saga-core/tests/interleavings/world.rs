//! The participants: one inbox with its barrier, effects, and a script of how each command goes.

use std::collections::HashMap;

use proptest::prelude::*;
use saga_core::machine::{OutgoingCommand, ReplyEvent};
use saga_core::message::Outcome;
use saga_core::{Codec, Json, Message, MessageId, Payload};

use crate::Seen;
use crate::definitions::{Answer, Kind, StepInfo, Undo};

/// How carrying out a command goes, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    Succeeds,
    /// Succeeds, and its reply cannot be read.
    SucceedsGarbled,
    Rejects,
    FailsTransiently,
    FailsPermanently,
}

/// How the commands of a step go: first this, then that, and from then on they succeed.
#[derive(Debug, Clone)]
pub struct Script {
    forward: Vec<Play>,
    back: Vec<Play>,
    reply: u32,
}

pub fn scripts(steps: usize) -> impl Strategy<Value = Vec<Script>> {
    let play = |rejects: u32| {
        prop_oneof![
            10 => Just(Play::Succeeds),
            rejects => Just(Play::Rejects),
            3 => Just(Play::FailsTransiently),
            1 => Just(Play::FailsPermanently),
        ]
    };
    let forward = prop_oneof![20 => play(3), 1 => Just(Play::SucceedsGarbled)];
    let script =
        (prop::collection::vec(forward, 0..=3), prop::collection::vec(play(1), 0..=3), 0..10_u32)
            .prop_map(|(forward, back, reply)| Script { forward, back, reply });
    prop::collection::vec(script, steps)
}

/// What a participant did for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Done(usize),
    Undone(usize),
}

pub struct World {
    steps: Vec<StepInfo>,
    scripts: Vec<Script>,
    inbox: HashMap<MessageId, (Outcome, Payload)>,
    /// Steps whose compensation was seen: nothing of them may be done from now on.
    marked: Vec<bool>,
    pub effects: Vec<Effect>,
}

impl World {
    pub fn new(steps: Vec<StepInfo>, scripts: Vec<Script>) -> Self {
        let marked = vec![false; steps.len()];
        Self { steps, scripts, inbox: HashMap::new(), marked, effects: Vec::new() }
    }

    /// Handles a command and returns the reply; an error is a broken invariant.
    pub fn handle(
        &mut self,
        command: &OutgoingCommand,
        seen: &mut Seen,
    ) -> Result<ReplyEvent, String> {
        let number = self.number(command.step.as_str());
        let (outcome, payload) = match self.inbox.get(&command.id) {
            Some(recorded) => {
                seen.duplicate_commands += 1;
                recorded.clone()
            }
            None if command.message_type == Undo::TYPE => self.undo(number, command, seen)?,
            None => self.carry_out(number, command)?,
        };
        if matches!(outcome, Outcome::Succeeded | Outcome::Rejected(_)) {
            self.inbox.insert(command.id, (outcome.clone(), payload.clone()));
        }
        Ok(ReplyEvent { command: command.id, attempt: command.attempt, outcome, payload })
    }

    fn carry_out(
        &mut self,
        number: usize,
        command: &OutgoingCommand,
    ) -> Result<(Outcome, Payload), String> {
        if command.compensates.is_some() {
            return Err(format!("{} compensates something", command.step));
        }
        let script = &mut self.scripts[number];
        let play =
            if script.forward.is_empty() { Play::Succeeds } else { script.forward.remove(0) };
        Ok(match play {
            Play::Succeeds => {
                self.do_it(number)?;
                (Outcome::Succeeded, self.answer(number))
            }
            Play::SucceedsGarbled => {
                self.do_it(number)?;
                (Outcome::Succeeded, Payload::from(b"?".to_vec()))
            }
            Play::Rejects => (rejected("no"), Payload::default()),
            Play::FailsTransiently => (failed(), Payload::default()),
            Play::FailsPermanently => (failed_for_good(), Payload::default()),
        })
    }

    fn undo(
        &mut self,
        number: usize,
        command: &OutgoingCommand,
        seen: &mut Seen,
    ) -> Result<(Outcome, Payload), String> {
        self.marked[number] = true;
        if let Some(undone) = command.compensates {
            match self.inbox.get(&undone) {
                Some((Outcome::Succeeded, _)) => {}
                Some(_) => return Ok((Outcome::Succeeded, Payload::default())),
                None => {
                    seen.empty_compensations += 1;
                    self.bar(undone);
                    return Ok((Outcome::Succeeded, Payload::default()));
                }
            }
        } else if self.steps[number].kind != Kind::Prior {
            return Err(format!("~{} does not say what it undoes", command.step));
        }
        let script = &mut self.scripts[number];
        let play = if script.back.is_empty() { Play::Succeeds } else { script.back.remove(0) };
        Ok(match play {
            Play::Succeeds | Play::SucceedsGarbled => {
                self.undo_it(number)?;
                (Outcome::Succeeded, Payload::default())
            }
            Play::Rejects => (rejected("no"), Payload::default()),
            Play::FailsTransiently => (failed(), Payload::default()),
            Play::FailsPermanently => (failed_for_good(), Payload::default()),
        })
    }

    /// Lets a command be refused from now on, if it was not carried out. Returns true if it will never be.
    pub fn bar(&mut self, command: MessageId) -> bool {
        let tombstone = || (rejected("undone-before-it-arrived"), Payload::default());
        let (outcome, _) = self.inbox.entry(command).or_insert_with(tombstone);
        matches!(outcome, Outcome::Rejected(_))
    }

    /// A person does by hand what the command asks for. Returns the reply.
    pub fn do_by_hand(
        &mut self,
        step: &str,
        command: MessageId,
    ) -> Result<Option<Payload>, String> {
        let number = self.number(step);
        match self.inbox.get(&command) {
            None => self.do_it(number)?,
            Some((Outcome::Succeeded, _)) => {}
            Some(_) => return Ok(None),
        }
        let answer = self.answer(number);
        self.inbox.insert(command, (Outcome::Succeeded, answer.clone()));
        Ok(Some(answer))
    }

    /// A person undoes a step by hand, unless that is done already, and sees to it that it stays undone.
    pub fn undo_by_hand(
        &mut self,
        step: &str,
        command: MessageId,
        compensation: MessageId,
    ) -> Result<(), String> {
        let number = self.number(step);
        self.marked[number] = true;
        self.bar(command);
        if matches!(self.inbox.get(&compensation), Some((Outcome::Succeeded, _))) {
            return Ok(());
        }
        self.inbox.insert(compensation, (Outcome::Succeeded, Payload::default()));
        if self.is_in_effect(number) { self.undo_it(number) } else { Ok(()) }
    }

    /// Returns what was recorded for a command.
    pub fn recorded(&self, command: MessageId) -> Option<&Outcome> {
        self.inbox.get(&command).map(|(outcome, _)| outcome)
    }

    /// Returns true if a step took effect, or had before the saga, and was not undone.
    pub fn is_in_effect(&self, number: usize) -> bool {
        let count = |effect| self.effects.iter().filter(|it| **it == effect).count();
        let before = usize::from(self.steps[number].kind == Kind::Prior);
        before + count(Effect::Done(number)) > count(Effect::Undone(number))
    }

    /// I9: nothing is done once its compensation was seen; and nothing is done twice.
    fn do_it(&mut self, number: usize) -> Result<(), String> {
        let name = self.steps[number].name;
        if self.marked[number] {
            return Err(format!("I9: {name} took effect after its compensation was seen"));
        }
        if self.effects.contains(&Effect::Done(number)) {
            return Err(format!("{name} took effect twice"));
        }
        self.effects.push(Effect::Done(number));
        Ok(())
    }

    fn undo_it(&mut self, number: usize) -> Result<(), String> {
        if !self.is_in_effect(number) {
            return Err(format!("{} was undone without being in effect", self.steps[number].name));
        }
        self.effects.push(Effect::Undone(number));
        Ok(())
    }

    fn answer(&self, number: usize) -> Payload {
        Json::encode(&Answer { reply: self.scripts[number].reply }).expect("a number is JSON")
    }

    fn number(&self, step: &str) -> usize {
        self.steps.iter().position(|info| info.name == step).expect("the step exists")
    }
}

fn rejected(code: &str) -> Outcome {
    Outcome::Rejected(code.to_owned())
}

fn failed() -> Outcome {
    Outcome::FailedTransiently("busy".to_owned())
}

fn failed_for_good() -> Outcome {
    Outcome::FailedPermanently("bug".to_owned())
}
