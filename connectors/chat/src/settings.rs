//! How an endpoint is asked.

use std::time::Duration;

use segue_flow::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::error::ChatError;

/// `[endpoint]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The key that the endpoint wants; absent: none is sent. It is sent over HTTPS and to this machine
    /// only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// Questions that are sent in a minute, at most; 0: no limit.
    pub requests_per_minute: u32,
    /// Tokens of questions and answers in a minute, about; 0: no limit.
    pub tokens_per_minute: u32,
    /// Questions that wait for their answers at a time.
    pub in_flight: usize,
    /// How long an answer may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often a question is sent before it is given up, where the endpoint is busy (408, 429, 5xx) or
    /// the connection breaks.
    pub attempts: u32,
    /// How the endpoint is held to the shape of an answer.
    pub answers: Answers,
    /// The temperature that answers are drawn with; absent: the endpoint's own (some models refuse any
    /// other).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What a million tokens of questions cost, in whatever currency.
    pub input_price: f64,
    /// What a million tokens of answers cost, in the same.
    pub output_price: f64,
    /// What a command may spend, in the same: no question is sent that might go beyond. 0: no limit.
    pub budget: f64,
}

/// How an endpoint is held to the shape of an answer. Whatever it is, answers are read strictly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// By a JSON Schema, strictly: the endpoint decodes nothing else.
    #[default]
    JsonSchema,
    /// By being told that it is to be JSON.
    JsonObject,
    /// By the words of the question alone.
    Text,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: None,
            requests_per_minute: 60,
            tokens_per_minute: 0,
            in_flight: 4,
            timeout: Duration::from_secs(120),
            attempts: 6,
            answers: Answers::default(),
            temperature: None,
            input_price: 0.0,
            output_price: 0.0,
            budget: 0.0,
        }
    }
}

impl Settings {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// [`ChatError::Setting`] with the key.
    pub fn check(&self) -> Result<(), ChatError> {
        let wrong = |key, detail: &str| {
            Err(ChatError::Setting {
                key,
                detail: detail.to_owned(),
            })
        };
        if self.in_flight == 0 {
            return wrong("in_flight", "0 would ask nothing; set it to 1 or more");
        }
        if self.attempts == 0 {
            return wrong("attempts", "0 would ask nothing; set it to 1 or more");
        }
        if self.timeout.is_zero() {
            return wrong("timeout", "no answer takes no time; set it to \"2m\", say");
        }
        for (key, value) in [
            ("input_price", self.input_price),
            ("output_price", self.output_price),
            ("budget", self.budget),
            ("temperature", self.temperature.unwrap_or(0.0)),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(key, &format!("{value} is not a number from 0 on"));
            }
        }
        if self.budget > 0.0 && self.input_price + self.output_price == 0.0 {
            return wrong(
                "budget",
                "needs prices to be held: set endpoint.input_price and endpoint.output_price",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_by_key() {
        assert!(Settings::default().check().is_ok());
        for (text, key) in [
            ("in_flight = 0", "endpoint.in_flight"),
            ("attempts = 0", "endpoint.attempts"),
            ("timeout = \"0s\"", "endpoint.timeout"),
            ("output_price = -1.0", "endpoint.output_price"),
            ("temperature = nan", "endpoint.temperature"),
            ("budget = 5.0", "endpoint.budget"),
        ] {
            let settings: Settings = toml::from_str(text).unwrap();
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
        let whole =
            "key = { env = \"X\" }\nanswers = \"json_object\"\nbudget = 5.0\ninput_price = 1.25";
        let settings: Settings = toml::from_str(whole).unwrap();
        assert!(settings.check().is_ok());
        let error = toml::from_str::<Settings>("key = \"sk-hunter2\"").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }
}
