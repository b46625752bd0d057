//! Music as it sounds: from a file to vectors.
//!
//! 1. [`decode`]: mp3, flac, ogg, aac and wav files as samples, whatever is in them;
//! 2. [`resample`]: to the rate a model was trained at;
//! 3. [`crop`]: which seconds of a track are listened to, the same for the same file;
//! 4. [`model`]: the contract of what turns sound into a vector;
//! 5. [`spectrum`], [`mel`]: the front ends that models share;
//! 6. [`musicnn`]: a network that was taught to tag music, from its published weights;
//!    [`tensor_bundle`]: how they are stored;
//! 7. [`handcrafted`], [`tempo`]: 63 numbers that need no learning;
//! 8. [`wav2vec2`]: MERT, Music2Vec and their relatives; [`encodec`]: a codec's encoder;
//! 9. [`torchscript`]: any other model, exported as a module;
//! 10. [`encoder`]: tracks in, vectors out; implements [`segue_catalog::encoder::Encoder`].

mod convolution;
pub mod crop;
pub mod decode;
pub mod encodec;
pub mod encoder;
mod error;
pub mod handcrafted;
pub mod mel;
pub mod model;
pub mod musicnn;
pub mod resample;
pub mod spectrum;
pub mod tempo;
pub mod tensor_bundle;
pub mod torchscript;
pub mod wav2vec2;

pub use error::{AudioError, Problem};
