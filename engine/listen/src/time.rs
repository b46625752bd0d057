//! Event time: when the player says something happened. Never the machine's clock.

use std::fmt;

/// An instant in event time: milliseconds since 1970-01-01T00:00Z, as the player reported it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EventTime(i64);

/// A length of event time in milliseconds. May be negative as a difference.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(i64);

/// A time stamp outside what a listening log can mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImplausibleTime {
    /// What the record said, in milliseconds since 1970.
    pub millis: i64,
}

impl fmt::Display for ImplausibleTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.millis < 0 {
            "before 1970"
        } else {
            "not before 2100"
        };
        write!(f, "time stamp {} ms is {side}", self.millis)
    }
}

impl std::error::Error for ImplausibleTime {}

/// 2100-01-01T00:00Z. A player with such a clock would drag the lane's watermark decades ahead and
/// make every honest listen after it late, so it is refused at the door.
const END_OF_PLAUSIBLE_TIME: i64 = 4_102_444_800_000;

impl EventTime {
    /// The instant `millis` ms after 1970-01-01T00:00Z, unchecked: for values already judged.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The instant, if it lies in `[1970, 2100)`; players with broken clocks send the rest.
    pub const fn plausible(millis: i64) -> Result<Self, ImplausibleTime> {
        if millis < 0 || millis >= END_OF_PLAUSIBLE_TIME {
            Err(ImplausibleTime { millis })
        } else {
            Ok(Self(millis))
        }
    }

    /// Milliseconds since 1970-01-01T00:00Z.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// `self - earlier`; negative if `earlier` is in fact later. Saturates.
    pub const fn since(self, earlier: EventTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// `self + span`. Saturates.
    pub const fn plus(self, span: Span) -> EventTime {
        Self(self.0.saturating_add(span.0))
    }

    /// `self - span`. Saturates.
    pub const fn minus(self, span: Span) -> EventTime {
        Self(self.0.saturating_sub(span.0))
    }

    /// The instant as RFC 3339 in UTC, for people.
    #[cfg(feature = "chrono")]
    pub fn to_rfc3339(self) -> String {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(at) => at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
            None => format!("{} ms", self.0),
        }
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// A span of `seconds` seconds. Saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// A span of `minutes` minutes. Saturates.
    pub const fn from_minutes(minutes: i64) -> Self {
        Self(minutes.saturating_mul(60_000))
    }

    /// Milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds, as a fraction.
    pub const fn seconds(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// The sum. Saturates.
    pub const fn plus(self, other: Span) -> Span {
        Self(self.0.saturating_add(other.0))
    }
}

impl From<std::time::Duration> for Span {
    fn from(duration: std::time::Duration) -> Self {
        Self(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_clocks_are_refused_and_named() {
        assert!(EventTime::plausible(0).is_ok());
        assert!(EventTime::plausible(END_OF_PLAUSIBLE_TIME - 1).is_ok());
        let early = EventTime::plausible(-1).unwrap_err().to_string();
        assert!(early.contains("-1 ms is before 1970"), "{early}");
        let late = EventTime::plausible(END_OF_PLAUSIBLE_TIME)
            .unwrap_err()
            .to_string();
        assert!(late.contains("not before 2100"), "{late}");
    }

    #[test]
    fn arithmetic_saturates() {
        let end = EventTime::from_millis(i64::MAX);
        assert_eq!(end.plus(Span::from_minutes(i64::MAX)), end);
        assert_eq!(
            EventTime::from_millis(i64::MIN).since(end).millis(),
            i64::MIN
        );
    }
}
