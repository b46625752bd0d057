//! How a search came to its answer, for whoever asks why.

use std::fmt;

use crate::index::IndexVersion;

/// How a search went.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Explanation {
    /// Which snapshot answered.
    pub version: IndexVersion,
    /// Which way the answer was found.
    pub path: Path,
    /// Layers of the graph, the ground included; 0 where it was not asked.
    pub layers: u32,
    /// Candidates that the graph was searched with, each time that it was: the second and later times
    /// wider, because a filter let too few through.
    pub breadths: Vec<usize>,
    /// Points of the graph that were compared with the query.
    pub compared: usize,
    /// Rows that were looked at one by one: of the tail, or all.
    pub scanned: usize,
    /// Tracks that the filter was asked about after the last search of the graph, and those it let
    /// through.
    pub met: usize,
    /// Of these.
    pub kept: usize,
    /// Where each hit was found, in the order of the hits.
    pub origins: Vec<Origin>,
}

/// Which way an answer was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Path {
    /// Nothing was asked for, or nothing is there.
    #[default]
    Empty,
    /// Along the graph, and through the tail of what it lacks.
    Graph,
    /// Every row was looked at.
    Exact(Reason),
}

/// Why every row was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The index is an exact one.
    Kind,
    /// There are so few tracks that it is as fast.
    Few,
    /// The filter lets so few through that a graph is no help.
    Selective,
    /// So many candidates are needed that it is as fast.
    Wide,
    /// The graph has no points yet, or broke.
    NoGraph,
}

/// Where a hit was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// In the graph.
    Graph,
    /// In the exact tail of tracks that are not linked yet.
    Tail,
    /// By the scan of all rows.
    Scan,
}

impl Explanation {
    /// The share of the tracks met that the filter let through; 1 where it was not asked.
    pub fn selectivity(&self) -> f64 {
        if self.met == 0 {
            1.0
        } else {
            self.kept as f64 / self.met as f64
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.version)?;
        match self.path {
            Path::Empty => return write!(f, "nothing to search"),
            Path::Graph => write!(f, "graph of {} layers", self.layers)?,
            Path::Exact(reason) => write!(
                f,
                "every row, {}",
                match reason {
                    Reason::Kind => "as this index does",
                    Reason::Few => "since there are few",
                    Reason::Selective => "since the filter lets few through",
                    Reason::Wide => "since nearly as many are asked for",
                    Reason::NoGraph => "since there is no graph",
                }
            )?,
        }
        for breadth in &self.breadths {
            write!(f, ", breadth {breadth}")?;
        }
        write!(f, "; {} compared, {} scanned", self.compared, self.scanned)?;
        if self.met > 0 {
            let percent = 100.0 * self.selectivity();
            write!(f, ", filter let {percent:.1} % through")?;
        }
        let of = |origin| self.origins.iter().filter(|&&one| one == origin).count();
        let places = [
            (Origin::Graph, "graph"),
            (Origin::Tail, "tail"),
            (Origin::Scan, "scan"),
        ];
        write!(f, "; {} hits", self.origins.len())?;
        for (origin, name) in places {
            if of(origin) > 0 {
                write!(f, ", {} of the {name}", of(origin))?;
            }
        }
        Ok(())
    }
}
