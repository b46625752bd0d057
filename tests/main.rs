//! Tests of the whole house, in one binary.
//!
//! - [`corpora`]: every decoder against hostile input.
//! - [`hostile`]: poison in a lane.
//! - [`house`]: who may depend on whom, and what every file must and must not have.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpora;
mod hostile;
mod house;
