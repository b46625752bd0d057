//! An item encoder in a checkpoint: its parameters, and which track each row of its table is.

use std::borrow::Cow;

use segue_listen::TrackKey;
use segue_recommend::catalogue::{Catalogue, check_told};
use segue_recommend::recommender::Admitted;
use serde::{Deserialize, Serialize};

use super::encoder::{Scored, SequenceEncoder};
use super::network::SequenceNetwork;
use crate::error::ModelError;
use crate::item_tower::copy_into;
use crate::kept::{Named, numbered, part, read};

#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    made: String,
    /// In the order of the table's rows.
    keys: Vec<TrackKey>,
    catalogue: Cow<'a, Catalogue>,
}

impl<N: SequenceNetwork> SequenceEncoder<N> {
    pub(super) fn kept(&self) -> Result<Vec<u8>, ModelError> {
        let mut rows: Vec<(i64, TrackKey)> =
            self.rows.iter().map(|(key, row)| (*row, *key)).collect();
        rows.sort_unstable();
        let facts = Facts {
            made: N::made(&self.settings),
            keys: rows.into_iter().map(|(_, key)| key).collect(),
            catalogue: Cow::Borrowed(&self.catalogue),
        };
        let mut named = Named::new();
        numbered("network", &self.network.parameters(), &mut named);
        part(N::NAME, &facts, named)
    }

    pub(super) fn take_up(
        &mut self,
        state: &[u8],
        tracks: &[Admitted<'_>],
    ) -> Result<(), ModelError> {
        let (facts, mut tensors) = read::<Facts<'_>>(N::NAME, state)?;
        let now = N::made(&self.settings);
        if facts.made != now {
            return Err(ModelError::OtherModel(format!(
                "models.{} makes a model of {now}, and it was {} when the checkpoint was taken: set \
                 it back, or begin anew with --from earliest",
                N::NAME,
                facts.made
            )));
        }
        let told = check_told(N::NAME, &facts.catalogue, tracks);
        told.map_err(|error| ModelError::State(error.detail))?;
        let network = N::new(&self.settings, &facts.keys, self.device)?;
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
