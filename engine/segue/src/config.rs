//! One typed configuration, composed from the rooms' own settings.
//!
//! Order, later ones win: `config/segue.toml` (compiled in) → `--config FILE` → the environment
//! (`SEGUE__SESSIONS__GAP=30m`) → flags. Unknown keys are errors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use segue_flow::LaneId;
use segue_flow::checkpoint::CheckpointSettings;
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_listen::wire::Format;
use segue_listen::{SessionGap, Span};
use segue_recommend::prequential::PrequentialSettings;
use segue_recommend::stage::{StageSettings, Topics};
use segue_replay::settings::{MergeSettings, ReadSettings};
use segue_sessions::SessionSettings;
use serde::{Deserialize, Serialize};

use crate::queues::Queues;
use crate::stuck::Attendance;

/// The shipped file: every key with its default and what it does.
pub const SHIPPED: &str = include_str!("../../../config/segue.toml");

/// What a user may set.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Everything random follows from it.
    pub seed: u64,
    /// How records come in and are judged.
    pub stream: Stream,
    /// The rules of sessions.
    pub sessions: Sessions,
    /// How tracks are recommended and recommendations measured.
    pub recommend: Recommend,
    /// What lies between the threads, and what happens when it is full.
    pub queues: Queues,
    /// How logs are read.
    pub read: ReadSettings,
    /// How logs are brought into one time order.
    pub merge: MergeSettings,
    /// The recall index.
    pub recall: segue_recall::Settings,
    /// Checkpoints of `segue run`.
    pub checkpoint: CheckpointSettings,
    /// The embedded log.
    pub log: segue_log::Settings,
    /// Kafka.
    #[cfg(feature = "kafka")]
    pub kafka: segue_kafka::Settings,
    /// Kafka; this build is without it.
    #[cfg(not(feature = "kafka"))]
    pub kafka: toml::Table,
    /// Device, encoder, item encoder and language model.
    #[cfg(feature = "torch")]
    pub models: crate::models::ModelSettings,
    /// Models; this build is without them.
    #[cfg(not(feature = "torch"))]
    pub models: toml::Table,
    /// How a language model that runs elsewhere is asked.
    pub endpoint: segue_chat::Settings,
    /// Health, readiness and metrics.
    pub http: Http,
}

/// `[stream]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// The topic of listens.
    pub topic: String,
    /// Partitions of a topic that is made here, and lanes of an in-process run. One lane keeps a
    /// replay in one global order.
    pub lanes: u32,
    /// Threads that read lanes; 0: one for each lane. Where there are fewer than lanes, each takes
    /// several in turn, which changes nothing of what they say.
    pub threads: u32,
    /// How records are written: `messagepack` or `json`. Both are read, whichever is set.
    pub format: Format,
    /// How far behind the newest of its lane a listen may come and still be on time.
    #[serde(with = "humantime_serde")]
    pub disorder: Duration,
    /// How much later still it is let in; beyond it goes to the late topic.
    #[serde(with = "humantime_serde")]
    pub lateness: Duration,
    /// The grid of event time on which sessions close.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// Updates that a lane hands over at once.
    pub batch: usize,
    /// How long a lane waits for records before it hands over what it has.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// After so long without a record, by the machine's clock, a lane closes its open sessions; one
    /// that goes on after all is retracted. 0: never.
    #[serde(with = "humantime_serde")]
    pub idle_after: Duration,
    /// How long it may take after SIGINT or SIGTERM until what was read is worked off and committed;
    /// then the program ends with an error, and the next run reads again what was not committed. 0: as
    /// long as it takes.
    #[serde(with = "humantime_serde")]
    pub drain_within: Duration,
}

impl Stream {
    /// How long draining may take; `None`: as long as it takes.
    pub fn drain_within(&self) -> Option<Duration> {
        Some(self.drain_within).filter(|within| !within.is_zero())
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            topic: "listens".to_owned(),
            lanes: 1,
            threads: 0,
            format: Format::MessagePack,
            disorder: Duration::from_secs(60),
            lateness: Duration::from_secs(3_600),
            tick: Duration::from_secs(60),
            batch: 512,
            patience: Duration::from_millis(20),
            idle_after: Duration::ZERO,
            drain_within: Duration::from_secs(30),
        }
    }
}

