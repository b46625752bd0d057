//! Seeded numbers that depend on a track's key and not on its dense id.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use tch::{Device, Tensor};

use crate::error::ModelError;

/// Standard normal, by Box and Muller.
pub(crate) fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

/// A tensor of normal values with the given deviation.
pub(crate) fn normals(
    shape: &[i64],
    deviation: f32,
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, ModelError> {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
    let values: Vec<f32> = (0..count).map(|_| deviation * normal(rng)).collect();
    Ok(Tensor::f_from_slice(&values)?
        .f_reshape(shape)?
        .f_to_device(device)?)
}

/// Appends a track's own `width` normal values.
pub(crate) fn keyed_normals(
    key: TrackKey,
    seed: u64,
    width: usize,
    deviation: f32,
    out: &mut Vec<f32>,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(key.digest() ^ seed.rotate_left(17));
    out.extend((0..width).map(|_| deviation * normal(&mut rng)));
}
