//! Where a run begins to read.

use std::str::FromStr;

use segue_listen::EventTime;

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum From {
    /// Where the last run left off, by its checkpoint; at the first record if there was none.
    #[default]
    Stored,
    /// At the first record that is kept.
    Earliest,
    /// At what comes next.
    Latest,
    /// At the first record that its log stamped so or later.
    Time(EventTime),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stored" => Ok(Self::Stored),
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => instant(time).map(Self::Time).ok_or_else(|| {
                "give stored, earliest, latest, or a time such as 2009-01-01 or \
                 2009-01-01T12:00:00Z"
                    .to_owned()
            }),
        }
    }
}

/// An instant, or the beginning of a day in UTC.
fn instant(text: &str) -> Option<EventTime> {
    let whole_day = format!("{text}T00:00:00Z");
    let parsed = segue_replay::iso::parse(text).or_else(|_| segue_replay::iso::parse(&whole_day));
    parsed.ok()
}
