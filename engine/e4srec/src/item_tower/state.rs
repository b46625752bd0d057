//! The tower in a checkpoint: what was learnt. Content comes from the stage, vectors follow.

use segue_recommend::recommender::Admitted;
use tch::{Kind, Tensor};

use super::{ItemTower, copy_into};
use crate::error::ModelError;
use crate::kept::{Named, Tensors, numbered};
use crate::offline::check_content;

impl ItemTower {
    /// What belongs into a checkpoint. The content's part of the vectors is kept and not computed
    /// anew: how many rows go through the map at once changes its last bits.
    pub fn kept(&self, named: &mut Named) -> Result<(), ModelError> {
        numbered("map", &self.map.parameters(), named);
        let tables = [
            ("residual", &self.residual),
            ("squares", &self.squares),
            ("gates", &self.gates),
            ("mapped", &self.mapped),
        ];
        for (name, table) in tables {
            named.push((name.to_owned(), table.f_narrow(0, 0, self.rows)?));
        }
        Ok(())
    }

    /// Takes up what was kept of these tracks.
    pub fn take_up(
        &mut self,
        tracks: &[Admitted<'_>],
        tensors: &mut Tensors<'_>,
    ) -> Result<(), ModelError> {
        let map = self.map.parameters();
        copy_into(&map, &tensors.all("map", &map)?)?;
        let (rows, width) = (tracks.len() as i64, self.settings.content);
        let mut contents = vec![0f32; tracks.len() * width];
        let mut known = vec![0f32; tracks.len()];
        let places = contents.chunks_exact_mut(width).zip(&mut known);
        for (track, (place, known)) in tracks.iter().zip(places) {
            check_content(track, width)?;
            if let Some(content) = track.content {
                place.copy_from_slice(content);
                *known = 1.0;
            }
        }
        let here = |tensor: Tensor| tensor.f_to_device(self.device);
        let content = here(Tensor::f_from_slice(&contents)?.f_reshape([rows, width as i64])?)?;
        let known = here(Tensor::f_from_slice(&known)?.f_reshape([rows, 1])?)?;
        let d = self.settings.dimensions;
        let mut take = |name: &str, shape: &[i64]| -> Result<Tensor, ModelError> {
            Ok(here(tensors.take(name, Kind::Float, shape)?)?)
        };
        self.residual = take("residual", &[rows, d])?;
        self.squares = take("squares", &[rows])?;
        self.gates = take("gates", &[rows, 1])?;
        self.mapped = take("mapped", &[rows, d])?;
        self.content = content;
        self.known = known;
        let own = self.residual.f_mul(&self.gates)?;
        self.vectors = self.mapped.f_add(&own)?;
        self.rows = rows;
        self.coarse = None;
        Ok(())
    }
}
