//! The tracks' vectors as the language model reads them: of the last published adapter, while the
//! ones that rank change every epoch. So caches stay true between two adapters.

use tch::{Device, Kind, Tensor};

use crate::error::ModelError;
use crate::kept::{Named, Tensors};
use crate::lines::Lines;

/// One row per track, at unit mean square, with a version each.
#[derive(Debug)]
pub(crate) struct InputTable {
    /// `[capacity, d]`
    table: Tensor,
    versions: Vec<u32>,
    /// What is told of them in words, for those that have a version.
    pub lines: Lines,
}

impl InputTable {
    pub fn new(d: i64, device: Device, lines: Lines) -> Result<Self, ModelError> {
        Ok(Self {
            table: Tensor::f_zeros([0, d], (Kind::Float, device))?,
            versions: Vec::new(),
            lines,
        })
    }

    /// The table, `[capacity, d]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The version of a track's row; 0 without one.
    pub fn version(&self, row: usize) -> u32 {
        self.versions.get(row).copied().unwrap_or(0)
    }

    /// Takes over the vectors `[len(rows), d]` of some rows, new ones among them; what was read
    /// with another vector is read anew.
    pub fn set(&mut self, rows: &[i64], vectors: &Tensor) -> Result<(), ModelError> {
        let Some(&last) = rows.iter().max() else {
            return Ok(());
        };
        self.reserve(last + 1)?;
        tch::no_grad(|| -> Result<(), ModelError> {
            let rows = Tensor::f_from_slice(rows)?.f_to_device(self.table.device())?;
            let levelled = level(vectors)?;
            let _ = self.table.f_index_copy_(0, &rows, &levelled)?;
            Ok(())
        })?;
        for &row in rows {
            if let Some(version) = self.versions.get_mut(row as usize) {
                *version += 1;
            }
        }
        Ok(())
    }

    /// Takes over the vectors of all rows, `[rows, d]`, for a new adapter. Versions stay: what was read for
    /// another adapter is known by that.
    pub fn set_all(&mut self, vectors: &Tensor) -> Result<(), ModelError> {
        // What is between a vector and its input stays in a core's own cache.
        const CHUNK: i64 = 1_024;
        let rows = vectors.size2()?.0;
        self.reserve(rows)?;
        tch::no_grad(|| -> Result<(), ModelError> {
            for from in (0..rows).step_by(CHUNK as usize) {
                let count = CHUNK.min(rows - from);
                let levelled = level(&vectors.f_narrow(0, from, count)?)?;
                self.table.f_narrow(0, from, count)?.f_copy_(&levelled)?;
            }
            Ok(())
        })?;
        for version in self.versions.iter_mut().take(rows as usize) {
            *version = (*version).max(1);
        }
        Ok(())
    }

    /// Room for so many rows.
    fn reserve(&mut self, rows: i64) -> Result<(), ModelError> {
        let (capacity, d) = self.table.size2()?;
        if rows > capacity {
            let size = [rows.max(2 * capacity).max(64), d];
            let larger = Tensor::f_zeros(size, (Kind::Float, self.table.device()))?;
            tch::no_grad(|| larger.f_narrow(0, 0, capacity)?.f_copy_(&self.table))?;
            self.table = larger;
        }
        if self.versions.len() < rows as usize {
            self.versions.resize(rows as usize, 0);
        }
        Ok(())
    }

    /// What belongs into a checkpoint: the rows that were ever set, and the versions.
    pub fn kept(&self, named: &mut Named) -> Result<Vec<u32>, ModelError> {
        let rows = self.table.f_narrow(0, 0, self.versions.len() as i64)?;
        named.push(("inputs".to_owned(), rows));
        Ok(self.versions.clone())
    }

    /// Takes up what was kept.
    pub fn take_up(
        &mut self,
        versions: Vec<u32>,
        tensors: &mut Tensors<'_>,
    ) -> Result<(), ModelError> {
        for &version in &versions {
            if version > u32::MAX / 2 {
                return Err(ModelError::State(format!("an input in version {version}")));
            }
        }
        let (_, d) = self.table.size2()?;
        let table = tensors.take("inputs", Kind::Float, &[versions.len() as i64, d])?;
        self.table = table.f_to_device(self.table.device())?;
        self.versions = versions;
        Ok(())
    }

    /// The same on memory of its own.
    pub fn copy(&self) -> Result<Self, ModelError> {
        Ok(Self {
            table: crate::item_tower::copied(&self.table)?,
            versions: self.versions.clone(),
            lines: self.lines.clone(),
        })
    }
}

/// Vectors at unit mean square; zero stays zero.
pub(crate) fn level(vectors: &Tensor) -> Result<Tensor, ModelError> {
    let square = vectors
        .f_square()?
        .f_mean_dim(&[-1i64][..], true, Kind::Float)?;
    Ok(vectors.f_div(&square.f_add_scalar(1e-8)?.f_sqrt()?)?)
}
