//! How far estimated lengths are from true ones, where events state those. What is stated judges the
//! estimates and does not enter them: they rest on gaps alone.

use segue_listen::{Span, TrackId};
use serde::{Deserialize, Serialize};

/// Lengths that events state, and how often each track was played.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stated {
    /// Milliseconds by dense id, the last that was stated; 0: none.
    lengths: Vec<u32>,
    /// Plays by dense id.
    plays: Vec<u32>,
}

/// Upper bounds of the classes of plays, the last one open.
const CLASSES: [u32; 5] = [5, 10, 20, 50, u32::MAX];

/// Estimates beside stated lengths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurationReport {
    /// Of all tracks whose length is stated.
    pub overall: DurationErrors,
    /// Of those played so often, few to many.
    pub by_plays: Vec<DurationErrors>,
}

/// Errors of estimates, each relative to the stated length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurationErrors {
    /// Plays of each of the tracks, at least.
    pub plays_from: u32,
    /// Plays of each of the tracks, at most; `None`: any number.
    pub plays_to: Option<u32>,
    /// Tracks whose length is stated.
    pub tracks: u64,
    /// Those of them that have an estimate.
    pub estimated: u64,
    /// The median of |estimate − stated| / stated; `None` where nothing is estimated.
    pub median_error: Option<f64>,
    /// Estimates at most 5 % off.
    pub within_5_percent: u64,
    /// Estimates at most 10 % off.
    pub within_10_percent: u64,
}

impl Stated {
    pub(super) fn played(&mut self, track: TrackId, stated: Option<Span>) {
        let row = track.row();
        if row >= self.plays.len() {
            self.plays.resize(row + 1, 0);
            self.lengths.resize(row + 1, 0);
        }
        if let Some(plays) = self.plays.get_mut(row) {
            *plays = plays.saturating_add(1);
        }
        let stated = stated.and_then(|length| u32::try_from(length.millis()).ok());
        if let (Some(millis), Some(length)) = (stated, self.lengths.get_mut(row))
            && millis > 0
        {
            *length = millis;
        }
    }

    /// Estimates beside what is stated; `None` where no event states a length.
    pub(super) fn judge(
        &self,
        estimate: impl Fn(TrackId) -> Option<Span>,
    ) -> Option<DurationReport> {
        let mut tracks: Vec<(u32, Option<f64>)> = Vec::new();
        for ((id, length), plays) in (0..).map(TrackId).zip(&self.lengths).zip(&self.plays) {
            if *length == 0 {
                continue;
            }
            let length = f64::from(*length);
            let error = estimate(id).map(|e| (e.millis() as f64 - length).abs() / length);
            tracks.push((*plays, error));
        }
        if tracks.is_empty() {
            return None;
        }
        let mut from = 1;
        let mut by_plays = Vec::new();
        for to in CLASSES {
            by_plays.push(errors(&tracks, (from, to)));
            from = to.saturating_add(1);
        }
        Some(DurationReport {
            overall: errors(&tracks, (1, u32::MAX)),
            by_plays,
        })
    }
}

fn errors(tracks: &[(u32, Option<f64>)], (from, to): (u32, u32)) -> DurationErrors {
    let class = || {
        tracks
            .iter()
            .filter(|(plays, _)| (from..=to).contains(plays))
    };
    let mut errors: Vec<f64> = class().filter_map(|(_, error)| *error).collect();
    errors.sort_by(f64::total_cmp);
    let within = |share: f64| errors.partition_point(|error| *error <= share) as u64;
    let middle = errors.len() / 2;
    let median = match (errors.len() % 2, errors.get(middle)) {
        (_, None) => None,
        (1, Some(one)) => Some(*one),
        (_, Some(upper)) => errors
            .get(middle - 1)
            .map(|lower| f64::midpoint(*lower, *upper)),
    };
    DurationErrors {
        plays_from: from,
        plays_to: (to < u32::MAX).then_some(to),
        tracks: class().count() as u64,
        estimated: errors.len() as u64,
        median_error: median,
        within_5_percent: within(0.05),
        within_10_percent: within(0.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durations::DurationEstimates;

    /// A track of 200 s that is played so often, with these gaps.
    fn heard(owner: &mut DurationEstimates, track: u32, stated: Option<i64>, gaps: &[i64]) {
        for gap in gaps {
            owner.played(TrackId(track), stated.map(Span::from_seconds));
            owner.note(TrackId(track), Span::from_seconds(*gap));
        }
    }

    #[test]
    fn estimates_are_judged_by_what_is_stated_and_do_not_know_it() {
        let mut owner = DurationEstimates::default();
        heard(&mut owner, 0, Some(200), &[200; 4]);
        heard(&mut owner, 1, Some(200), &[214; 8]);
        heard(&mut owner, 2, Some(200), &[300; 60]);
        heard(&mut owner, 3, Some(200), &[200]);
        heard(&mut owner, 4, None, &[180; 4]);
        owner.publish();
        let report = owner.judge().unwrap();
        let overall = report.overall;
        assert_eq!((overall.tracks, overall.estimated), (4, 3));
        assert!((overall.median_error.unwrap() - 0.07).abs() < 1e-9);
        assert_eq!(
            (overall.within_5_percent, overall.within_10_percent),
            (1, 2)
        );
        let tracks: Vec<_> = report
            .by_plays
            .iter()
            .map(|c| (c.tracks, c.estimated))
            .collect();
        assert_eq!(tracks, [(2, 1), (1, 1), (0, 0), (0, 0), (1, 1)]);
        assert_eq!(report.by_plays[4].median_error, Some(0.5));

        let mut without = DurationEstimates::default();
        heard(&mut without, 1, None, &[214; 8]);
        without.publish();
        assert_eq!(
            without.get(TrackId(1)),
            owner.get(TrackId(1)),
            "nothing leaks"
        );
        assert_eq!(without.judge(), None);
    }
}
