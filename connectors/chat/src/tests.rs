//! Over real sockets, with every way in which endpoints fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use segue_flow::Remedy;
use segue_flow::clock::WallClock;
use segue_flow::secret::Secret;
use serde_json::{Value, json};

use crate::test_server::{Asked, Say, Server, completion};
use crate::{ChatError, Endpoint, Message, Question, Role, Settings};

/// A clock on which waiting takes no time and moves it on.
#[derive(Default)]
struct Hasty(Mutex<Duration>);

impl WallClock for Hasty {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }
    fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
        std::thread::yield_now();
    }
}

struct Rig {
    server: Server,
    endpoint: Endpoint,
    clock: Arc<Hasty>,
}

fn rig(settings: Settings, say: impl Fn(usize, &Asked) -> Say + Send + Sync + 'static) -> Rig {
    let (server, clock) = (Server::start(say), Arc::new(Hasty::default()));
    let endpoint = Endpoint::new(&server.base, "gpt", &settings, clock.clone()).unwrap();
    Rig {
        server,
        endpoint,
        clock,
    }
}

/// No rate, so that all waiting is for another reason.
fn unlimited() -> Settings {
    Settings {
        requests_per_minute: 0,
        ..Settings::default()
    }
}

fn seven(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

impl Rig {
    fn ask(&self) -> Result<u32, ChatError> {
        self.ask_unless(&|| false)
    }

    fn ask_unless(&self, stop: &dyn Fn() -> bool) -> Result<u32, ChatError> {
        let said = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        let messages = [said(Role::System, "count"), said(Role::User, "how many?")];
        let question = Question {
            messages: &messages,
            shape: ("number", &json!({"type": "integer"})),
            answer_tokens: 10,
        };
        self.endpoint.ask(&question, seven, stop)
    }

    fn waited(&self) -> f64 {
        self.clock.now().as_secs_f64()
    }
}

fn answer() -> Say {
    Say::Answer("7".to_owned())
}

#[test]
fn a_question_goes_out_as_openai_reads_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let settings = Settings {
        key: Some(Secret::File(file.path().to_owned())),
        temperature: Some(0.5),
        input_price: 2.0,
        output_price: 8.0,
        ..unlimited()
    };
    let rig = rig(settings, |_, _| answer());
    assert_eq!(rig.ask().unwrap(), 7);
    let asked = &rig.server.asked()[0];
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.authorization.as_deref(), Some("Bearer hunter2"));
    assert_eq!(asked.question(), "how many?");
    let format = json!({"name": "number", "strict": true, "schema": {"type": "integer"}});
    assert_eq!(
        asked.body,
        json!({
            "model": "gpt", "temperature": 0.5,
            "messages": [{"role": "system", "content": "count"},
                         {"role": "user", "content": "how many?"}],
            "response_format": {"type": "json_schema", "json_schema": format},
        })
    );
    let spent = rig.endpoint.spent();
    assert_eq!((spent.requests, spent.answers), (1, 1));
    assert_eq!((spent.input_tokens, spent.output_tokens), (1_000, 500));
    assert!((spent.cost - 0.006).abs() < 1e-12);
    assert!(!format!("{:?}", rig.endpoint).contains("hunter2"));
}

#[test]
fn busy_servers_and_broken_connections_are_asked_again() {
    let rig = rig(unlimited(), |before, _| match before {
        0 => Say::status(500),
        1 => Say::Cut(20),
        2 => Say::Raw(200, String::new(), "<html>one moment</html>".to_owned()),
        3 => Say::Raw(
            200,
            String::new(),
            completion("7").to_string()[..50].to_owned(),
        ),
        4 => Say::status(429),
        _ => answer(),
    });
    assert_eq!(rig.ask().unwrap(), 7);
    assert_eq!(rig.server.asked().len(), 6);
    // 1 + 2 + 4 + 8 + 16 seconds.
    assert!((rig.waited() - 31.0).abs() < 1e-6, "{}", rig.waited());
    assert_eq!(rig.endpoint.spent().answers, 1);
}

#[test]
fn it_waits_as_long_as_it_is_told_and_so_does_everybody() {
    let rig = rig(unlimited(), |before, _| match before {
        0 => Say::Raw(429, "Retry-After: 33\r\n".to_owned(), "{}".to_owned()),
        _ => answer(),
    });
    assert_eq!(rig.ask().unwrap(), 7);
    assert!((rig.waited() - 33.0).abs() < 1e-6, "{}", rig.waited());
    assert_eq!(rig.ask().unwrap(), 7);
    assert!((rig.waited() - 33.0).abs() < 1e-6, "{}", rig.waited());
}

#[test]
fn what_does_not_answer_is_given_up() {
    let settings = Settings {
        attempts: 3,
        timeout: Duration::from_millis(150),
        ..unlimited()
    };
    let slow = rig(settings.clone(), |_, _| {
        Say::Slow(Duration::from_secs(5), "7".to_owned())
    });
    let down = rig(settings, |_, _| Say::status(503));
    for (rig, word) in [(slow, "timeout"), (down, "status 503 it is")] {
        let error = rig.ask().unwrap_err();
        assert!(
            matches!(error, ChatError::GaveUp { attempts: 3, .. }),
            "{error}"
        );
        assert_eq!(error.remedy(), Remedy::DeadLetter);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(rig.server.asked().len(), 3);
    }
}

