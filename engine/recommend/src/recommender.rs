//! The contract between the stream and anything that can rank tracks.
//!
//! Inside an epoch a recommender's parameters, tables and catalogue do not change: they are swapped
//! at the barrier, by [`Recommender::admit`] and [`Recommender::learn`]. What does change with every
//! play is the listener's own context, and that travels in the [`Ask`].

use segue_flow::{Epoch, Remedy};
use segue_listen::{EventTime, Ratio, TrackId, TrackKey, UserId};
use serde::{Deserialize, Serialize};

/// A context starts anew at every multiple of this many plays of a listener and reaches back one
/// block more: it holds between 50 and 99 plays (fewer for a new listener). So which plays a model
/// reads is a function of the listener's log alone, and a model with a cache can append to it
/// between block boundaries.
pub const CONTEXT_BLOCK: u64 = 50;

/// One play of a context, as it was known when the question was asked.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContextPlay {
    /// Which track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// How much of it was heard. Never known for the newest play: only the next one tells.
    pub ratio: Option<Ratio>,
    /// Whether it opened a session.
    pub opens_session: bool,
}

/// A question: what will this listener play next?
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The listener.
    pub user: UserId,
    /// How many plays the listener has behind them, those outside the context included.
    pub plays: u64,
    /// The newest plays, oldest first; see [`CONTEXT_BLOCK`]. Consecutive asks of one listener in a
    /// batch extend each other except at block boundaries.
    pub context: &'a [ContextPlay],
}

impl<'a> Ask<'a> {
    /// The last `n` plays of the context, oldest first.
    pub fn last(&self, n: usize) -> &'a [ContextPlay] {
        &self.context[self.context.len().saturating_sub(n)..]
    }
}

/// What a track is called, as first written in the log; either may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackNames<'a> {
    /// The artist's name.
    pub artist: &'a str,
    /// The title.
    pub title: &'a str,
}

/// A track that the catalogue has, or has learnt more about.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// Its dense address. Ids come without gaps, in ascending order of first admission.
    pub track: TrackId,
    /// Its identity: what seeds and ties depend on.
    pub key: TrackKey,
    /// What it is called, where that is known; it does not change.
    pub names: Option<TrackNames<'a>>,
    /// Its content vector (unit length, the encoder's dimensions), once it has been encoded.
    pub content: Option<&'a [f32]>,
}

/// One play with the question it answers: what is learnt from after it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// The question.
    pub ask: Ask<'a>,
    /// What was played.
    pub actual: TrackId,
}

/// One recommended track.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Scored {
    /// Which track.
    #[serde(skip)]
    pub track: TrackId,
    /// The model's score; comparable within one ranking only.
    pub score: f32,
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ranking {
    /// Best first.
    pub tracks: Vec<Scored>,
}

/// Which rung of the ladder answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The language model.
    LanguageModel,
    /// The item encoder alone.
    ItemEncoder,
    /// Recall around the session's centroid.
    Recall,
    /// Counts and rules.
    Popularity,
}

/// Why no answer could be given. The ladder falls to the next tier.
#[derive(Debug, thiserror::Error)]
#[error("{recommender}: {detail}")]
pub struct RecommendError {
    /// Which recommender.
    pub recommender: &'static str,
    /// What happened.
    pub detail: String,
    /// What Segue does about it.
    pub remedy: Remedy,
}

/// What one round of learning did.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct LearnReport {
    /// Examples that were learnt from.
    pub examples: u64,
    /// Their mean loss before the step, where the learner has one.
    pub loss: Option<f32>,
}

/// Anything that ranks tracks. One owner, asked in batches.
pub trait Recommender: Send {
    /// Its name in reports and metrics: short, lower case, hyphens (`e4srec-online`).
    fn name(&self) -> &'static str;

    /// Which rung of the ladder it is.
    fn tier(&self) -> Tier;

    /// Takes tracks into its catalogue, or new content of tracks it has. Called at barriers only.
    ///
    /// # Errors
    /// A content vector of the wrong length or with a component that is not finite.
    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError>;

    /// The best `limit` tracks for each ask, appended to `out` in order. History is not masked:
    /// people replay songs.
    ///
    /// # Errors
    /// See [`RecommendError`]; nothing is appended then.
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError>;

    /// Where each actual play stood in the ranking of the whole catalogue, appended to `ranks` in
    /// order: 1 is the top; ties rank conservatively (the number of tracks that score at least as
    /// high); `None` where the recommender cannot score the track at all.
    ///
    /// # Errors
    /// See [`RecommendError`]; nothing is appended then.
    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError>;

    /// Whether [`Recommender::rank_again`] answers from the question's context alone. One that counts what
    /// listeners play cannot: it has come to know the answers of old questions.
    fn ranks_again(&self) -> bool {
        false
    }

    /// As [`Recommender::rank_of`], for questions that were answered before: from their contexts alone,
    /// whatever else is remembered of their listeners, and without this being a test of the answers
    /// that are given now.
    ///
    /// # Errors
    /// See [`RecommendError`]; nothing is appended then.
    fn rank_again(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        self.rank_of(asks, actual, ranks)
    }

    /// The answers of these questions are not learnt from any more: they tell what is forgotten. Told
    /// again after a restart. One that learns from each play once, when it is new, has nothing to do.
    fn hold_out(&mut self, _asks: &[Ask<'_>]) {}

    /// Learns from an epoch's plays, after they were measured and in order of (lane, offset). A
    /// frozen model does nothing here. What was learnt is seen from the next epoch on.
    ///
    /// # Errors
    /// See [`RecommendError`]; the state is then as it was before.
    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError>;

    /// Its whole state at a barrier, for a checkpoint.
    ///
    /// # Errors
    /// One that cannot be kept says so, and a run with checkpoints then does not begin: nothing
    /// would be worse than to go on after a crash with a model that has silently forgotten.
    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        Err(cannot_be_kept(self.name()))
    }

    /// Takes up a state. `tracks` are those that it had been told, in the order of their ids, with
    /// the content that it had been told: content lies once in a checkpoint, not once in every
    /// recommender's part.
    ///
    /// # Errors
    /// A state that cannot be read or does not fit: [`Remedy::Restore`]. One that was made under
    /// other settings or with other weights: [`Remedy::Configure`]. What it is then is left open.
    fn restore(&mut self, _state: &[u8], _tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        Err(cannot_be_kept(self.name()))
    }
}

fn cannot_be_kept(recommender: &'static str) -> RecommendError {
    RecommendError {
        recommender,
        detail: "its state cannot be kept in a checkpoint: run it without checkpoints".to_owned(),
        remedy: Remedy::Configure,
    }
}
