//! What others found on the same data, leave-one-out over all items.

/// A published figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Published {
    /// Whose, with where it stands.
    pub source: &'static str,
    pub ndcg_at_10: f64,
    pub hr_at_10: f64,
    /// Whether what a user had rated before was left out of the ranking.
    pub unseen_only: bool,
}

/// A data set that is known by its number of users.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Known {
    pub name: &'static str,
    pub users: usize,
    /// Ratings that an item and a user must have, as in what was published.
    pub least: usize,
    /// Encoder, and what was found with it. Where there is none, that of another encoder.
    figures: &'static [(&'static str, Published)],
}

const RECBOLE_100K: Published = Published {
    source: "GRU4Rec, cross-entropy: RecBole documentation, Quick Start: Sequential Recommendation",
    ndcg_at_10: 0.0513,
    hr_at_10: 0.1103,
    unseen_only: false,
};

const DATA_SETS: &[Known] = &[
    Known {
        name: "MovieLens-100K",
        users: 943,
        least: 1,
        figures: &[("gru4rec", RECBOLE_100K)],
    },
    Known {
        name: "MovieLens-1M",
        users: 6_040,
        least: 5,
        figures: &[
            (
                "sasrec",
                Published {
                    source: "SASRec+, cross-entropy: Klenitskiy and Vasilev, RecSys 2023",
                    ndcg_at_10: 0.1821,
                    hr_at_10: 0.3152,
                    unseen_only: true,
                },
            ),
            (
                "bert4rec",
                Published {
                    source: "BERT4Rec: Klenitskiy and Vasilev, RecSys 2023 (Petrov and Macdonald, \
                             RecSys 2022: .1516, .2821)",
                    ndcg_at_10: 0.1537,
                    hr_at_10: 0.2843,
                    unseen_only: true,
                },
            ),
            (
                "gru4rec",
                Published {
                    source: "GRU4Rec, cross-entropy: RecBole, issue 945",
                    ndcg_at_10: 0.1406,
                    hr_at_10: 0.2548,
                    unseen_only: false,
                },
            ),
        ],
    },
];

impl Known {
    /// The data set with so many users.
    pub fn of(users: usize) -> Option<&'static Self> {
        DATA_SETS.iter().find(|known| known.users == users)
    }

    /// What was found with `encoder`, or else with another one.
    pub fn figure(&self, encoder: &str) -> Option<&'static Published> {
        let own = self.figures.iter().find(|(name, _)| *name == encoder);
        own.or(self.figures.first()).map(|(_, figure)| figure)
    }
}
