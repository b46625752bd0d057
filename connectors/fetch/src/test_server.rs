//! A real HTTP server on loopback, for tests: files with ranges, redirections, and every way in which
//! servers fail.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use segue_flow::clock::WallClock;
use ureq::tls::RootCerts;

use crate::client::Client;

/// A clock whose pauses take no time.
struct Hasty;

impl WallClock for Hasty {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) {}
}

/// A client that goes straight to loopback and does not pause.
pub(crate) fn client() -> Client {
    Client::new(None, RootCerts::WebPki, Arc::new(Hasty))
}

/// How the server answers one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The content as asked, with ranges.
    Well,
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// The whole, whatever range was asked for.
    Whole,
    Status(u16),
    /// Another range than the one that was asked for.
    Misplaced,
    /// On to another address.
    Moved(String),
    /// It says that so many bytes follow.
    Claims(u64),
}

/// One path of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub content: Vec<u8>,
    /// Headers of each answer.
    pub headers: Vec<(&'static str, String)>,
    /// The answers in order; when they are used up, [`Answer::Well`].
    pub answers: Vec<Answer>,
    /// What the request's `Authorization` has to be; with another the answer is 401.
    pub authorization: Option<String>,
}

impl Route {
    pub fn of(content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    pub fn answering(mut self, answers: Vec<Answer>) -> Self {
        self.answers = answers;
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// The server. Its thread ends with the test's process.
pub(crate) struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    routes: Arc<Mutex<HashMap<String, Route>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let routes = Arc::new(Mutex::new(HashMap::new()));
        let (noted, known) = (asked.clone(), routes.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &noted, &known);
            }
        });
        Self {
            address,
            asked,
            routes,
        }
    }

    pub fn route(&self, path: &str, route: Route) -> String {
        self.routes.lock().unwrap().insert(path.to_owned(), route);
        format!("{}{path}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The `Range` of each request so far.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.asked().into_iter().map(|asked| asked.range).collect()
    }
}

fn serve(mut stream: TcpStream, noted: &Mutex<Vec<Asked>>, routes: &Mutex<HashMap<String, Route>>) {
    let Some(asked) = read(&stream) else {
        return;
    };
    noted.lock().unwrap().push(asked.clone());
    let mut routes = routes.lock().unwrap();
    let (route, answer) = match routes.get_mut(&asked.path) {
        None => (Route::default(), Answer::Status(404)),
        Some(route)
            if route.authorization.is_some() && route.authorization != asked.authorization =>
        {
            (route.clone(), Answer::Status(401))
        }
        Some(route) => {
            let answer = match route.answers.is_empty() {
                true => Answer::Well,
                false => route.answers.remove(0),
            };
            (route.clone(), answer)
        }
    };
    drop(routes);
    let content = &route.content;
    let asked_from = asked.range.as_deref().and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let from: usize = match answer {
        Answer::Whole => 0,
        _ => asked_from.unwrap_or(0),
    };
    let total = content.len();
    let head = match &answer {
        Answer::Status(status) => format!("{status} X"),
        Answer::Misplaced => "206 X\r\nContent-Range: bytes 7-8/9".to_owned(),
        Answer::Moved(to) => format!("302 X\r\nLocation: {to}"),
        _ if from >= total && total > 0 => "416 X".to_owned(),
        _ if from > 0 => format!("206 X\r\nContent-Range: bytes {from}-{}/{total}", total - 1),
        _ => "200 X".to_owned(),
    };
    let body: &[u8] = match head.starts_with('2') {
        true => &content[from..],
        false => b"",
    };
    let length = match answer {
        Answer::Claims(bytes) => bytes,
        _ => body.len() as u64,
    };
    let extra: String = route
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let _ = write!(
        stream,
        "HTTP/1.1 {head}\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let sent = match answer {
        _ if asked.method == "HEAD" => b"",
        Answer::Cut(bytes) => &body[..bytes.min(body.len())],
        _ => body,
    };
    let _ = stream.write_all(sent);
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        range: None,
        authorization: None,
    };
    while let Some(Ok(line)) = lines.next() {
        match line.split_once(": ") {
            None => break,
            Some((name, value)) => match name.to_ascii_lowercase().as_str() {
                "range" => asked.range = Some(value.to_owned()),
                "authorization" => asked.authorization = Some(value.to_owned()),
                _ => {}
            },
        }
    }
    Some(asked)
}
