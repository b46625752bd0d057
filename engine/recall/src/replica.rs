//! A snapshot of the graph index, as it is searched: flat links, flat rows, and the slots that the
//! graph lacks. Nothing in it changes; what the writer changes it copies first.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use segue_listen::TrackId;

use crate::beam::Beam;
use crate::best::Best;
use crate::explain::{Explanation, Origin, Path, Reason};
use crate::index::{Hit, Index, IndexVersion};
use crate::links::Links;
use crate::rows::{Probe, Rows};
use crate::settings::{Metric, Settings};
use crate::slots::Slots;
use crate::vectors::{Vector, VectorError};

/// Rows that are scanned in one go.
const BATCH: usize = 64;
/// A filtered search is widened by so much more than its share says.
const MARGIN: f64 = 1.25;

thread_local! {
    /// A search's room, kept by each thread that searches. What is in it between searches matters to none.
    static BEAM: RefCell<Beam> = RefCell::new(Beam::default());
}

/// A snapshot.
pub struct Replica {
    pub rows: Rows,
    pub slots: Slots,
    /// `None` once the builder broke.
    pub links: Option<Links>,
    /// Slots that are looked at one by one.
    pub tail: Arc<[u32]>,
    /// Points of the graph, and those of them without a track.
    pub points: usize,
    pub dead: usize,
    pub version: IndexVersion,
    pub settings: Arc<Settings>,
}

/// What is asked.
struct Ask<'a> {
    query: &'a [f32],
    factor: f32,
    limit: usize,
    keep: &'a dyn Fn(TrackId) -> bool,
}

impl Replica {
    /// Candidates to ask the graph for, dead ones allowed for.
    fn breadth(&self, limit: usize) -> usize {
        // Inner product asks from off the sphere that the points lie on: measured on 5,000 clustered
        // vectors, the same breadth finds a twentieth less of the true ten.
        let stretch = match self.settings.metric {
            Metric::Cosine => 1,
            Metric::InnerProduct => 2,
        };
        let wanted = limit
            .saturating_mul(self.settings.oversampling)
            .max(self.settings.ef_search * stretch);
        let live = self.points.saturating_sub(self.dead).max(1);
        wanted.saturating_mul(self.points).div_ceil(live)
    }

    /// Asks the graph; the reason if every row should be looked at instead.
    fn ask_graph(
        &self,
        ask: &Ask<'_>,
        beam: &mut Beam,
        hits: &mut Vec<Hit>,
        note: &mut Explanation,
    ) -> Result<(), Reason> {
        let links = self.links.as_ref().ok_or(Reason::NoGraph)?;
        let probe = Probe::query(ask.query);
        let mut breadth = self.breadth(ask.limit);
        beam.begin();
        loop {
            if breadth.saturating_mul(4) >= self.points {
                return Err(Reason::Wide);
            }
            if !beam.seek(links, &self.rows, probe, breadth) {
                return Err(Reason::NoGraph);
            }
            note.breadths.push(breadth);
            note.compared = beam.compared;
            note.layers = links.top() + 1;
            let mut best = Best::new(hits, ask.limit);
            let (mut met, mut kept) = (0usize, 0usize);
            for near in beam.held() {
                for track in self.slots.tracks(near.node) {
                    met += 1;
                    if (ask.keep)(track) {
                        kept += 1;
                        best.offer(self.hit(ask, track, near.node, near.similarity));
                    }
                }
            }
            (note.met, note.kept) = (met, kept);
            // A filter leaves some of the breadth: enough of it has to be left.
            let enough = ask.limit.saturating_mul(self.settings.oversampling);
            if kept >= ask.limit && (kept == met || kept >= enough) {
                self.scan(ask, self.tail.iter().copied(), false, &mut best, note);
                best.finish();
                return Ok(());
            }
            let share = kept as f64 / met.max(1) as f64;
            if share < self.settings.exact_selectivity {
                return Err(Reason::Selective);
            }
            let wider = (enough as f64 / share * MARGIN).min(self.points as f64) as usize;
            breadth = wider.max(breadth.saturating_mul(2));
        }
    }

    fn hit(&self, ask: &Ask<'_>, track: TrackId, slot: u32, product: f32) -> Hit {
        let score = if product.abs() < f32::MAX {
            product * ask.factor + 0.0
        } else {
            self.rows.score(ask.query, slot, ask.factor)
        };
        Hit { track, score }
    }

    /// Looks at slots one by one. The filter is asked first if it is known to let few through, else
    /// last: most rows never get that far.
    fn scan(
        &self,
        ask: &Ask<'_>,
        slots: impl Iterator<Item = u32>,
        selective: bool,
        best: &mut Best<'_>,
        note: &mut Explanation,
    ) {
        let wanted = |&slot: &u32| {
            if selective {
                self.slots.tracks(slot).any(|track| (ask.keep)(track))
            } else {
                self.slots.alive(slot)
            }
        };
        let mut wanted = slots.filter(wanted);
        let (mut batch, mut products) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            batch.clear();
            batch.extend(wanted.by_ref().take(BATCH));
            if batch.is_empty() {
                break;
            }
            note.scanned += batch.len();
            self.rows
                .similarities(Probe::query(ask.query), &batch, &mut products);
            for (&slot, &product) in batch.iter().zip(&products) {
                for track in self.slots.tracks(slot) {
                    let hit = self.hit(ask, track, slot, product);
                    if best.wants(&hit) && (ask.keep)(track) {
                        best.offer(hit);
                    }
                }
            }
        }
    }

    fn answer(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<Explanation, VectorError> {
        hits.clear();
        let query = query.of_length(self.dimensions())?;
        let mut note = Explanation {
            version: self.version,
            ..Explanation::default()
        };
        if limit == 0 || self.is_empty() {
            return Ok(note);
        }
        let ask = Ask {
            query: query.components(),
            factor: self.settings.metric.score_factor(query),
            limit,
            keep,
        };
        let asked = if self.len() <= self.settings.exact_below {
            Err(Reason::Few)
        } else {
            BEAM.with_borrow_mut(|beam| self.ask_graph(&ask, beam, hits, &mut note))
        };
        note.path = match asked {
            Ok(()) => Path::Graph,
            Err(reason) => {
                let mut best = Best::new(hits, limit);
                let selective = reason == Reason::Selective;
                let all = self.slots.alive_ones();
                self.scan(&ask, all, selective, &mut best, &mut note);
                best.finish();
                Path::Exact(reason)
            }
        };
        Ok(note)
    }
}

impl Index for Replica {
    fn version(&self) -> IndexVersion {
        self.version
    }

    fn dimensions(&self) -> usize {
        self.rows.dimensions()
    }

    fn len(&self) -> usize {
        self.slots.tracks as usize
    }

    fn row(&self, track: TrackId) -> Option<Cow<'_, [f32]>> {
        Some(self.rows.row(self.slots.of(track)?))
    }

    fn search(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<(), VectorError> {
        self.answer(query, limit, keep, hits).map(drop)
    }

    fn explain(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<Explanation, VectorError> {
        let mut note = self.answer(query, limit, keep, hits)?;
        let origin = |hit: &Hit| match (note.path, self.slots.of(hit.track)) {
            (Path::Exact(_), _) => Origin::Scan,
            (_, Some(slot)) if self.tail.contains(&slot) => Origin::Tail,
            _ => Origin::Graph,
        };
        note.origins = hits.iter().map(origin).collect();
        Ok(note)
    }
}
