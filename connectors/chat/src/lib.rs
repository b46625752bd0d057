//! Questions to a language model that runs elsewhere, behind any endpoint that speaks OpenAI's
//! `/chat/completions`: OpenAI and Azure, vLLM, llama.cpp, Ollama and others.
//!
//! 1. [`settings`]: key, rates, prices, budget.
//! 2. [`endpoint`]: one question to one answer, at a rate, asked again where that is worth it.
//! 3. [`ledger`]: what it has cost, and what may still be spent.
//!
//! This room knows no music: what is asked, and whether an answer is one, is for the caller to say. An
//! [`Endpoint`] is shared by as many threads as ask at a time; it starts none.

#![cfg_attr(
    any(test, feature = "test-server"),
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod endpoint;
mod error;
pub mod ledger;
mod reply;
pub mod settings;
#[cfg(any(test, feature = "test-server"))]
pub mod test_server;

pub use endpoint::{Endpoint, Message, Question, Role};
pub use error::ChatError;
pub use ledger::Spent;
pub use settings::Settings;

#[cfg(test)]
mod tests;
