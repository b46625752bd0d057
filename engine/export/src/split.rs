//! Training, validation and test, by time: no play to train on is younger than one to be judged by.
//!
//! Where the two later ones begin follows from shares of the log's listens as they are read, in order
//! of time and with duplicates, by whoever reads them; a split begins at an instant, so plays of one
//! instant are never apart.

use std::sync::atomic::{AtomicI64, Ordering};

use segue_listen::EventTime;

use crate::error::ExportError;

/// What a play is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To judge by.
    Test,
}

impl Split {
    /// All, in the order of time.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// As Hugging Face calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// A bit of its own.
    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Shares of the log's listens, the newest ones.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shares {
    /// For validation.
    pub validation: f64,
    /// For test.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            validation: 0.1,
            test: 0.1,
        }
    }
}

/// No instant is later.
const NEVER: i64 = i64::MAX;

/// The instants at which validation and test begin, as far as the reading has come. They are found by
/// whoever reads the log and asked for by whoever writes it, who is always behind.
#[derive(Debug)]
pub struct Boundaries {
    listens: u64,
    /// Numbers of the listens that begin them.
    numbers: [u64; 2],
    instants: [AtomicI64; 2],
}

impl Boundaries {
    /// Of a log of so many listens.
    ///
    /// # Errors
    /// Shares that make no split.
    pub fn new(shares: Shares, listens: u64) -> Result<Self, ExportError> {
        let Shares { validation, test } = shares;
        let good = validation >= 0.0 && test >= 0.0 && validation + test < 1.0;
        if !good {
            return Err(ExportError::Shares { validation, test });
        }
        // What is left of the log from there on.
        let number = |left: f64| listens - ((listens as f64 * left).round() as u64).min(listens);
        Ok(Self {
            listens,
            numbers: [number(validation + test), number(test)],
            instants: [AtomicI64::new(NEVER), AtomicI64::new(NEVER)],
        })
    }

    /// Whether a split has a share of the log at all.
    pub fn has(&self, split: Split) -> bool {
        let [validation, test] = self.numbers;
        match split {
            Split::Train => true,
            Split::Validation => validation < test,
            Split::Test => test < self.listens,
        }
    }

    /// The listen with this number, from 0, in the order of time, is of this instant.
    pub fn read(&self, number: u64, at: EventTime) {
        for (begins, instant) in self.numbers.iter().zip(&self.instants) {
            if *begins == number {
                instant.store(at.millis(), Ordering::Release);
            }
        }
    }

    /// What a play of this instant is for, once everything up to it has been read.
    pub fn split(&self, at: EventTime) -> Split {
        let [validation, test] = self.instants();
        match at.millis() {
            at if at >= test => Split::Test,
            at if at >= validation => Split::Validation,
            _ => Split::Train,
        }
    }

    /// When a split begins and when the next one does; `None`: at the log's own ends.
    pub fn of(&self, split: Split) -> (Option<EventTime>, Option<EventTime>) {
        let [validation, test] = self.instants();
        let at = |millis: i64| (millis != NEVER).then(|| EventTime::from_millis(millis));
        let validation = at(validation.min(test));
        let test = at(test);
        match split {
            Split::Train => (None, validation),
            Split::Validation => (validation, test),
            Split::Test => (test, None),
        }
    }

    fn instants(&self) -> [i64; 2] {
        let [validation, test] = &self.instants;
        [
            validation.load(Ordering::Acquire),
            test.load(Ordering::Acquire),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(shares: Shares, times: &[i64]) -> String {
        let boundaries = Boundaries::new(shares, times.len() as u64).unwrap();
        for (number, at) in (0..).zip(times) {
            boundaries.read(number, EventTime::from_millis(*at));
        }
        let split = |at: &i64| boundaries.split(EventTime::from_millis(*at));
        let letter = |at: &i64| match split(at) {
            Split::Train => '-',
            Split::Validation => 'v',
            Split::Test => 't',
        };
        times.iter().map(letter).collect()
    }

    fn shares(validation: f64, test: f64) -> Shares {
        Shares { validation, test }
    }

    #[test]
    fn splits_begin_at_instants() {
        let times: Vec<i64> = (0..10).collect();
        assert_eq!(splits(Shares::default(), &times), "--------vt");
        assert_eq!(splits(shares(0.2, 0.3), &times), "-----vvttt");
        assert_eq!(splits(shares(0.0, 0.3), &times), "-------ttt");
        assert_eq!(splits(shares(0.3, 0.0), &times), "-------vvv");
        assert_eq!(splits(shares(0.0, 0.0), &times), "----------");
        // Plays of one instant stay together, with the later split.
        assert_eq!(
            splits(Shares::default(), &[0, 1, 2, 3, 4, 5, 8, 8, 8, 9]),
            "------vvvt"
        );
        assert_eq!(splits(Shares::default(), &[7; 10]), "tttttttttt");
    }

    #[test]
    fn shares_that_leave_nothing_are_refused() {
        for (validation, test) in [(0.5, 0.5), (-0.1, 0.2), (0.1, f64::NAN), (1.0, 0.0)] {
            let error = Boundaries::new(shares(validation, test), 10).unwrap_err();
            assert!(error.to_string().contains("nothing to train on"), "{error}");
        }
    }
}