/// `[sessions]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// The longest pause inside a session; a pause of exactly this is the same session.
    #[serde(with = "humantime_serde")]
    pub gap: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            gap: Duration::from_secs(1_200),
        }
    }
}

/// `[recommend]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recommend {
    /// Plays in an epoch: predictions, learning and publications happen at its end.
    pub epoch: usize,
    /// Take plays in by event time, once nothing earlier can come, and wait at each epoch's end until
    /// every new track has been encoded: predictions are then a function of the plays alone.
    pub exact: bool,
    /// Tracks in a prediction; 0 writes none.
    pub top: usize,
    /// How long the answers of an epoch may take, about, before cheaper recommenders take over; 0: as
    /// long as the best one needs. Without effect where `exact` is set.
    #[serde(with = "humantime_serde")]
    pub answer_within: Duration,
    /// How long the measuring of an epoch may take, about, before only some of its plays are measured;
    /// 0: every play is, however long that takes. Without effect where `exact` is set.
    #[serde(with = "humantime_serde")]
    pub measure_within: Duration,
    /// The share of a log that models are trained on before the evaluation begins, in [0, 1).
    pub train_share: f64,
    /// Plays that `segue run` trains models on, the first ones of the stream; until then nobody is
    /// answered, and from then on the language model answers and learns. 0: no models; counts and
    /// rules answer from the first play on.
    pub train_plays: u64,
    /// The evaluation.
    pub prequential: PrequentialSettings,
    /// Where records go.
    pub topics: Topics,
}

impl Default for Recommend {
    fn default() -> Self {
        Self {
            epoch: 512,
            exact: false,
            top: 10,
            answer_within: Duration::from_millis(500),
            measure_within: Duration::from_millis(500),
            train_share: 0.5,
            train_plays: 0,
            prequential: PrequentialSettings::default(),
            topics: Topics::default(),
        }
    }
}

