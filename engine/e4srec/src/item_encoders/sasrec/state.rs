//! SASRec in a checkpoint: its parameters, and which track each row of its table is.

use std::borrow::Cow;
use std::collections::HashMap;

use segue_listen::TrackKey;
use segue_recommend::catalogue::{Catalogue, check_told};
use segue_recommend::recommender::Admitted;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::network::Network;
use super::{NAME, SasRec, Scored};
use crate::error::ModelError;
use crate::item_tower::copy_into;
use crate::kept::{Named, numbered, part, read};
use crate::settings::SasRecSettings;

#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    made: String,
    /// In the order of the table's rows.
    keys: Vec<TrackKey>,
    catalogue: Cow<'a, Catalogue>,
}

impl SasRec {
    /// A model that has not been trained, to take up a state.
    ///
    /// # Errors
    /// Settings out of range, or libtorch's own.
    pub fn untaught(settings: &SasRecSettings, device: Device) -> Result<Self, ModelError> {
        settings.check()?;
        Ok(Self {
            network: Network::new(settings, &[], device)?,
            settings: settings.clone(),
            device,
            rows: HashMap::new(),
            catalogue: Catalogue::default(),
            row_of: Vec::new(),
            scored: Scored::default(),
        })
    }

    pub(super) fn kept(&self) -> Result<Vec<u8>, ModelError> {
        let mut rows: Vec<(i64, TrackKey)> =
            self.rows.iter().map(|(key, row)| (*row, *key)).collect();
        rows.sort_unstable();
        let facts = Facts {
            made: made(&self.settings),
            keys: rows.into_iter().map(|(_, key)| key).collect(),
            catalogue: Cow::Borrowed(&self.catalogue),
        };
        let mut named = Named::new();
        numbered("network", &self.network.parameters(), &mut named);
        part(NAME, &facts, named)
    }

    pub(super) fn take_up(
        &mut self,
        state: &[u8],
        tracks: &[Admitted<'_>],
    ) -> Result<(), ModelError> {
        let (facts, mut tensors) = read::<Facts<'_>>(NAME, state)?;
        let now = made(&self.settings);
        if facts.made != now {
            return Err(ModelError::OtherModel(format!(
                "models.sasrec makes a model of {now}, and it was {} when the checkpoint was taken: set \
                 it back, or begin anew with --from earliest",
                facts.made
            )));
        }
        let told = check_told(NAME, &facts.catalogue, tracks);
        told.map_err(|error| ModelError::State(error.detail))?;
        let network = Network::new(&self.settings, &facts.keys, self.device)?;
        let parameters = network.parameters();
        copy_into(&parameters, &tensors.all("network", &parameters)?)?;
        tensors.finish()?;
        self.network = network;
        self.rows = facts.keys.into_iter().zip(0..).collect();
        self.catalogue = facts.catalogue.into_owned();
        self.row_of.clear();
        self.scored = Scored::default();
        self.take_in(0)
    }
}

/// What the settings say of the network's sizes, in words.
fn made(settings: &SasRecSettings) -> String {
    format!(
        "{} components, {} blocks of {} heads, lookback {}",
        settings.dimensions, settings.blocks, settings.heads, settings.lookback
    )
}
