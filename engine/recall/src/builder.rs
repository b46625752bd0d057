//! What links points: the contract of the graph's builders.

use crate::mesh::Mesh;
use crate::rows::Rows;

/// The builder failed and must not be used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Links points, one after the other, in one thread.
pub trait Builder: Send {
    /// Links the row of a slot that is not in the graph. No link should lead to a slot that is not
    /// `alive` if there are others.
    fn link(
        &mut self,
        slot: u32,
        mesh: &mut Mesh,
        rows: &Rows,
        alive: &dyn Fn(u32) -> bool,
    ) -> Result<(), Broken>;

    /// Brings the mesh up to date, for a builder that keeps a graph of its own.
    fn lay(&mut self, mesh: &mut Mesh, rows: &Rows) -> Result<(), Broken> {
        let _ = (mesh, rows);
        Ok(())
    }

    /// Points linked so far, for a builder that can go on from there.
    fn linked(&self) -> u64 {
        0
    }

    /// Goes on after so many points.
    fn resume(&mut self, linked: u64) {
        let _ = linked;
    }

    /// Whether what is linked is in the mesh only after [`Builder::lay`].
    fn lags(&self) -> bool {
        false
    }

    /// Whether points may be taken out of the mesh: else a graph with many dead ones is grown anew.
    fn mends(&self) -> bool {
        false
    }
}
