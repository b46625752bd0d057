//! What the micro-benchmarks and the scenarios share: workloads, ways to drive the code under test,
//! baselines, and the JSON object in which a scenario says what it found.
//!
//! 1. [`plays`], [`rows`]: seeded workloads, labelled as simulated wherever they are reported.
//! 2. [`feed`]: simulated listens into a topic.
//! 3. [`lane_loop`]: the loop of a lane over plays that are decoded already.
//! 4. [`shared_map`]: the baseline of the stream core, the same operator over DashMap.
//! 5. [`timing`], [`outcome`], [`machine`]: measuring and telling.
//!
//! This room is never linked into the product.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod feed;
pub mod lane_loop;
pub mod machine;
pub mod outcome;
pub mod plays;
pub mod rows;
pub mod shared_map;
pub mod timing;
