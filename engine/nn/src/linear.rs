//! A dense layer, frozen as published, with room for a low-rank adapter.

use tch::{Device, Kind, Tensor};

use crate::NnError;
use crate::lora::{Lora, Mode};
use crate::packed::Packed;
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

impl Bias {
    fn load(
        self,
        weights: &Weights,
        name: &str,
        output: i64,
        (kind, device): (Kind, Device),
    ) -> Result<Option<Tensor>, NnError> {
        if self == Self::Absent {
            return Ok(None);
        }
        let bias = weights.get_shaped(&format!("{name}.bias"), &[output])?;
        Ok(Some(bias.f_to_device(device)?.f_to_kind(kind)?))
    }
}

/// `y = x Wᵀ + b`, plus the adapter's share if one is attached.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    lora: Option<Lora>,
    /// The weight with the adapter folded in; the plain weight is kept, so that taking the adapter
    /// out again is exact.
    merged: Option<Tensor>,
}

#[derive(Debug)]
enum Weight {
    Plain(Tensor),
    Packed(Packed),
}

/// Tokens up to which a product of narrow numbers on a CPU is made by [`few`].
const FEW: usize = 40;

/// Whether a pass is of so few tokens that a product takes longest over bringing the weight into the order
/// in which the processor multiplies.
fn is_few(x: &Tensor) -> bool {
    let width = x.size().last().copied().unwrap_or(0).max(1) as usize;
    let narrow = x.kind() == Kind::BFloat16 && x.device() == Device::Cpu;
    narrow && x.numel() / width <= FEW
}

/// `x Wᵀ` of few tokens: as `(W xᵀ)ᵀ`, since of two factors the right one is brought into another order, and
/// `x` is the smaller one here.
fn few(x: &Tensor, weight: &Tensor) -> Result<Tensor, NnError> {
    let mut size = x.size();
    let width = size.pop().unwrap_or(0);
    let tokens = x.f_reshape([-1, width])?;
    let found = weight.f_mm(&tokens.f_tr()?)?.f_tr()?;
    size.push(weight.size2()?.0);
    Ok(found.f_view(size.as_slice())?)
}

impl Linear {
    /// Loads `<name>.weight`, `[output, input]`, and `<name>.bias`, `[output]`.
    pub fn load(
        weights: &Weights,
        name: &str,
        (output, input): (i64, i64),
        bias: Bias,
        place: (Kind, Device),
    ) -> Result<Self, NnError> {
        let weight = weights.get_shaped(&format!("{name}.weight"), &[output, input])?;
        // Narrowed first: a GPU need not have room for the weight in `f32`.
        let weight = weight.f_to_kind(place.0)?.f_to_device(place.1)?;
        let bias = bias.load(weights, name, output, place)?;
        Ok(Self::of(Weight::Plain(weight), bias))
    }

    /// The same with the weight in blocks of four bits; see [`crate::packed`].
    pub fn load_packed(
        weights: &Weights,
        name: &str,
        sizes: (i64, i64),
        bias: Bias,
        place: (Kind, Device),
    ) -> Result<Self, NnError> {
        let weight = weights.get_packed(&format!("{name}.weight"), sizes)?;
        let bias = bias.load(weights, name, sizes.0, place)?;
        Ok(Self::of(Weight::Packed(weight.to_device(place.1)?), bias))
    }

    /// A layer of given tensors, `[output, input]` and `[output]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self::of(Weight::Plain(weight), bias)
    }

    fn of(weight: Weight, bias: Option<Tensor>) -> Self {
        Self {
            weight,
            bias,
            lora: None,
            merged: None,
        }
    }

    /// `[…, input]` to `[…, output]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let bias = self.bias.as_ref();
        let y = match (&self.merged, &self.weight) {
            (Some(weight), _) | (None, Weight::Plain(weight)) => match bias {
                None if mode == Mode::Infer && is_few(x) => few(x, weight)?,
                _ => x.f_linear(weight, bias)?,
            },
            (None, Weight::Packed(packed)) => x.f_linear(&packed.unpacked(x.kind())?, bias)?,
        };
        match &self.lora {
            Some(lora) if self.merged.is_none() => Ok(y.f_add(&lora.forward(x, mode)?)?),
            _ => Ok(y),
        }
    }

    /// Output and input sizes.
    pub fn sizes(&self) -> Result<(i64, i64), NnError> {
        match &self.weight {
            Weight::Plain(weight) => Ok(weight.size2()?),
            Weight::Packed(packed) => packed.sizes(),
        }
    }

    /// What was published: the weight without any adapter, in parts if it is packed, and the bias.
    pub fn published(&self) -> impl Iterator<Item = &Tensor> {
        let weight = match &self.weight {
            Weight::Plain(weight) => [Some(weight), None, None],
            Weight::Packed(packed) => packed.tensors(),
        };
        weight.into_iter().flatten().chain(&self.bias)
    }

    /// Where the layer lives.
    pub fn device(&self) -> Device {
        match &self.weight {
            Weight::Plain(weight) => weight.device(),
            Weight::Packed(packed) => packed.device(),
        }
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
    ///
    /// Beside a packed weight it stays apart: folded in, either the sum would have to be kept in
    /// plain numbers or quantising it anew would round the adapter away. Answers are the same.
    pub fn merge(&mut self) -> Result<(), NnError> {
        if let (Some(lora), None, Weight::Plain(weight)) = (&self.lora, &self.merged, &self.weight)
        {
            let delta = tch::no_grad(|| lora.delta())?;
            let sum = weight.f_to_kind(Kind::Float)?.f_add(&delta)?;
            self.merged = Some(sum.f_to_kind(weight.kind())?.f_detach()?);
        }
        Ok(())
    }

    /// Undoes [`Linear::merge`], exactly.
    pub fn unmerge(&mut self) {
        self.merged = None;
    }

    /// The same layer on the same memory, the adapter included.
    pub fn view(&self) -> Self {
        Self {
            lora: self.lora.as_ref().map(Lora::view),
            merged: self.merged.as_ref().map(Tensor::shallow_clone),
            ..self.share()
        }
    }

    /// The same published weights on the same memory, without the adapter.
    pub fn share(&self) -> Self {
        let weight = match &self.weight {
            Weight::Plain(weight) => Weight::Plain(weight.shallow_clone()),
            Weight::Packed(packed) => Weight::Packed(packed.share()),
        };
        Self::of(weight, self.bias.as_ref().map(Tensor::shallow_clone))
    }
}
