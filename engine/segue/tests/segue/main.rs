//! The binary's wiring, from outside. One program, since each links libtorch and librdkafka anew.
//!
//! - `rig`: a simulated log, and the engine over it in this process: what the others compare with.
//! - `same_answer`: the same log through the embedded log and through real Kafka gives the same
//!   sessions and predictions, byte for byte.
//! - `replay_equals_live`: so it does on 1, 4 and 16 partitions, out of order, with duplicates and kills.
//! - `adapters`: what a run has learnt is listed, compared and gone back to.
//! - `crash`: the program killed again and again loses and doubles nothing.
//! - `group`: several instances share a topic; lanes move between them with their state.
//! - `demo`: the demo on a small simulated log, with the real weights.
//! - `export`: a log as a data set, read by Parquet's Rust, pandas and Hugging Face datasets.
//! - `drain`: a signal drains within a time; beyond it the program ends, and nothing is lost.
//! - `full_disk`: checkpoints that cannot be written cost nothing but themselves.
//! - `stuck`: a run in which nothing moves says what stands.
//! - `ends`: a run that is stopped has worked off what it read; one that fails ends as a whole.
//! - `hearing`: what a library says of tracks is heard, a broken file is its own, a corrected one counts.
//! - `keys`: a topic keyed otherwise is noticed, and mended.
//! - `models`: a run that the language model answers is restored as what it was, from its training on.
//! - `new_track`: a track is among the answers a second after its first play.
//! - `poison`: bad records in a real topic are dead letters once, with all they came with.
//! - `rated`: ratings are a part of tracks' vectors, which models fuse; corrected ones count.
//! - `train`: models that are trained in parts, and answer from the first round on.
//! - `zero_shot`: what SmolLM2 recommends of itself is better than chance where titles tell.
//! - `refusals`: what people get wrong, and what they are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adapters;
mod crash;
mod demo;
mod drain;
mod ends;
mod export;
mod full_disk;
mod group;
mod hearing;
mod keys;
mod models;
mod new_track;
mod poison;
mod rated;
mod refusals;
mod replay_equals_live;
mod rig;
mod same_answer;
mod stuck;
mod train;
mod zero_shot;
