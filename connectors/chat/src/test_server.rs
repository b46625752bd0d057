//! A real server on loopback, for tests: answers as told, and fails in every way in which endpoints do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Tokens that the server says a question and its answer took.
pub const TOKENS: (u64, u64) = (1_000, 500);

/// What was asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The body.
    pub body: Value,
}

impl Asked {
    /// The last thing that was said.
    pub fn question(&self) -> &str {
        let messages = self.body["messages"].as_array();
        let last = messages.and_then(|messages| messages.last());
        last.and_then(|last| last["content"].as_str())
            .unwrap_or_default()
    }
}

/// How the server answers.
#[derive(Clone, Debug)]
pub enum Say {
    /// With a chat completion of this text.
    Answer(String),
    /// The same after so long.
    Slow(Duration, String),
    /// With this status, headers (each with its line break) and body.
    Raw(u16, String, String),
    /// With the first bytes of a chat completion, and the end of the connection.
    Cut(usize),
}

impl Say {
    /// With this status and an explanation as OpenAI's.
    pub fn status(status: u16) -> Self {
        let body = json!({"error": {"message": format!("status {status} it is")}});
        Self::Raw(status, String::new(), body.to_string())
    }
}

/// A chat completion.
pub fn completion(text: &str) -> Value {
    json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1},
    })
}

/// The server. Its threads end with the test's process.
pub struct Server {
    /// Its base address.
    pub base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// A server that says what `say` does, which is told how many requests there were before, and this
    /// one.
    pub fn start(say: impl Fn(usize, &Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, say) = (asked.clone(), Arc::new(say));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, say) = (noted.clone(), say.clone());
                std::thread::spawn(move || serve(stream, &noted, &*say));
            }
        });
        Self { base, asked }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, noted: &Mutex<Vec<Asked>>, say: &dyn Fn(usize, &Asked) -> Say) {
    let Some(asked) = read(&stream) else {
        return;
    };
    let before = {
        let mut noted = noted.lock().unwrap();
        noted.push(asked.clone());
        noted.len() - 1
    };
    let (status, headers, body, sent) = match say(before, &asked) {
        Say::Answer(text) => (200, String::new(), completion(&text).to_string(), None),
        Say::Slow(wait, text) => {
            std::thread::sleep(wait);
            (200, String::new(), completion(&text).to_string(), None)
        }
        Say::Raw(status, headers, body) => (status, headers, body, None),
        Say::Cut(bytes) => (200, String::new(), completion("x").to_string(), Some(bytes)),
    };
    let length = body.len();
    // Who has gone does not hear it.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(&body.as_bytes()[..sent.unwrap_or(length)]);
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        path,
        authorization,
        body: serde_json::from_slice(&body).ok()?,
    })
}
