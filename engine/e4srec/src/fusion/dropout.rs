//! Steps of training that go without some modalities of a track, so that a missing one is nothing new.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;

/// Which modalities of which track a step goes without: a function of the step's own number and the
/// track's key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModalityDropout {
    /// In `[0, 1)`.
    pub share: f64,
    /// The step's own number, drawn by whoever takes it.
    pub step: u64,
}

impl ModalityDropout {
    /// Appends for each modality of a track, of which those are there that are 1 in `present`, 1 where it
    /// stays and else 0. One of those that are there always stays.
    pub fn keep(&self, key: TrackKey, present: &[f32], out: &mut Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(key.digest() ^ self.step);
        let mut last: Option<(f64, usize)> = None;
        let (begin, mut stays) = (out.len(), false);
        for (at, &there) in present.iter().enumerate() {
            let drawn: f64 = rng.random();
            let there = there > 0.5;
            let kept = there && drawn >= self.share;
            stays |= kept;
            if there && last.is_none_or(|(most, _)| drawn > most) {
                last = Some((drawn, at));
            }
            out.push(f32::from(u8::from(kept)));
        }
        if let Some((_, at)) = last.filter(|_| !stays)
            && let Some(kept) = out.get_mut(begin + at)
        {
            *kept = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(step: u64, track: u128, present: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        let dropout = ModalityDropout { share: 0.4, step };
        dropout.keep(TrackKey(track), present, &mut out);
        out
    }

    #[test]
    fn each_goes_as_often_as_it_is_to_and_never_all() {
        let present = [1.0, 0.0, 1.0, 1.0];
        let mut counts = [0f64; 4];
        for track in 0..10_000 {
            let kept = kept(7, track, &present);
            assert!(kept.contains(&1.0), "{track}");
            assert_eq!(kept[1], 0.0, "what is not there does not come");
            let sums = counts.iter_mut().zip(&kept);
            sums.for_each(|(count, &kept)| *count += f64::from(kept));
        }
        // Where all three would go, one of them stays.
        let expected = 0.6 + 0.4f64.powi(3) / 3.0;
        for at in [0, 2, 3] {
            assert!((counts[at] / 1e4 - expected).abs() < 0.02, "{counts:?}");
        }
        assert_eq!(kept(7, 1, &[0.0; 4]), [0.0; 4]);
        assert_eq!(kept(7, 1, &[0.0, 1.0]), [0.0, 1.0]);
    }

    #[test]
    fn the_step_and_the_track_decide_and_nothing_else() {
        let present = [1.0; 8];
        let drawn =
            |step| -> Vec<Vec<f32>> { (0..50).map(|track| kept(step, track, &present)).collect() };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        let tracks = drawn(3);
        assert!(tracks.iter().any(|kept| *kept != tracks[0]));
    }
}
