//! What E4SRec costs: answers from its caches beside whole prompts, and beside learning.

mod incremental;
mod learning;
mod official;
mod paced;
mod world;

pub use incremental::run as incremental;
pub use learning::run as learning;
