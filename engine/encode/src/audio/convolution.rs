//! Convolutions over time, as checkpoints of PyTorch hold them.

use segue_nn::linear::Bias;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::{Weights, WeightsError};

use crate::EncodeError;

/// The shape of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub input: i64,
    pub output: i64,
    pub length: i64,
    pub groups: i64,
}

impl Shape {
    /// Without groups.
    pub fn whole(input: i64, output: i64, length: i64) -> Self {
        Self {
            input,
            output,
            length,
            groups: 1,
        }
    }
}

/// How it goes over its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub stride: i64,
    /// Zeros on both sides.
    pub padding: i64,
    pub dilation: i64,
}

impl Steps {
    /// One at a time, without padding.
    pub fn by(stride: i64) -> Self {
        Self {
            stride,
            padding: 0,
            dilation: 1,
        }
    }
}

/// `[batch, input, time]` to `[batch, output, time']`.
#[derive(Debug)]
pub(super) struct Convolution {
    weight: Tensor,
    bias: Option<Tensor>,
    steps: Steps,
    groups: i64,
}

impl Convolution {
    /// Loads `<name>.weight`, `[output, input / groups, length]`, and `<name>.bias`. A weight that is
    /// held as direction and length ("weight norm", over the dimension `norm`) is put together.
    pub fn load(
        weights: &Weights,
        name: &str,
        shape: Shape,
        steps: Steps,
        bias: Bias,
        norm: Option<usize>,
        (kind, device): (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let sides = [
            shape.output,
            shape.input / shape.groups.max(1),
            shape.length,
        ];
        let weight = match norm {
            Some(over) => whole(weights, name, sides, over)?,
            None => weights.get_shaped(&format!("{name}.weight"), &sides)?,
        };
        let bias = match bias {
            Bias::Present => Some(weights.get_shaped(&format!("{name}.bias"), &[shape.output])?),
            Bias::Absent => None,
        };
        let place = |tensor: Tensor| tensor.f_to_device(device).and_then(|t| t.f_to_kind(kind));
        Ok(Self {
            weight: place(weight)?,
            bias: bias.map(place).transpose()?,
            steps,
            groups: shape.groups,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let Steps {
            stride,
            padding,
            dilation,
        } = self.steps;
        let bias = self.bias.as_ref();
        Ok(x.f_conv1d(&self.weight, bias, stride, padding, dilation, self.groups)?)
    }
}

/// A weight from its length and direction, under the names that PyTorch gave them since 2.0 or
/// before.
fn whole(
    weights: &Weights,
    name: &str,
    sides: [i64; 3],
    over: usize,
) -> Result<Tensor, EncodeError> {
    let new = format!("{name}.parametrizations.weight.original");
    let names = match weights.contains(&format!("{new}0")) {
        true => [format!("{new}0"), format!("{new}1")],
        false => [format!("{name}.weight_g"), format!("{name}.weight_v")],
    };
    let [length, direction] = &names;
    let mut lengths = [1i64; 3];
    if let (Some(place), Some(side)) = (lengths.get_mut(over), sides.get(over)) {
        *place = *side;
    }
    let length: Result<Tensor, WeightsError> = weights.get_shaped(length, &lengths);
    let direction = weights.get_shaped(direction, &sides)?;
    let others: Vec<i64> = (0..3).filter(|&side| side != over as i64).collect();
    let norm = direction.f_norm_scalaropt_dim(2.0, others.as_slice(), true)?;
    Ok(direction.f_mul(&length?.f_div(&norm)?)?)
}
