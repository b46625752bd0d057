//! What a run did and how well it predicted: one set of figures, said three times.
//!
//! 1. [`data`], [`distributions`]: the figures. [`prequential`](segue_recommend::prequential) brings
//!    its own.
//! 2. [`figures`]: how a number is written for people.
//! 3. [`tables`], [`accuracy`]: the figures as tables, the same for the terminal and the page.
//! 4. [`plots`], [`charts`]: the figures as pictures.
//! 5. [`terminal`], [`json`], [`html`]: where they are said; [`file`](mod@file) puts a whole file in
//!    place or none.
//!
//! Figures of a simulated log carry that word on every line, table and picture. Names come from
//! strangers' logs: they are escaped wherever they are said, and no figure is trusted to be a number.
//!
//! This module measures nothing, reads no clock, and does not know where its figures come from.

mod accuracy;
mod charts;
pub mod data;
pub mod distributions;
pub mod figures;
pub mod file;
pub mod html;
pub mod json;
mod plots;
mod tables;
pub mod terminal;

#[cfg(test)]
mod tests;

pub use data::Report;
