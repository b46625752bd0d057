//! A language model behind an endpoint: several questions at a time, each for one track.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Result, bail};
use segue_catalog::ratings::answer::read_answer;
use segue_catalog::ratings::prompt::{Anchor, answer_instruction, answer_schema, instruction};
use segue_catalog::ratings::schema::COUNT;
use segue_chat::{ChatError, Endpoint, Message, Question, Role, Settings};
use segue_encode::vector_cache::VectorCache;
use segue_flow::Remedy;
use segue_flow::clock::MachineClock;
use serde_json::Value;

use super::Wanted;
use super::rater::Outcome;
use crate::commands::encode::go_on;
use crate::commands::encode::store::keep;
use crate::report::figures::count;
use crate::watch;

/// Tokens of a rated attribute in JSON, about.
const TOKENS_EACH: u64 = 8;
/// So many questions in a row without an answer mean that there is no point in going on.
const IN_VAIN: usize = 10;

/// A language model behind an endpoint.
pub struct Elsewhere {
    endpoint: Endpoint,
    in_flight: usize,
    /// What is said before each question.
    before: Vec<Message>,
    schema: Value,
    about: String,
    print: String,
}

type Rated = Result<[f32; COUNT], ChatError>;

impl Elsewhere {
    pub fn new(base: &str, model: &str, anchors: &[Anchor], settings: &Settings) -> Result<Self> {
        let clock = Arc::new(MachineClock::start());
        let endpoint = Endpoint::new(base, model, settings, clock)?;
        let said = |role, content| Message { role, content };
        let rules = format!("{}\n{}", instruction(), answer_instruction());
        let mut before = vec![said(Role::System, rules)];
        for anchor in anchors {
            before.push(said(Role::User, question_of(&anchor.track)));
            before.push(said(Role::Assistant, anchor.answer()));
        }
        let address = endpoint.address();
        let print = format!(
            "mgphot elsewhere {address} {model} {:?} {:?} {before:?}",
            settings.answers, settings.temperature
        );
        let about = format!(
            "{model} at {address} is told the schema and {} anchors",
            anchors.len()
        );
        Ok(Self {
            endpoint,
            in_flight: settings.in_flight,
            before,
            schema: answer_schema(),
            about,
            print,
        })
    }

    pub fn about(&self) -> &str {
        &self.about
    }

    pub fn print(&self) -> &str {
        &self.print
    }

    /// What it has cost.
    pub fn spent(&self) -> String {
        let spent = self.endpoint.spent();
        format!(
            "{} answers to {} requests, {} tokens asked and {} answered, at a cost of {:.4}",
            count(spent.answers),
            count(spent.requests),
            count(spent.input_tokens),
            count(spent.output_tokens),
            spent.cost
        )
    }

    pub fn rate(
        &self,
        wanted: &[Wanted],
        cache: &mut VectorCache,
        out: &Path,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (send, receive) = sync_channel(self.in_flight);
        let outcome = std::thread::scope(|scope| {
            for _ in 0..self.in_flight.min(wanted.len()) {
                let (send, next, ends) = (send.clone(), &next, (stop, &over));
                scope.spawn(move || self.work(wanted, next, &send, ends));
            }
            drop(send);
            let outcome = self.gather(wanted, receive, cache);
            // An error ends the others too.
            over.store(true, Ordering::Relaxed);
            outcome
        })?;
        go_on(stop, out)?;
        Ok(outcome)
    }

    /// Asks for one track after the other until there is none left, or nothing more to be had.
    fn work(
        &self,
        wanted: &[Wanted],
        next: &AtomicUsize,
        send: &SyncSender<(usize, Rated)>,
        (stop, over): (&AtomicBool, &AtomicBool),
    ) {
        let ended = || stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
        while !ended() {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(track) = wanted.get(place) else {
                return;
            };
            let rated = self.ask(&track.line, &ended);
            if rated
                .as_ref()
                .is_err_and(|e| e.remedy() != Remedy::DeadLetter)
            {
                over.store(true, Ordering::Relaxed);
            }
            // Who takes them has gone: it failed, and says so itself.
            if send.send((place, rated)).is_err() {
                return;
            }
        }
    }

    fn ask(&self, line: &str, ended: &dyn Fn() -> bool) -> Rated {
        let mut messages = self.before.clone();
        messages.push(Message {
            role: Role::User,
            content: question_of(line),
        });
        let question = Question {
            messages: &messages,
            shape: ("ratings", &self.schema),
            answer_tokens: TOKENS_EACH * COUNT as u64,
        };
        let read = |text: &str| read_answer(text).map_err(|error| error.to_string());
        self.endpoint.ask(&question, read, ended)
    }

    /// Takes answers as they come.
    fn gather(
        &self,
        wanted: &[Wanted],
        receive: Receiver<(usize, Rated)>,
        cache: &mut VectorCache,
    ) -> Result<Outcome> {
        let bar = watch::bar(wanted.len() as u64, "rating");
        let mut outcome = Outcome::default();
        let mut in_vain = 0;
        for (place, rated) in receive {
            let Some(track) = wanted.get(place) else {
                continue;
            };
            bar.inc(1);
            bar.set_message(format!("cost {:.4}", self.endpoint.spent().cost));
            match rated {
                Ok(ratings) => {
                    keep(cache, track.content, &ratings)?;
                    in_vain = 0;
                }
                Err(error @ ChatError::Budget { .. }) => {
                    outcome.ended = Some(error.to_string());
                }
                Err(ChatError::Stopped) => {}
                Err(error) if error.remedy() == Remedy::DeadLetter => {
                    in_vain += 1;
                    if in_vain >= IN_VAIN {
                        bail!(
                            "{in_vain} tracks in a row got no ratings, the last one since: {error}; what \
                             was rated is kept, and the same command goes on from there"
                        );
                    }
                    let problem = error.to_string();
                    tracing::warn!(track = track.line, problem, "a track has no ratings");
                    outcome.problems.insert(track.content, problem);
                }
                Err(error) => return Err(error.into()),
            }
        }
        bar.finish_and_clear();
        Ok(outcome)
    }
}

fn question_of(line: &str) -> String {
    format!("Track: {line}")
}
