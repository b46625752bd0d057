//! Sessions of 50 plays over a simulated catalogue, and an E4SRec to ask about them.
//!
//! Sessions say how much is computed and not what is liked: tracks are drawn by popularity, their
//! contents are drawn from chance, the model has been trained on a handful of them. What answers cost
//! does not depend on any of it.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Zipf};
use segue_e4srec::settings::E4SRecSettings;
use segue_e4srec::{E4SRec, Foundation};
use segue_listen::{EventTime, Ratio, TrackId, TrackKey, UserId};
use segue_nn::device::{self, DevicePreference};
use segue_nn::tch::Device;
use segue_recommend::recommender::{
    Admitted, Ask, CONTEXT_BLOCK, ContextPlay, Ranking, Recommender,
};
use segue_recommend::training::TrainingLog;

use crate::binary::checkout;

const SEED: u64 = 20_260_511;
/// Plays of a session.
pub const SESSION: usize = 50;
/// Sessions that the model is trained on.
const TAUGHT: usize = 8;
/// Tracks in an answer.
pub const LIMIT: usize = 20;

/// How large it is.
#[derive(Clone, Copy)]
pub struct Size {
    /// Layers of the language model.
    pub depth: usize,
    /// Tracks.
    pub catalogue: u32,
    /// Sessions.
    pub listeners: u32,
    /// Plays that each listener has behind them when their session begins.
    pub behind: usize,
}

/// What is asked about.
pub struct World {
    /// Each listener's plays: those before the session, the session, and one more that answers the last
    /// question.
    pub sessions: Vec<Vec<ContextPlay>>,
    behind: usize,
    keys: Vec<TrackKey>,
    content: Vec<f32>,
    width: usize,
}

impl World {
    pub fn simulate(size: Size, settings: &E4SRecSettings) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let popularity = Zipf::new(f64::from(size.catalogue), 1.0).ok();
        let sessions = (0..size.listeners)
            .map(|_| session(&mut rng, popularity.as_ref(), size.behind))
            .collect();
        let width = settings.tower.content;
        let mut content = Vec::with_capacity(width * size.catalogue as usize);
        for _ in 0..size.catalogue {
            let row: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(width).collect();
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            content.extend(row.iter().map(|x| x / length));
        }
        let keys = (0..size.catalogue)
            .map(|track| TrackKey::from_names("simulated", &track.to_string()))
            .collect();
        Self {
            sessions,
            behind: size.behind,
            keys,
            content,
            width,
        }
    }

    /// How many tracks there are.
    pub fn tracks(&self) -> usize {
        self.keys.len()
    }

    /// All tracks, as a model is told of them.
    fn admitted(&self) -> Vec<Admitted<'_>> {
        let contents = self.content.chunks(self.width);
        let tracks = (0u32..).zip(&self.keys).zip(contents);
        tracks
            .map(|((id, &key), content)| Admitted {
                track: TrackId(id),
                key,
                names: None,
                content: Some(content),
            })
            .collect()
    }

    /// The question after the first `plays` plays of a session. Another `visit` is another listener
    /// with the same taste.
    pub fn ask(&self, listener: usize, visit: usize, plays: usize) -> Ask<'_> {
        let session = self.sessions.get(listener).map_or(&[][..], Vec::as_slice);
        let plays = self.behind + plays;
        let block = CONTEXT_BLOCK as usize;
        let begin = (plays / block * block).saturating_sub(block);
        Ask {
            user: UserId((visit * self.sessions.len() + listener) as u32),
            plays: plays as u64,
            context: session.get(begin..plays).unwrap_or(session),
        }
    }

    /// The track that answers that question.
    pub fn actual(&self, listener: usize, plays: usize) -> TrackId {
        let session = self.sessions.get(listener).map_or(&[][..], Vec::as_slice);
        session
            .get(self.behind + plays)
            .map_or(TrackId(0), |play| play.track)
    }

    /// Asks about the listeners in `listeners` after so many plays, `batch` at a time; how many
    /// answers came.
    pub fn answers(
        &self,
        model: &mut E4SRec,
        asks: &[Ask<'_>],
        batch: usize,
    ) -> anyhow::Result<usize> {
        let mut count = 0;
        let mut answers: Vec<Ranking> = Vec::new();
        for asks in asks.chunks(batch) {
            answers.clear();
            model.recommend(asks, LIMIT, &mut answers)?;
            let full = answers.iter().filter(|answer| answer.tracks.len() == LIMIT);
            count += full.count();
        }
        anyhow::ensure!(
            count == asks.len(),
            "{count} of {} questions answered",
            asks.len()
        );
        Ok(count)
    }
}

fn session(
    rng: &mut ChaCha8Rng,
    popularity: Option<&Zipf<f64>>,
    behind: usize,
) -> Vec<ContextPlay> {
    let plays = 0..=behind + SESSION;
    plays
        .map(|at| ContextPlay {
            track: TrackId(popularity.map_or(1.0, |of| of.sample(rng)) as u32 - 1),
            at: EventTime::from_millis(at as i64 * 200_000),
            ratio: Ratio::new(rng.random()),
            opens_session: at == 0 || at == behind,
        })
        .collect()
}

/// The language model and where it computes.
pub struct Ground {
    pub foundation: Foundation,
    pub settings: E4SRecSettings,
    pub device: Device,
    /// The device, in words.
    pub place: String,
    /// The checkpoint.
    pub weights: PathBuf,
}

impl Ground {
    pub fn lay(size: Size) -> anyhow::Result<Self> {
        let choice = device::choose(DevicePreference::Auto);
        let threads = device::limit_threads(None);
        let mut settings = E4SRecSettings::default();
        settings.backbone.depth = size.depth;
        // Those who have gone stay until they are the ones longest unheard: with room for just those who are
        // there, each newcomer would drive one of them out.
        let listeners = size.listeners as usize;
        settings.cached_listeners = settings.cached_listeners.max(listeners + listeners / 4);
        let models = std::env::var_os("SEGUE_MODELS").map(PathBuf::from);
        let models = models.unwrap_or_else(|| checkout().join(".models"));
        let weights = models.join("smollm2-135m");
        let foundation = Foundation::load(&weights, &settings.backbone, choice.device)
            .context("the language model cannot be loaded; run `make setup`")?;
        let precision = settings.backbone.precision.kind(choice.device);
        Ok(Self {
            foundation,
            settings,
            device: choice.device,
            place: format!("{}, {threads} threads, {precision:?}", choice.reason),
            weights,
        })
    }

    /// A model that has been trained on a few of the sessions and knows the world's tracks.
    pub fn model(&self, world: &World) -> anyhow::Result<E4SRec> {
        let mut log = TrainingLog::default();
        for session in world.sessions.iter().take(TAUGHT) {
            log.push(session.iter().copied());
        }
        let tracks = world.admitted();
        let vectors = HashMap::new();
        let settings = &self.settings;
        let fit = E4SRec::fit(&self.foundation, &log, &tracks, &vectors, settings, &mut ())?;
        let mut model = fit.0.frozen()?;
        model.admit(&tracks)?;
        Ok(model)
    }
}
