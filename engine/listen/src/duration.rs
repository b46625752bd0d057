//! A track's length, estimated from the pauses between plays, for logs that state no lengths.
//!
//! A play that is heard out is followed by the next one after the track's length, so the gaps after
//! a track pile up there; skips scatter below it, pauses above. The estimate is the centre of the
//! densest cluster of gaps, the upper one of equals.

use crate::time::Span;

/// How many recent gaps a track remembers.
pub const GAPS_KEPT: usize = 16;

/// Gaps outside these bounds say nothing about a track's length: shorter ones are skips, longer
/// ones are pauses.
const SHORTEST: Span = Span::from_seconds(30);
const LONGEST: Span = Span::from_minutes(20);

/// Scrobblers round to seconds and crossfades differ: gaps this near are one cluster.
const CLUSTER_WIDTH_SECONDS: u16 = 4;

/// Fewer agreeing gaps than this are chance.
const LEAST_SUPPORT: u32 = 3;

/// The recent gaps after one track: 36 bytes.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapSketch {
    /// Seconds, in order of arrival from `next` on.
    gaps: [u16; GAPS_KEPT],
    next: u8,
    kept: u8,
}

/// A length and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EstimatedDuration {
    /// The estimate.
    pub duration: Span,
    /// The share of the remembered gaps that agree with it, in (0, 1].
    pub confidence: f32,
    /// How many gaps agree with it.
    pub support: u32,
}

impl GapSketch {
    /// Notes that the next play of the session began `gap` after this one. Gaps that cannot be a
    /// track's length are passed over.
    pub fn note(&mut self, gap: Span) {
        if !(SHORTEST..=LONGEST).contains(&gap) {
            return;
        }
        let Ok(seconds) = u16::try_from((gap.millis() + 500) / 1_000) else {
            return;
        };
        let index = self.next as usize % GAPS_KEPT;
        self.gaps[index] = seconds;
        self.next = ((index + 1) % GAPS_KEPT) as u8;
        self.kept = (self.kept + 1).min(GAPS_KEPT as u8);
    }

    /// The estimate; `None` while too few gaps agree.
    pub fn estimate(&self) -> Option<EstimatedDuration> {
        let mut gaps = self.gaps;
        let gaps = gaps.get_mut(..self.kept as usize)?;
        gaps.sort_unstable();
        let mut best: Option<(usize, usize)> = None;
        for (end, &longest) in gaps.iter().enumerate() {
            let begin = gaps.partition_point(|g| g.saturating_add(CLUSTER_WIDTH_SECONDS) < longest);
            if best.is_none_or(|(b, e)| end + 1 - begin >= e - b) {
                best = Some((begin, end + 1));
            }
        }
        let (begin, end) = best?;
        let support = (end - begin) as u32;
        if support < LEAST_SUPPORT {
            return None;
        }
        let median = gaps.get((begin + end - 1) / 2)?;
        Some(EstimatedDuration {
            duration: Span::from_seconds(i64::from(*median)),
            confidence: support as f32 / gaps.len() as f32,
            support,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(seconds: &[i64]) -> GapSketch {
        let mut sketch = GapSketch::default();
        for s in seconds {
            sketch.note(Span::from_seconds(*s));
        }
        sketch
    }

    #[test]
    fn the_cluster_wins_over_skips_and_pauses() {
        let found = sketch(&[45, 211, 600, 212, 90, 210, 213, 33])
            .estimate()
            .unwrap();
        assert_eq!(found.support, 4);
        assert!(
            (210..=213).contains(&(found.duration.millis() / 1_000)),
            "{found:?}"
        );
        assert_eq!(found.confidence, 0.5);
    }

    #[test]
    fn of_equal_clusters_the_upper_one() {
        let found = sketch(&[60, 60, 60, 240, 240, 240]).estimate().unwrap();
        assert_eq!(found.duration, Span::from_seconds(240));
    }

    #[test]
    fn too_few_agreeing_gaps_are_no_estimate() {
        assert_eq!(sketch(&[100, 200, 300, 400]).estimate(), None);
        assert_eq!(sketch(&[]).estimate(), None);
        assert_eq!(
            sketch(&[5, 5, 5, 5, 5, 2_000, 2_000, 2_000]).estimate(),
            None,
            "out of bounds"
        );
    }

    #[test]
    fn old_gaps_give_way() {
        let mut sketch = sketch(&[100; GAPS_KEPT]);
        for _ in 0..GAPS_KEPT {
            sketch.note(Span::from_seconds(300));
        }
        assert_eq!(sketch.estimate().unwrap().duration, Span::from_seconds(300));
    }
}
