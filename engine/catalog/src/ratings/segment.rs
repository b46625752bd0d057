//! A track's ratings as a part of its content vector.

use super::MOST;
use super::schema::COUNT;

/// The middle of the scale, which is 0 here: it lies as far from the least rating as from the most.
const MIDDLE: f32 = MOST / 2.0;

/// Ratings from 0 to 5, in the order of the schema, as numbers from −1 to 1: `(rating − 2.5) / 2.5`. What is
/// no number is not rated and becomes 0, which draws a track neither way.
///
/// The middle is that of the scale and not a mean of tracks: a track's numbers are the same whatever others
/// there are, so a file that grows changes nobody's vector.
///
/// `None` where nothing is left but zeros: such ratings say nothing.
pub fn segment(ratings: &[f32; COUNT]) -> Option<[f32; COUNT]> {
    let centred = ratings.map(|rating| match rating.is_finite() {
        true => (rating - MIDDLE) / MIDDLE,
        false => 0.0,
    });
    centred.iter().any(|value| *value != 0.0).then_some(centred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_goes_from_minus_one_to_one_and_what_is_not_rated_lies_between() {
        let mut ratings = [f32::NAN; COUNT];
        for (place, rating) in [(0, 0.0), (1, 2.5), (2, 5.0), (3, 4.0)] {
            ratings[place] = rating;
        }
        let segment = segment(&ratings).unwrap();
        assert_eq!(segment[..4], [-1.0, 0.0, 1.0, 0.6]);
        assert!(segment[4..].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn ratings_that_say_nothing_are_none() {
        assert_eq!(segment(&[f32::NAN; COUNT]), None);
        assert_eq!(segment(&[MIDDLE; COUNT]), None);
    }
}
