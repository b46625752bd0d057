//! What an endpoint said, taken apart.

use std::time::Duration;

use segue_fetch::Reply;
use segue_fetch::client::busy;
use serde::Deserialize;
use serde_json::Value;

/// The longest that is waited because an endpoint says so.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Characters of an endpoint's explanation that are kept.
const EXPLANATION: usize = 300;

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer's text, or why there is none in it; and what it took, where that is said.
    Answered(Result<String, String>, Option<Usage>),
    /// Worth another attempt, after so long where that is said.
    Again(String, Option<Duration>),
    /// The endpoint lets nobody of us in.
    Denied(u16, String),
    /// This question is refused.
    Refused(u16, String),
}

/// Tokens as an endpoint counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
}

/// A chat completion, what is read of it.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

/// Takes a reply apart.
pub(crate) fn judge(reply: &Reply) -> Outcome {
    match reply.status {
        200 => completion(&reply.text),
        status if busy(status) => {
            let detail = format!(
                "answered with status {status}: {}",
                explanation(&reply.text)
            );
            Outcome::Again(detail, retry_after(reply))
        }
        status @ (401..=404 | 300..=399) => Outcome::Denied(status, explanation(&reply.text)),
        status => Outcome::Refused(status, explanation(&reply.text)),
    }
}

fn completion(text: &str) -> Outcome {
    let read: Result<Completion, _> = serde_json::from_str(text);
    let completion = match read {
        Ok(completion) => completion,
        // A proxy's page, a body that broke off.
        Err(error) => {
            let detail = format!("answered with what is no chat completion: {error}");
            return Outcome::Again(detail, None);
        }
    };
    let answer = match completion.choices.into_iter().next() {
        None => Err("the endpoint answered with no choice".to_owned()),
        Some(Choice {
            message: Said {
                refusal: Some(refusal),
                ..
            },
            ..
        }) => Err(format!("the model refused: {}", cut(&refusal))),
        Some(choice) => match (choice.finish_reason.as_deref(), choice.message.content) {
            (Some("length"), _) => Err("the answer was cut off by the model's limit".to_owned()),
            (Some("content_filter"), _) => Err("the endpoint filtered the answer".to_owned()),
            (_, Some(content)) if !content.trim().is_empty() => Ok(content),
            _ => Err("the answer is empty".to_owned()),
        },
    };
    // Nothing takes no token: such a count is none.
    let usage = completion.usage.filter(|usage| usage.prompt_tokens > 0);
    Outcome::Answered(answer, usage)
}

/// What an error's body says: OpenAI's `error.message`, else its beginning.
fn explanation(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let error = value.get("error").unwrap_or(&value);
    let message = error.get("message").or(Some(error)).and_then(Value::as_str);
    let message = cut(message.unwrap_or(text));
    match message.is_empty() {
        true => "it does not say why".to_owned(),
        false => message,
    }
}

fn cut(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(EXPLANATION).collect()
}

/// How long to wait before asking again: seconds, or a time of day, which is read by the server's own
/// clock and not by ours.
fn retry_after(reply: &Reply) -> Option<Duration> {
    let said = reply.retry_after.as_deref()?.trim();
    let wait = match said.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let then = httpdate::parse_http_date(said).ok()?;
            let now = httpdate::parse_http_date(reply.date.as_deref()?).ok()?;
            then.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(retry_after: &str, date: Option<&str>) -> Option<Duration> {
        super::retry_after(&Reply {
            retry_after: Some(retry_after.to_owned()),
            date: date.map(str::to_owned),
            ..Reply::default()
        })
    }

    #[test]
    fn the_wait_is_what_the_server_says_by_its_own_clock() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(after("7", None), seconds(7));
        assert_eq!(after("0.5", None), Some(Duration::from_millis(500)));
        let (now, then) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:57 GMT",
        );
        assert_eq!(after(then, Some(now)), seconds(20));
        assert_eq!(after(now, Some(then)), seconds(0));
        assert_eq!(after(then, None), None);
        assert_eq!(after("86400", None), seconds(600));
        for nonsense in ["-1", "NaN", "1e300", "soon"] {
            assert_eq!(after(nonsense, Some(now)), None, "{nonsense}");
        }
    }

    #[test]
    fn an_explanation_is_a_line_of_bounded_length() {
        let openai = r#"{"error": {"message": "no such\n model", "type": "x"}}"#;
        assert_eq!(explanation(openai), "no such model");
        assert_eq!(explanation(r#"{"error": "plain"}"#), "plain");
        assert_eq!(
            explanation("<h1>Bad\r\nGateway</h1>"),
            "<h1>Bad Gateway</h1>"
        );
        assert_eq!(explanation(" "), "it does not say why");
        assert_eq!(explanation(&"é ".repeat(5_000)).chars().count(), 300);
    }
}