#[test]
fn an_answer_of_no_use_is_asked_for_once_more() {
    let once = rig(unlimited(), |before, _| match before {
        0 => Say::Answer("some".to_owned()),
        _ => answer(),
    });
    assert_eq!(once.ask().unwrap(), 7);
    assert_eq!(once.endpoint.spent().answers, 2, "both are paid for");
    let reply = |change: &dyn Fn(&mut Value)| {
        let mut reply = completion("7");
        change(&mut reply);
        Say::Raw(200, String::new(), reply.to_string())
    };
    for (say, word) in [
        (Say::Answer("some".to_owned()), "`some`"),
        (Say::Answer(" ".to_owned()), "empty"),
        (reply(&|r| r["choices"] = json!([])), "no choice"),
        (
            reply(&|r| r["choices"][0]["finish_reason"] = "length".into()),
            "cut off",
        ),
        (
            reply(&|r| r["choices"][0]["message"] = json!({"refusal": "I would rather not"})),
            "rather not",
        ),
    ] {
        let rig = rig(unlimited(), move |_, _| say.clone());
        let error = rig.ask().unwrap_err();
        assert!(matches!(error, ChatError::Unusable(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(rig.server.asked().len(), 2);
        assert_eq!(rig.waited(), 0.0);
    }
}

#[test]
fn who_is_not_let_in_is_told_at_once_without_the_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2").unwrap();
    for (status, remedy) in [
        (401, Remedy::Configure),
        (404, Remedy::Configure),
        (302, Remedy::Configure),
        (400, Remedy::DeadLetter),
    ] {
        let settings = Settings {
            key: Some(Secret::File(file.path().to_owned())),
            ..unlimited()
        };
        let rig = rig(settings, move |_, asked| {
            let header = asked.authorization.clone().unwrap_or_default();
            let body = json!({"error": {"message": format!("not with {header}")}});
            Say::Raw(
                status,
                "Location: http://127.0.0.1:1/\r\n".to_owned(),
                body.to_string(),
            )
        });
        let error = rig.ask().unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains("not with Bearer ***"), "{said}");
        assert!(
            said.contains(&status.to_string()) && !said.contains("hunter2"),
            "{said}"
        );
        assert_eq!(rig.server.asked().len(), 1);
    }
    let settings = Settings {
        key: Some(Secret::Env("SEGUE_NO_SUCH_KEY".to_owned())),
        ..unlimited()
    };
    let rig = rig(settings, |_, _| answer());
    let error = rig.ask().unwrap_err().to_string();
    assert!(error.contains("SEGUE_NO_SUCH_KEY"), "{error}");
    assert!(rig.server.asked().is_empty());
}

#[test]
fn rates_are_kept() {
    let requests = rig(
        Settings {
            requests_per_minute: 20,
            ..Settings::default()
        },
        |_, _| answer(),
    );
    for _ in 0..11 {
        requests.ask().unwrap();
    }
    assert!(
        (29.0..31.0).contains(&requests.waited()),
        "{}",
        requests.waited()
    );
    let tokens = rig(
        Settings {
            tokens_per_minute: 3_000,
            ..unlimited()
        },
        |_, _| answer(),
    );
    for _ in 0..7 {
        tokens.ask().unwrap();
    }
    // The first minute's share is there from the beginning; the other questions take 1,500 each.
    assert!(
        (100.0..160.0).contains(&tokens.waited()),
        "{}",
        tokens.waited()
    );
}

#[test]
fn a_budget_is_not_exceeded_by_many_at_a_time() {
    let priced = Settings {
        input_price: 1_000.0,
        budget: 5.5,
        ..unlimited()
    };
    // An answer costs 1.
    let rig = rig(priced.clone(), |_, _| answer());
    rig.ask().unwrap();
    let ends = std::thread::scope(|scope| {
        let ask = || {
            scope.spawn(|| {
                loop {
                    if let Err(error) = rig.ask() {
                        return error;
                    }
                }
            })
        };
        let threads: Vec<_> = (0..3).map(|_| ask()).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    for error in ends {
        assert!(matches!(error, ChatError::Budget { .. }), "{error}");
        assert_eq!(error.remedy(), Remedy::Configure);
    }
    let spent = rig.endpoint.spent();
    assert_eq!((spent.answers, spent.cost), (5, 5.0), "{spent:?}");
    // Who does not say what it took cannot be held to a budget.
    let silent = self::rig(priced, |_, _| {
        let mut reply = completion("7");
        reply["usage"] = Value::Null;
        Say::Raw(200, String::new(), reply.to_string())
    });
    let error = silent.ask().unwrap_err();
    assert!(matches!(error, ChatError::Uncosted { .. }), "{error}");
}

#[test]
fn whoever_waits_can_be_stopped() {
    let rig = rig(unlimited(), |_, _| {
        Say::Raw(503, "Retry-After: 500\r\n".to_owned(), String::new())
    });
    let stop = AtomicBool::new(false);
    let clock = rig.clock.clone();
    let error = rig.ask_unless(&|| {
        if clock.now() > Duration::from_secs(3) {
            stop.store(true, Ordering::Relaxed);
        }
        stop.load(Ordering::Relaxed)
    });
    assert!(matches!(error, Err(ChatError::Stopped)), "{error:?}");
    assert!(rig.waited() < 4.0, "{}", rig.waited());
}
