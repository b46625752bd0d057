//! The completion ratio: the share of a track that was heard.
//!
//! `c = clamp(time played / duration, 0, 1)` (arXiv 2606.00125, section on completion ratio). Time
//! played is the player's own figure if it gives one, else the start of the next play of the same
//! session minus the start of this one. So the ratio of a play is known only when the next play
//! arrives, and the last play of a session has none: absent, never 0.

use crate::time::{EventTime, Span};

/// A completion ratio: a number in `[0, 1]`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Ratio(f32);

impl Ratio {
    /// The ratio, if `value` is a number; clamped to `[0, 1]`.
    pub fn new(value: f32) -> Option<Self> {
        (!value.is_nan()).then(|| Self(value.clamp(0.0, 1.0)))
    }

    /// The number, in `[0, 1]`.
    pub const fn value(self) -> f32 {
        self.0
    }
}

/// What is known of one play when its ratio is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// When the play started.
    pub at: EventTime,
    /// When the next play *of the same session* started; `None` if there is none.
    pub next: Option<EventTime>,
    /// How long the track was played, where the player says so.
    pub played: Option<Span>,
    /// How long the track is.
    pub duration: Option<Span>,
}

/// The completion ratio of one play; `None` where the duration is unknown or not positive, or where
/// neither the player nor a next play says how long it was heard.
///
/// ```
/// use segue_listen::{EventTime, Span, completion::{Heard, ratio}};
/// let heard = Heard {
///     at: EventTime::from_millis(0),
///     next: Some(EventTime::from_millis(60_000)),
///     played: None,
///     duration: Some(Span::from_seconds(240)),
/// };
/// assert_eq!(ratio(heard).map(|r| r.value()), Some(0.25));
/// ```
pub fn ratio(heard: Heard) -> Option<Ratio> {
    let duration = heard.duration.filter(|duration| *duration > Span::ZERO)?;
    let played = match heard.played {
        Some(played) => played,
        None => heard.next?.since(heard.at),
    };
    Ratio::new((played.millis().max(0) as f64 / duration.millis() as f64) as f32)
}

/// How much of a play was heard, where its track's length may not be known (yet).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Part {
    /// This share of it.
    Ratio(Ratio),
    /// So long: the share follows from a length that somebody estimates.
    Span(Span),
}

impl Part {
    /// What it means to have heard so much of a track of this length.
    pub fn of(heard: Span, duration: Option<Span>) -> Self {
        let known = Heard {
            played: Some(heard),
            duration,
            ..Heard::default()
        };
        ratio(known).map_or(Self::Span(heard), Self::Ratio)
    }

    /// The ratio, with an estimated length where none was stated.
    pub fn ratio(self, estimate: Option<Span>) -> Option<Ratio> {
        match self {
            Self::Ratio(ratio) => Some(ratio),
            Self::Span(played) => match Self::of(played, estimate) {
                Self::Ratio(ratio) => Some(ratio),
                Self::Span(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_waits_for_a_length() {
        let minute = Span::from_seconds(60);
        let value = |part: Part, length: Option<Span>| part.ratio(length).map(Ratio::value);
        let stated = Part::of(minute, Some(Span::from_seconds(240)));
        assert_eq!(value(stated, None), Some(0.25));
        assert_eq!(value(stated, Some(minute)), Some(0.25), "stated stands");
        let open = Part::of(minute, None);
        assert_eq!(open, Part::Span(minute));
        assert_eq!(value(open, None), None);
        assert_eq!(value(open, Some(Span::from_seconds(120))), Some(0.5));
        assert_eq!(value(open, Some(Span::ZERO)), None);
    }

    fn heard(next: Option<i64>, played: Option<i64>, duration: Option<i64>) -> Heard {
        Heard {
            at: EventTime::from_millis(1_000),
            next: next.map(EventTime::from_millis),
            played: played.map(Span::from_millis),
            duration: duration.map(Span::from_millis),
        }
    }

    fn value(heard: Heard) -> Option<f32> {
        ratio(heard).map(Ratio::value)
    }

    #[test]
    fn the_table() {
        assert_eq!(value(heard(Some(2_000), None, Some(4_000))), Some(0.25));
        assert_eq!(
            value(heard(Some(9_000), None, Some(4_000))),
            Some(1.0),
            "clamped"
        );
        assert_eq!(
            value(heard(Some(500), None, Some(4_000))),
            Some(0.0),
            "clocks that step back"
        );
        assert_eq!(
            value(heard(Some(9_000), Some(1_000), Some(4_000))),
            Some(0.25),
            "player's word"
        );
        assert_eq!(
            value(heard(None, None, Some(4_000))),
            None,
            "last of a session"
        );
        assert_eq!(value(heard(None, Some(4_000), Some(4_000))), Some(1.0));
        assert_eq!(
            value(heard(Some(2_000), None, None)),
            None,
            "unknown length"
        );
        assert_eq!(value(heard(Some(2_000), None, Some(0))), None);
        assert_eq!(value(heard(Some(2_000), None, Some(-5))), None);
        assert!(Ratio::new(f32::NAN).is_none());
    }

    proptest! {
        #[test]
        fn in_the_unit_interval_or_absent(
            at in any::<i64>(), next in any::<Option<i64>>(),
            played in any::<Option<i64>>(), duration in any::<Option<i64>>(),
        ) {
            let given = Heard {
                at: EventTime::from_millis(at),
                next: next.map(EventTime::from_millis),
                played: played.map(Span::from_millis),
                duration: duration.map(Span::from_millis),
            };
            match ratio(given) {
                Some(ratio) => prop_assert!((0.0..=1.0).contains(&ratio.value())),
                None => prop_assert!(
                    duration.is_none_or(|d| d <= 0) || (next.is_none() && played.is_none())
                ),
            }
        }

        /// Without a next play and without the player's word there is nothing to know yet: a ratio
        /// then could only have come from the future.
        #[test]
        fn never_from_the_future(at in any::<i64>(), duration in any::<i64>()) {
            let given = Heard {
                at: EventTime::from_millis(at),
                next: None,
                played: None,
                duration: Some(Span::from_millis(duration)),
            };
            prop_assert!(ratio(given).is_none());
        }
    }
}
