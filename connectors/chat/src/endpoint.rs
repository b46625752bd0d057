//! An endpoint: one question to one answer.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use segue_fetch::{Address, Client, Failure};
use segue_flow::clock::{Governed, WallClock};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ChatError;
use crate::ledger::{Ledger, Spent};
use crate::reply::{Outcome, Usage, judge};
use crate::settings::{Answers, Settings};

/// Before the second attempt; twice as long before each further one.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether to stop, while waiting.
const LOOK: Duration = Duration::from_millis(200);
/// How often an answer may be of no use: another draw may be, a third one is money.
const UNUSABLE_AT_MOST: u32 = 2;
/// Characters of a token, at least: what a question is guessed to take before one was answered.
const CHARACTERS: u64 = 3;

/// Who says something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The rules.
    System,
    /// Who asks.
    User,
    /// Who answers.
    Assistant,
}

/// Something that is said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub content: String,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is said, the question last.
    pub messages: &'a [Message],
    /// What the answer is called, and its shape as a JSON Schema.
    pub shape: (&'static str, &'a Value),
    /// Tokens that an answer is guessed to take, before one was given.
    pub answer_tokens: u64,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Governed, NoOpMiddleware<Duration>>;

/// An endpoint that is asked.
pub struct Endpoint {
    client: Client,
    address: Address,
    model: String,
    settings: Settings,
    clock: Arc<dyn WallClock>,
    requests: Option<Limiter>,
    tokens: Option<(Limiter, NonZeroU32)>,
    /// Until when, by the clock, the endpoint wants to be left alone.
    not_before: Mutex<Duration>,
    ledger: Ledger,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Endpoint");
        fields.field("address", &self.address.to_string());
        fields.field("model", &self.model).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The endpoint under a base address such as `https://api.openai.com/v1`, of which `model` is asked.
    ///
    /// # Errors
    /// Settings that cannot be meant; the machine's certificates cannot be used.
    pub fn new(
        base: &str,
        model: &str,
        settings: &Settings,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, ChatError> {
        settings.check()?;
        let address = Address::with_token(address_of(base), settings.key.clone());
        let client = match address.is_local() {
            true => Client::straight(),
            false => Client::from_environment()?,
        };
        let limiter = |quota: Quota| RateLimiter::direct_with_clock(quota, Governed(clock.clone()));
        let requests = NonZeroU32::new(settings.requests_per_minute).map(|a_minute| {
            // A second's worth at once, and not a minute's.
            let burst = NonZeroU32::new(a_minute.get() / 60).unwrap_or(NonZeroU32::MIN);
            limiter(Quota::per_minute(a_minute).allow_burst(burst))
        });
        let tokens = NonZeroU32::new(settings.tokens_per_minute)
            .map(|a_minute| (limiter(Quota::per_minute(a_minute)), a_minute));
        Ok(Self {
            client,
            address,
            model: model.to_owned(),
            requests,
            tokens,
            not_before: Mutex::default(),
            ledger: Ledger::new(settings),
            settings: settings.clone(),
            clock,
        })
    }

    /// Whom it asks, without what is secret in the address.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has been spent so far.
    pub fn spent(&self) -> Spent {
        self.ledger.spent()
    }

    /// Asks until `read` takes an answer. It is asked again, after a pause, where the endpoint is busy or
    /// the connection breaks; and once more, where `read` refuses an answer.
    ///
    /// # Errors
    /// See [`ChatError`]; `stop` said so.
    pub fn ask<T>(
        &self,
        question: &Question<'_>,
        read: impl Fn(&str) -> Result<T, String>,
        stop: &dyn Fn() -> bool,
    ) -> Result<T, ChatError> {
        let body = self.body(question).to_string();
        let guess = Usage {
            prompt_tokens: body.len() as u64 / CHARACTERS,
            completion_tokens: question.answer_tokens,
        };
        let (mut failures, mut unusable) = (0, 0);
        loop {
            let Some(_reserved) = self.ledger.reserve(guess)? else {
                self.wait(LOOK, stop)?;
                continue;
            };
            self.may_send(guess, stop)?;
            self.ledger.sent();
            let within = self.settings.timeout;
            let outcome = match self.client.post_json(&self.address, &body, within) {
                Ok(reply) => judge(&reply),
                Err(Failure::Broken(detail)) => Outcome::Again(detail, None),
                Err(Failure::NotSent(error)) => return Err(error.into()),
            };
            let problem = match outcome {
                Outcome::Answered(answer, usage) => {
                    self.ledger.answered(usage, guess);
                    if usage.is_none() && self.ledger.has_budget() {
                        let address = self.address();
                        return Err(ChatError::Uncosted { address });
                    }
                    match answer.and_then(|text| read(&text)) {
                        Ok(answer) => return Ok(answer),
                        Err(problem) => problem,
                    }
                }
                Outcome::Again(detail, wait) => {
                    failures += 1;
                    let detail = self.address.masked(&detail);
                    tracing::debug!(failures, detail, "an endpoint did not answer");
                    if failures >= self.settings.attempts {
                        let attempts = failures;
                        return Err(ChatError::GaveUp { attempts, detail });
                    }
                    match wait {
                        Some(wait) => self.leave_alone(wait),
                        None => self.wait(pause(failures), stop)?,
                    }
                    continue;
                }
                Outcome::Denied(status, detail) => {
                    return Err(ChatError::Denied {
                        address: self.address(),
                        status,
                        detail: self.address.masked(&detail),
                    });
                }
                Outcome::Refused(status, detail) => {
                    let detail = self.address.masked(&detail);
                    return Err(ChatError::Refused { status, detail });
                }
            };
            unusable += 1;
            if unusable >= UNUSABLE_AT_MOST {
                return Err(ChatError::Unusable(self.address.masked(&problem)));
            }
        }
    }

    fn body(&self, question: &Question<'_>) -> Value {
        let mut body = json!({"model": self.model, "messages": question.messages});
        let (name, schema) = question.shape;
        let format = match self.settings.answers {
            Answers::JsonSchema => Some(json!({
                "type": "json_schema",
                "json_schema": {"name": name, "strict": true, "schema": schema},
            })),
            Answers::JsonObject => Some(json!({"type": "json_object"})),
            Answers::Text => None,
        };
        if let Value::Object(fields) = &mut body {
            fields.extend(format.map(|format| ("response_format".to_owned(), format)));
            let temperature = self.settings.temperature;
            fields.extend(temperature.map(|value| ("temperature".to_owned(), value.into())));
        }
        body
    }

    /// Waits until the next request may be sent.
    fn may_send(&self, guess: Usage, stop: &dyn Fn() -> bool) -> Result<(), ChatError> {
        if let Some(limiter) = &self.requests {
            while let Err(early) = limiter.check() {
                self.wait(early.wait_time_from(self.clock.now()), stop)?;
            }
        }
        if let Some((limiter, most)) = &self.tokens {
            let tokens = u32::try_from(self.ledger.tokens(guess)).unwrap_or(u32::MAX);
            // A question that is larger than a minute's share takes all of it.
            let tokens = NonZeroU32::new(tokens)
                .unwrap_or(NonZeroU32::MIN)
                .min(*most);
            while let Ok(Err(early)) = limiter.check_n(tokens) {
                self.wait(early.wait_time_from(self.clock.now()), stop)?;
            }
        }
        loop {
            let until = *self.quiet();
            let left = until.saturating_sub(self.clock.now());
            if left.is_zero() {
                return self.wait(Duration::ZERO, stop);
            }
            self.wait(left, stop)?;
        }
    }

    /// Nobody asks for so long.
    fn leave_alone(&self, wait: Duration) {
        let until = self.clock.now().saturating_add(wait);
        let mut not_before = self.quiet();
        *not_before = until.max(*not_before);
    }

    fn quiet(&self) -> std::sync::MutexGuard<'_, Duration> {
        let quiet = self.not_before.lock();
        quiet.unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, wait: Duration, stop: &dyn Fn() -> bool) -> Result<(), ChatError> {
        let mut left = wait;
        loop {
            if stop() {
                return Err(ChatError::Stopped);
            }
            if left.is_zero() {
                return Ok(());
            }
            let slice = left.min(LOOK);
            self.clock.sleep(slice);
            left -= slice;
        }
    }
}

/// The pause before the attempt that follows so many failures.
fn pause(failures: u32) -> Duration {
    PAUSE
        .saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST_PAUSE)
}

/// Where questions go, under a base address; one that names the place itself is taken as it is.
fn address_of(base: &str) -> String {
    const PLACE: &str = "/chat/completions";
    let (path, query) = match base.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (base, String::new()),
    };
    let path = path.trim_end_matches('/');
    match path.ends_with(PLACE) {
        true => format!("{path}{query}"),
        false => format!("{path}{PLACE}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_to_the_same_place_however_it_is_written() {
        for (base, address) in [
            ("https://x/v1", "https://x/v1/chat/completions"),
            ("https://x/v1/", "https://x/v1/chat/completions"),
            (
                "https://x/v1/chat/completions",
                "https://x/v1/chat/completions",
            ),
            // Azure's older addresses.
            (
                "https://x/openai/deployments/y?api-version=1",
                "https://x/openai/deployments/y/chat/completions?api-version=1",
            ),
        ] {
            assert_eq!(address_of(base), address);
        }
    }

    #[test]
    fn pauses_double_and_end_somewhere() {
        let seconds: Vec<u64> = (1..9).map(|n| pause(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