/// `[http]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where `/health`, `/ready` and `/metrics` are served; empty: nowhere.
    pub listen: Option<SocketAddr>,
    /// After how long without a move, though something waits, a run says that it is stuck; 0: never.
    #[serde(with = "humantime_serde")]
    pub stuck_after: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: None,
            stuck_after: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Composes the configuration.
    ///
    /// # Errors
    /// A file that is not there, an unknown key, a value of the wrong kind: named with its place.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut figment = Figment::from(Toml::string(SHIPPED));
        if let Some(file) = file {
            if !file.is_file() {
                bail!("--config {}: there is no such file", file.display());
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = figment
            .merge(Env::prefixed("SEGUE__").split("__"))
            .extract()
            .map_err(|errors| {
                let all: Vec<_> = errors.into_iter().map(|error| error.to_string()).collect();
                anyhow::anyhow!("{}", all.join("\n"))
            })
            .context("the configuration is not right (`segue config show` prints every key)")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.recommend.train_share) {
            bail!(
                "recommend.train_share = {} is not in [0, 1)",
                self.recommend.train_share
            );
        }
        if self.stream.lanes == 0 || self.recommend.epoch == 0 || self.stream.batch == 0 {
            bail!("stream.lanes, stream.batch and recommend.epoch must be at least 1");
        }
        if self.has_trained_models() && self.recommend.train_plays > 0 {
            bail!(
                "models.trained is set, and recommend.train_plays = {} would train others: set it to 0, or \
                 leave models.trained empty",
                self.recommend.train_plays
            );
        }
        self.queues.check(self.recommend.exact)?;
        self.merge.check()?;
        self.recall.check()?;
        #[cfg(feature = "torch")]
        self.models.check()?;
        self.endpoint.check()?;
        Ok(())
    }

    /// Whether models that were trained before are to answer.
    pub fn has_trained_models(&self) -> bool {
        #[cfg(feature = "torch")]
        let set = !self.models.trained.as_os_str().is_empty();
        #[cfg(not(feature = "torch"))]
        let set = false;
        set
    }

    /// As TOML, with secrets masked.
    ///
    /// # Errors
    /// None in practice; the encoder's own.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// How lanes judge and cut.
    pub fn lane(&self) -> LaneSettings {
        LaneSettings {
            disorder: Span::from(self.stream.disorder),
            lateness: Span::from(self.stream.lateness),
            tick: Span::from(self.stream.tick),
            batch: self.stream.batch,
            patience: self.stream.patience,
            in_order: self.recommend.exact,
            idle_after: Some(self.stream.idle_after).filter(|after| !after.is_zero()),
            at_end: AtEnd::Close,
        }
    }

    /// How a run is seen from outside, with nobody to be told.
    pub fn attendance(&self) -> Attendance {
        Attendance {
            stuck_after: Some(self.http.stuck_after).filter(|after| !after.is_zero()),
            ..Attendance::default()
        }
    }

    /// The rules of sessions.
    pub fn session_rules(&self) -> SessionSettings {
        SessionSettings {
            gap: SessionGap::new(Span::from(self.sessions.gap)),
            lateness: Span::from(self.stream.lateness),
        }
    }

    /// How the recommending stage works, with nothing to train first.
    pub fn stage(&self) -> StageSettings {
        StageSettings {
            epoch: self.recommend.epoch,
            train_plays: 0,
            exact: self.recommend.exact,
            lanes: self.stream.lanes,
            held: (0..self.stream.lanes).map(LaneId).collect(),
            top: self.recommend.top,
            topics: self.recommend.topics.clone(),
            format: self.stream.format,
            prequential: PrequentialSettings {
                seed: self.seed,
                ..self.recommend.prequential
            },
            answer_within: Some(self.recommend.answer_within).filter(|limit| !limit.is_zero()),
            measure_within: Some(self.recommend.measure_within).filter(|limit| !limit.is_zero()),
            unmeasured: Vec::new(),
            compare: Vec::new(),
        }
    }

    /// Where a run leaves its files.
    pub fn out_dir(&self) -> PathBuf {
        self.log
            .dir
            .parent()
            .map_or_else(|| PathBuf::from("out"), Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Config {
        Figment::from(Toml::string(SHIPPED)).extract().unwrap()
    }

    #[test]
    fn the_shipped_file_is_the_default() {
        let default = Config {
            seed: 42,
            ..Config::default()
        }
        .with_models_of(&shipped());
        let (shipped, default) = (shipped().to_toml().unwrap(), default.to_toml().unwrap());
        for (one, other) in shipped.lines().zip(default.lines()) {
            assert_eq!(one, other, "the shipped file, then the default");
        }
    }

    impl Config {
        /// Builds without a room cannot know its defaults: they pass its section through.
        fn with_models_of(self, other: &Config) -> Config {
            let _ = other;
            Config {
                #[cfg(not(feature = "torch"))]
                models: other.models.clone(),
                #[cfg(not(feature = "kafka"))]
                kafka: other.kafka.clone(),
                ..self
            }
        }
    }

    #[test]
    fn every_key_of_the_shipped_file_is_explained() {
        let mut comment = false;
        for (number, line) in SHIPPED.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('#') {
                comment = true;
            } else if line.is_empty() || line.starts_with('[') {
                comment = false;
            } else {
                assert!(
                    comment,
                    "line {}: `{line}` has no comment above it",
                    number + 1
                );
                comment = false;
            }
        }
    }

    #[test]
    fn unknown_keys_wrong_values_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let error = |text: &str| {
            std::fs::write(&file, text).unwrap();
            format!("{:#}", Config::load(Some(&file)).unwrap_err())
        };
        assert!(error("[sessions]\ngapp = \"20m\"").contains("gapp"));
        assert!(error("[sessions]\ngap = 7").contains("gap"));
        assert!(error("[recommend]\ntrain_share = 1.5").contains("train_share = 1.5"));
        assert!(error("[stream]\nlanes = 0").contains("stream.lanes"));
        assert!(error("[queues.vectors]\ncapacity = 0").contains("queues.vectors.capacity"));
        let coalesces = "[queues.lanes]\nwhen_full = \"coalesce\"\n";
        let exact = error(&format!("{coalesces}[recommend]\nexact = true"));
        assert!(exact.contains("queues.lanes.when_full"), "{exact}");
        std::fs::write(&file, coalesces).unwrap();
        let lanes = Config::load(Some(&file)).unwrap().queues.lanes;
        assert_eq!(lanes.capacity, Queues::default().lanes.capacity);
        let missing = folder.path().join("none.toml");
        let error = format!("{:#}", Config::load(Some(&missing)).unwrap_err());
        assert!(
            error.contains("none.toml: there is no such file"),
            "{error}"
        );
    }
}
