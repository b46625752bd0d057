//! A linear map plus a perceptron that begins at zero.

use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::chance::normals;
use crate::error::ModelError;

/// `A c + U relu(V c + b)`.
#[derive(Debug)]
pub(super) struct Perceptron {
    /// `[d, width]`
    linear: Tensor,
    /// `[hidden, width]`
    inner: Tensor,
    inner_bias: Tensor,
    /// `[d, hidden]`
    outer: Tensor,
}

impl Perceptron {
    /// Whose linear map begins as a random projection to the first half of `d` components, which keeps
    /// likeness (Johnson and Lindenstrauss).
    pub fn projecting(
        (d, hidden): (i64, i64),
        width: i64,
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Self, ModelError> {
        let half = d / 2;
        let projection = normals(&[half, width], (half as f32).powf(-0.5), rng, device)?;
        let rest = Tensor::f_zeros([d - half, width], (Kind::Float, device))?;
        Self::with(Tensor::f_cat(&[&projection, &rest], 0)?, hidden, rng)
    }

    /// Whose linear map begins as `linear` `[d, width]`.
    pub fn with(linear: Tensor, hidden: i64, rng: &mut ChaCha8Rng) -> Result<Self, ModelError> {
        let (d, width) = linear.size2()?;
        let device = linear.device();
        let deviation = (width as f32).powf(-0.5);
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Float, device));
        let leaf = |tensor: Tensor| tensor.f_set_requires_grad(true);
        Ok(Self {
            linear: leaf(linear)?,
            inner: leaf(normals(&[hidden, width], deviation, rng, device)?)?,
            inner_bias: leaf(zeros(&[hidden])?)?,
            outer: leaf(zeros(&[d, hidden])?)?,
        })
    }

    /// `[n, width]` to `[n, d]`.
    pub fn apply(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        let wide = rows
            .f_linear(&self.inner, Some(&self.inner_bias))?
            .f_relu()?;
        Ok(rows
            .f_linear(&self.linear, None::<&Tensor>)?
            .f_add(&wide.f_linear(&self.outer, None::<&Tensor>)?)?)
    }

    /// The same parameters, for another thread.
    pub fn share(&self) -> Self {
        let [linear, inner, inner_bias, outer] = self.parameters().map(Tensor::shallow_clone);
        Self {
            linear,
            inner,
            inner_bias,
            outer,
        }
    }

    pub fn parameters(&self) -> [&Tensor; 4] {
        [&self.linear, &self.inner, &self.inner_bias, &self.outer]
    }
}
