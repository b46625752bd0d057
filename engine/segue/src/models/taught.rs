//! What training and learning leave for the report.

use segue_e4srec::{Journal, Publication};

use super::ONLINE_LOSS;
use crate::report::data::{Adapter, Curve, Phase};

/// What the training leaves for the report.
#[derive(Clone, Debug, Default)]
pub struct Taught {
    /// The device, in words.
    pub device: String,
    /// Why this one.
    pub reason: String,
    /// Threads of the models.
    pub threads: usize,
    /// What was trained and for how long.
    pub phases: Vec<Phase>,
    /// Training curves.
    pub training: Vec<Curve>,
    /// Tracks that were there when the models were trained.
    pub tracks: u64,
    /// Who publishes adapters, and which.
    pub journal: Option<(&'static str, Journal)>,
}

impl Taught {
    /// The adapters that were published, in order.
    pub fn adapters(&self) -> Vec<Adapter> {
        let Some((model, journal)) = &self.journal else {
            return Vec::new();
        };
        let published = journal.publications();
        let newest = published.last().map_or(0, |one| one.version);
        let fate = |one: &Publication| {
            let now = match one.version == newest {
                true => "in use",
                false => "replaced",
            };
            match one.back_to {
                Some(version) => format!("back to {version}, {now}"),
                None => now.to_owned(),
            }
        };
        let adapter = |one: &Publication| Adapter {
            model: (*model).to_owned(),
            version: one.version,
            epoch: one.epoch.0,
            examples: one.examples,
            loss: one.loss,
            fate: fate(one),
        };
        published.iter().map(adapter).collect()
    }

    /// The training curves and those of online learning.
    pub fn curves(&self, online: &[(String, u64, f32)]) -> Vec<Curve> {
        let mut curves = self.training.clone();
        for (model, epoch, loss) in online {
            let point = (*epoch, f64::from(*loss));
            let known = |c: &&mut Curve| c.model == *model && c.name == ONLINE_LOSS;
            match curves.iter_mut().find(known) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve {
                    model: model.clone(),
                    name: ONLINE_LOSS.to_owned(),
                    points: vec![point],
                }),
            }
        }
        curves
    }
}
