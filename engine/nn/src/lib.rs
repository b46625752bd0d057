//! Neural networks over libtorch: everything a model is made of and nothing of what it is for.
//!
//! In layers, from the bottom:
//! - [`device`]: which device the tensors live on, in which precision, and why;
//! - [`weights`]: published checkpoints (safetensors, GGUF) as named tensors;
//! - [`packed`]: weights of four bits that stay packed in memory;
//! - [`linear`], [`norm`], [`rotary`], [`attention`], [`lora`]: the parts;
//! - [`kv_slots`]: the caches of many conversations, apart from the layers that fill them;
//! - [`decoder_config`], [`decoder`]: one decoder for the LLaMA and Qwen2 families;
//! - [`peft`]: its adapters as files;
//! - [`inventory`]: which tensors a checkpoint has to hold, and whether it does;
//! - [`memory`]: what it will take, before it is loaded;
//! - [`tokenizer`]: text to token ids, from a `tokenizer.json` or out of a GGUF file.
//!
//! A model's module tree is its checkpoint's name tree, so published weights load without a
//! mapping. Shapes are written `[batch, length, hidden]` at every signature. Where data decides a
//! shape, the fallible forms of tch are used: a wrong file is an error and not a panic.
//!
//! This room does not know music, sessions or Kafka, starts no threads and reads no clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attention;
pub mod decoder;
pub mod decoder_config;
pub mod device;
mod error;
pub mod inventory;
pub mod kv_slots;
pub mod linear;
pub mod lora;
pub mod memory;
pub mod norm;
pub mod packed;
pub mod peft;
pub mod rotary;
pub mod threads;
pub mod tokenizer;
pub mod weights;

pub use error::NnError;
/// The tensor library itself, so that rooms above use the version this one was built with.
pub use tch;

#[cfg(test)]
mod tests;
