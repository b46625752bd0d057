//! What a sequence model reads of a context, and which questions share one reading.
//!
//! A window begins `lookback` plays before the last multiple of [`CONTEXT_BLOCK`] plays of the
//! listener and grows by one with every play, up to `lookback + CONTEXT_BLOCK - 1`. Between block
//! boundaries each question's window extends the one before: a causal model answers all of them in
//! one pass, and a cache is appended to. What is read follows from the listener's log alone.
//!
//! A token carries the ratio of the play *before* its own. A play's ratio is known only once the
//! next one has come, so this is the earliest token that can have it without knowing the future,
//! and a token, once written, stays as it is.

use std::collections::HashMap;
use std::ops::Range;

use segue_listen::{Ratio, TrackId, UserId};
use segue_recommend::recommender::CONTEXT_BLOCK;
use segue_recommend::{Ask, ContextPlay};
use serde::{Deserialize, Serialize};

/// [`CONTEXT_BLOCK`] as a length.
pub(crate) const BLOCK: usize = CONTEXT_BLOCK as usize;

/// One play as a model reads it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    pub track: TrackId,
    /// How much was heard of the play before.
    pub ratio_before: Option<Ratio>,
    pub opens_session: bool,
}

/// The tokens of `plays[range]`.
pub(crate) fn tokens(
    plays: &[ContextPlay],
    range: Range<usize>,
) -> impl ExactSizeIterator<Item = Token> + '_ {
    let begin = range.start;
    let slice = plays.get(range).unwrap_or(&[]);
    slice.iter().enumerate().map(move |(at, play)| Token {
        track: play.track,
        ratio_before: (begin + at)
            .checked_sub(1)
            .and_then(|before| plays.get(before))
            .and_then(|before| before.ratio),
        opens_session: play.opens_session,
    })
}

/// Where in the listener's log the window of a question begins that has `plays` plays behind it.
pub(crate) fn window_begin(plays: u64, lookback: usize) -> u64 {
    (plays / CONTEXT_BLOCK * CONTEXT_BLOCK).saturating_sub(lookback as u64)
}

/// Questions of one listener that one reading answers.
#[derive(Debug)]
pub(crate) struct Run {
    pub user: UserId,
    /// Where in the listener's log the window begins.
    pub begin: u64,
    pub tokens: Vec<Token>,
    /// Which question, and how many tokens it has read.
    pub reads: Vec<(usize, usize)>,
}

/// Groups questions; each is in exactly one run.
pub(crate) fn runs(asks: &[Ask<'_>], lookback: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut newest: HashMap<(UserId, u64), usize> = HashMap::new();
    for (index, ask) in asks.iter().enumerate() {
        let begin = window_begin(ask.plays, lookback);
        let first = ask.plays.saturating_sub(ask.context.len() as u64);
        let skip = usize::try_from(begin.saturating_sub(first)).unwrap_or(usize::MAX);
        // A context that is longer than its number of plays allows is cut to its newest part.
        let least = ask.context.len().saturating_sub(lookback + BLOCK - 1);
        let from = skip.clamp(least, ask.context.len().max(least));
        let read: Vec<Token> = tokens(ask.context, from..ask.context.len()).collect();
        let shared = newest
            .get(&(ask.user, begin))
            .and_then(|&at| Some((at, runs.get_mut(at)?)))
            .filter(|(_, run)| {
                let common = run.tokens.len().min(read.len());
                run.tokens.get(..common) == read.get(..common)
            });
        match shared {
            Some((_, run)) => {
                run.reads.push((index, read.len()));
                if read.len() > run.tokens.len() {
                    run.tokens = read;
                }
            }
            None => {
                newest.insert((ask.user, begin), runs.len());
                runs.push(Run {
                    user: ask.user,
                    begin,
                    reads: vec![(index, read.len())],
                    tokens: read,
                });
            }
        }
    }
    runs
}

/// The windows that cover a log of `length` plays for training: what an ask in the middle of the
/// stream would read, with every play of the block as a target.
pub(crate) fn covering(length: usize, lookback: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(BLOCK)
        .map(move |block| block.saturating_sub(lookback)..(block + BLOCK).min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_listen::EventTime;

    fn log(length: usize) -> Vec<ContextPlay> {
        (0..length)
            .map(|at| ContextPlay {
                track: TrackId(at as u32),
                at: EventTime::from_millis(at as i64),
                ratio: Ratio::new(at as f32 / 1000.0),
                opens_session: at % 7 == 0,
            })
            .collect()
    }

    fn ask(log: &[ContextPlay], plays: usize) -> Ask<'_> {
        let begin = (plays / BLOCK * BLOCK).saturating_sub(BLOCK);
        Ask {
            user: UserId(1),
            plays: plays as u64,
            context: &log[begin..plays],
        }
    }

    #[test]
    fn questions_between_boundaries_share_one_reading() {
        let log = log(130);
        let asks: Vec<Ask<'_>> = (95..110).map(|plays| ask(&log, plays)).collect();
        let runs = runs(&asks, 10);
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].begin, runs[0].tokens.len()), (40, 59));
        assert_eq!((runs[1].begin, runs[1].tokens.len()), (90, 19));
        assert_eq!(runs[0].reads, [(0, 55), (1, 56), (2, 57), (3, 58), (4, 59)]);
        assert_eq!(runs[1].tokens[0].track, TrackId(90));
        assert_eq!(runs[1].tokens[0].ratio_before, Ratio::new(0.089));
    }

    #[test]
    fn another_past_is_another_run() {
        let log = log(30);
        let mut other = log.clone();
        other[3].track = TrackId(99);
        let runs = runs(&[ask(&log, 20), ask(&other, 21), ask(&other, 10)], 10);
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[1].reads, [(1, 21), (2, 10)]);
    }

    #[test]
    fn a_context_that_contradicts_its_count_is_cut() {
        let log = log(500);
        let hostile = Ask {
            user: UserId(1),
            plays: 3,
            context: &log,
        };
        let runs = runs(&[hostile], 10);
        assert_eq!(runs[0].tokens.len(), 59);
        assert_eq!(runs[0].tokens[58].track, TrackId(499));
    }

    #[test]
    fn training_covers_every_play() {
        let windows: Vec<Range<usize>> = covering(120, 10).collect();
        assert_eq!(windows, [0..50, 40..100, 90..120]);
        assert_eq!(covering(0, 10).count(), 0);
    }
}

#[cfg(test)]
pub(crate) mod tests_support {
    //! Logs and questions for the tests of the models.

    use segue_listen::{EventTime, TrackId, UserId};
    use segue_recommend::{Ask, ContextPlay};

    use super::BLOCK;

    /// Plays of these tracks, three minutes apart.
    pub fn plays_of(tracks: impl Iterator<Item = u32>) -> Vec<ContextPlay> {
        tracks
            .enumerate()
            .map(|(at, track)| ContextPlay {
                track: TrackId(track),
                at: EventTime::from_millis(at as i64 * 180_000),
                ratio: None,
                opens_session: at % 10 == 0,
            })
            .collect()
    }

    /// The question that `plays[read]` answers.
    pub fn ask_of(plays: &[ContextPlay], read: usize) -> Ask<'_> {
        let begin = (read / BLOCK * BLOCK).saturating_sub(BLOCK);
        Ask {
            user: UserId(1),
            plays: read as u64,
            context: &plays[begin..read],
        }
    }
}
