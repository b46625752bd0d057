//! The tower in a checkpoint: what was learnt. Content comes from the stage, vectors follow.

use segue_recommend::recommender::Admitted;
use tch::{Kind, Tensor};

use super::{ItemTower, copy_into};
use crate::error::ModelError;
use crate::kept::{Named, Tensors, numbered};
use crate::offline::check_content;
use crate::settings::Fusion;

impl ItemTower {
    /// What belongs into a checkpoint. The content's part of the vectors is kept and not computed
    /// anew: how many rows go through the map at once changes its last bits. So are the vectors, where
    /// more than a sum makes them.
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
        if self.settings.fusion != Fusion::Projection {
            named.push(("vectors".to_owned(), self.vectors()?));
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
        let mut present = Vec::new();
        for (track, place) in tracks.iter().zip(contents.chunks_exact_mut(width)) {
            check_content(track, width)?;
            self.map.parts().present(track.content, &mut present);
            if let Some(content) = track.content {
                place.copy_from_slice(content);
            }
        }
        let here = |tensor: Tensor| tensor.f_to_device(self.device);
        let content = here(Tensor::f_from_slice(&contents)?.f_reshape([rows, width as i64])?)?;
        let parts = self.map.parts().all().len() as i64;
        let present = here(Tensor::f_from_slice(&present)?.f_reshape([rows, parts])?)?;
        let d = self.settings.dimensions;
        let mut take = |name: &str, shape: &[i64]| -> Result<Tensor, ModelError> {
            Ok(here(tensors.take(name, Kind::Float, shape)?)?)
        };
        self.residual = take("residual", &[rows, d])?;
        self.squares = take("squares", &[rows])?;
        self.gates = take("gates", &[rows, 1])?;
        self.mapped = take("mapped", &[rows, parts * d])?;
        self.vectors = match self.settings.fusion {
            Fusion::Projection => self.mapped.f_add(&self.residual.f_mul(&self.gates)?)?,
            _ => take("vectors", &[rows, d])?,
        };
        self.content = content;
        self.present = present;
        self.rows = rows;
        self.coarse = None;
        Ok(())
    }
}
