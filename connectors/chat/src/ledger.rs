//! What has been spent. A question sets aside what it may cost before it is sent, so that several at a
//! time do not go beyond the budget together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::error::ChatError;
use crate::reply::Usage;
use crate::settings::Settings;

const MILLION: f64 = 1e6;

/// What has been spent so far.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Spent {
    /// Requests that were sent, repetitions among them.
    pub requests: u64,
    /// Answers that came, whether they were of use or not: what is paid for.
    pub answers: u64,
    /// Tokens of the questions, as the endpoint counts.
    pub input_tokens: u64,
    /// Tokens of the answers, as the endpoint counts.
    pub output_tokens: u64,
    /// By the settings' prices. What an endpoint may charge for an answer that never came is not in it.
    pub cost: f64,
}

#[derive(Debug, Default)]
struct Books {
    spent: Spent,
    /// What questions that are out may cost, and how many they are.
    reserved: f64,
    out: u32,
    /// How much more than was guessed an answer has cost, at most; `None` before the first one.
    excess: Option<f64>,
}

/// The books of an endpoint.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    prices: (f64, f64),
    budget: f64,
}

/// What a question has set aside; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    ledger: &'a Ledger,
    amount: f64,
}

impl Ledger {
    pub fn new(settings: &Settings) -> Self {
        Self {
            books: Mutex::default(),
            prices: (settings.input_price, settings.output_price),
            budget: settings.budget,
        }
    }

    pub fn spent(&self) -> Spent {
        self.books().spent
    }

    pub fn has_budget(&self) -> bool {
        self.budget > 0.0
    }

    /// Tokens that a question and its answer take, by those so far, else by a guess.
    pub fn tokens(&self, guess: Usage) -> u64 {
        let Spent {
            answers,
            input_tokens,
            output_tokens,
            ..
        } = self.spent();
        match (input_tokens + output_tokens).checked_div(answers) {
            None | Some(0) => guess.prompt_tokens + guess.completion_tokens,
            Some(mean) => mean,
        }
    }

    /// Sets aside what a question may cost: the guess, and as much more as an answer has taken. `None`:
    /// what others have set aside stands in the way; ask again when they have their answers.
    pub fn reserve(&self, guess: Usage) -> Result<Option<Reserved<'_>>, ChatError> {
        let mut books = self.books();
        let amount = self.cost(guess) * books.excess.unwrap_or(1.0);
        let over = |out: f64| self.has_budget() && out + amount > self.budget;
        if over(books.spent.cost) {
            return Err(ChatError::Budget {
                budget: self.budget,
                spent: books.spent.cost,
                next: amount,
            });
        }
        if over(books.spent.cost + books.reserved) {
            return Ok(None);
        }
        books.reserved += amount;
        books.out += 1;
        Ok(Some(Reserved {
            ledger: self,
            amount,
        }))
    }

    /// A request is sent.
    pub fn sent(&self) {
        self.books().spent.requests += 1;
    }

    /// An answer came, and took so much where that is said.
    pub fn answered(&self, usage: Option<Usage>, guess: Usage) {
        let (cost, guessed) = (self.cost(usage.unwrap_or_default()), self.cost(guess));
        let mut books = self.books();
        if guessed > 0.0 && usage.is_some() {
            let most = books.excess.unwrap_or(0.0).max(cost / guessed);
            books.excess = Some(most);
        }
        let usage = usage.unwrap_or_default();
        let spent = &mut books.spent;
        spent.answers += 1;
        spent.input_tokens += usage.prompt_tokens;
        spent.output_tokens += usage.completion_tokens;
        spent.cost += cost;
    }

    fn cost(&self, usage: Usage) -> f64 {
        let (input, output) = self.prices;
        (usage.prompt_tokens as f64 * input + usage.completion_tokens as f64 * output) / MILLION
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        books.out = books.out.saturating_sub(1);
        // The last one leaves nothing, rounding errors included: others would wait for it.
        books.reserved = match books.out {
            0 => 0.0,
            _ => books.reserved - self.amount,
        };
    }
}
