//! The losses of online learning over a run: as many points as a curve needs, however long it goes on.

/// Points that are kept of a recommender at most.
const MOST: usize = 4_096;

/// The losses of all recommenders.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<(&'static str, Curve)>);

/// One recommender's: each point the mean of as many rounds.
#[derive(Debug)]
struct Curve {
    points: Vec<(u64, f32)>,
    /// Rounds that go into a point.
    rounds: u32,
    /// What has come for the next one: how many, and their sum.
    open: (u32, f64),
}

impl Losses {
    pub(super) fn note(&mut self, recommender: &'static str, round: u64, loss: f32) {
        let curve = self.0.iter_mut().find(|(name, _)| *name == recommender);
        match curve {
            Some((_, curve)) => curve.note(round, loss),
            None => {
                let mut curve = Curve {
                    points: Vec::new(),
                    rounds: 1,
                    open: (0, 0.0),
                };
                curve.note(round, loss);
                self.0.push((recommender, curve));
            }
        }
    }

    /// All points: recommender, the last of its rounds, loss.
    pub(super) fn into_points(self) -> Vec<(String, u64, f32)> {
        let curves = self.0.into_iter();
        curves
            .flat_map(|(name, curve)| {
                let points = curve.points.into_iter();
                points.map(move |(round, loss)| (name.to_owned(), round, loss))
            })
            .collect()
    }
}

impl Curve {
    fn note(&mut self, round: u64, loss: f32) {
        self.open.0 += 1;
        self.open.1 += f64::from(loss);
        if self.open.0 < self.rounds {
            return;
        }
        let (rounds, sum) = std::mem::take(&mut self.open);
        self.points.push((round, (sum / f64::from(rounds)) as f32));
        if self.points.len() >= MOST {
            self.halve();
        }
    }

    /// Each two neighbours become one, and so do those to come.
    fn halve(&mut self) {
        let pairs = self.points.chunks_exact(2).filter_map(|pair| match pair {
            [(_, one), (round, other)] => Some((*round, f32::midpoint(*one, *other))),
            _ => None,
        });
        self.points = pairs.collect();
        self.rounds = self.rounds.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: u64 = 1_000_000;

    #[test]
    fn a_short_run_keeps_each_and_a_long_one_keeps_means() {
        let mut losses = Losses::default();
        losses.note("a", 3, 0.5);
        losses.note("b", 3, 0.25);
        losses.note("a", 5, 1.5);
        let points = losses.into_points();
        let expected = [("a", 3, 0.5), ("a", 5, 1.5), ("b", 3, 0.25)];
        let expected = expected.map(|(name, round, loss)| (name.to_owned(), round, loss));
        assert_eq!(points, expected);

        let mut losses = Losses::default();
        for round in 1..=ROUNDS {
            losses.note("a", round, round as f32);
        }
        assert!(losses.0[0].1.points.capacity() <= 2 * MOST);
        let points = losses.into_points();
        assert!(points.len() >= MOST / 2 && points.len() < MOST);
        assert!(points.iter().all(|(_, round, loss)| {
            // The mean of the rounds up to its last one.
            let rounds = points[0].1;
            let mean = *round as f32 - (rounds - 1) as f32 / 2.0;
            (loss - mean).abs() <= mean * 1e-6
        }));
        assert!(points.last().unwrap().1 > ROUNDS - 1_000);
    }
}
