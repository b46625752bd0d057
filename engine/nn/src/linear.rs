//! A dense layer, frozen as published, with room for a low-rank adapter.

use tch::{Device, Kind, Tensor};

use crate::NnError;
use crate::lora::{Lora, Mode};
use crate::weights::Weights;

/// Whether a published layer has a bias. Said by whoever builds the model, never guessed from the
/// file: a checkpoint that has lost its biases must not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// `<name>.bias` is part of the layer.
    Present,
    /// The layer has none.
    Absent,
}

/// `y = x Wᵀ + b`, plus the adapter's share if one is attached.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    lora: Option<Lora>,
    /// The weight with the adapter folded in; the plain weight is kept, so that taking the adapter
    /// out again is exact.
    merged: Option<Tensor>,
}

impl Linear {
    /// Loads `<name>.weight`, `[output, input]`, and `<name>.bias`, `[output]`.
    pub fn load(
        weights: &Weights,
        name: &str,
        (output, input): (i64, i64),
        bias: Bias,
        (kind, device): (Kind, Device),
    ) -> Result<Self, NnError> {
        let weight = weights.get_shaped(&format!("{name}.weight"), &[output, input])?;
        let bias = match bias {
            Bias::Absent => None,
            Bias::Present => {
                let bias = weights.get_shaped(&format!("{name}.bias"), &[output])?;
                Some(bias.f_to_device(device)?.f_to_kind(kind)?)
            }
        };
        Ok(Self::new(
            weight.f_to_device(device)?.f_to_kind(kind)?,
            bias,
        ))
    }

    /// A layer of given tensors, `[output, input]` and `[output]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight,
            bias,
            lora: None,
            merged: None,
        }
    }

    /// `[…, input]` to `[…, output]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let weight = self.merged.as_ref().unwrap_or(&self.weight);
        let y = x.f_linear(weight, self.bias.as_ref())?;
        match &self.lora {
            Some(lora) if self.merged.is_none() => Ok(y.f_add(&lora.forward(x, mode)?)?),
            _ => Ok(y),
        }
    }

    /// Output and input sizes.
    pub fn sizes(&self) -> Result<(i64, i64), NnError> {
        Ok(self.weight.size2()?)
    }

    /// What was published: the weight without any adapter, and the bias.
    pub fn published(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// Where the layer lives.
    pub fn device(&self) -> Device {
        self.weight.device()
    }

    /// Attaches an adapter, in place of the one there was.
    pub fn attach(&mut self, lora: Lora) {
        self.merged = None;
        self.lora = Some(lora);
    }

    /// Takes the adapter off; the layer is as published again.
    pub fn detach(&mut self) -> Option<Lora> {
        self.merged = None;
        self.lora.take()
    }

    /// The adapter, if there is one.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// The adapter, to be changed. Takes a merged layer apart, since the fold would be stale.
    pub fn lora_mut(&mut self) -> Option<&mut Lora> {
        self.merged = None;
        self.lora.as_mut()
    }

    /// Folds the adapter into the weight, so that it costs nothing at inference.
    pub fn merge(&mut self) -> Result<(), NnError> {
        if let (Some(lora), None) = (&self.lora, &self.merged) {
            let delta = tch::no_grad(|| lora.delta())?;
            let sum = self.weight.f_to_kind(Kind::Float)?.f_add(&delta)?;
            self.merged = Some(sum.f_to_kind(self.weight.kind())?.f_detach()?);
        }
        Ok(())
    }

    /// Undoes [`Linear::merge`], exactly.
    pub fn unmerge(&mut self) {
        self.merged = None;
    }

    /// The same published weights on the same memory, without the adapter.
    pub fn share(&self) -> Self {
        Self::new(
            self.weight.shallow_clone(),
            self.bias.as_ref().map(Tensor::shallow_clone),
        )
    }
}
