//! One layer of the decoder, and the dense layers in it that an adapter can sit on.

use tch::{Device, Kind, Tensor};

use super::portions::Stretch;
use crate::NnError;
use crate::attention::attend;
use crate::decoder_config::DecoderConfig;
use crate::linear::{Bias, Linear};
use crate::lora::Mode;
use crate::norm::RmsNorm;
use crate::packed::WeightFormat;
use crate::rotary::Angles;
use crate::weights::Weights;

#[derive(Debug)]
pub(super) struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    head_dim: i64,
}

#[derive(Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

/// A dense layer that an adapter can sit on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// `self_attn.q_proj`
    QProj,
    /// `self_attn.k_proj`
    KProj,
    /// `self_attn.v_proj`
    VProj,
    /// `self_attn.o_proj`
    OProj,
    /// `mlp.gate_proj`
    GateProj,
    /// `mlp.up_proj`
    UpProj,
    /// `mlp.down_proj`
    DownProj,
}

impl Layer {
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        config: &DecoderConfig,
        format: WeightFormat,
        place: (Kind, Device),
    ) -> Result<Self, NnError> {
        let norm = |part: &str| {
            RmsNorm::load(
                weights,
                &format!("{name}.{part}"),
                config.hidden_size,
                config.rms_norm_eps,
                place,
            )
        };
        let dense = |part: Projection| {
            let (sizes, bias) = config.dense(part);
            let load = match format {
                WeightFormat::AsComputed => Linear::load,
                WeightFormat::Packed4 => Linear::load_packed,
            };
            let bias = if bias { Bias::Present } else { Bias::Absent };
            load(
                weights,
                &format!("{name}.{}", part.name()),
                sizes,
                bias,
                place,
            )
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention {
                q_proj: dense(Projection::QProj)?,
                k_proj: dense(Projection::KProj)?,
                v_proj: dense(Projection::VProj)?,
                o_proj: dense(Projection::OProj)?,
                head_dim: config.head_dim(),
            },
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp {
                gate_proj: dense(Projection::GateProj)?,
                up_proj: dense(Projection::UpProj)?,
                down_proj: dense(Projection::DownProj)?,
            },
        })
    }

    /// `[batch, length, hidden]` to the same, where every row begins with the pass.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        angles: &Angles,
        mask: &Tensor,
        mode: Mode,
    ) -> Result<Tensor, NnError> {
        let seen = self.input_layernorm.forward(x)?;
        let mixed = self.self_attn.forward(&seen, angles, mask, mode)?;
        self.after(x, &mixed, mode)
    }

    /// Tokens of rows that go on from slots, `[tokens, hidden]`, to the same; `cache` has the rows, and which
    /// layer this is.
    pub(super) fn forward_cached(
        &self,
        x: &Tensor,
        angles: &Angles,
        cache: (&[Stretch], usize),
        mode: Mode,
    ) -> Result<Tensor, NnError> {
        let seen = self.input_layernorm.forward(x)?;
        let mixed = self.self_attn.forward_cached(&seen, angles, cache, mode)?;
        self.after(x, &mixed, mode)
    }

    /// What is behind attention.
    fn after(&self, x: &Tensor, mixed: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let x = x.f_add(mixed)?;
        let seen = self.post_attention_layernorm.forward(&x)?;
        Ok(x.f_add(&self.mlp.forward(&seen, mode)?)?)
    }

    /// What was published, in a fixed order.
    pub(super) fn published(&self) -> impl Iterator<Item = &Tensor> {
        let norms = [&self.input_layernorm, &self.post_attention_layernorm];
        let dense = Projection::ALL.into_iter();
        let dense = dense.flat_map(|projection| self.dense(projection).published());
        norms.into_iter().map(RmsNorm::weight).chain(dense)
    }

    pub(super) fn dense(&self, projection: Projection) -> &Linear {
        match projection {
            Projection::QProj => &self.self_attn.q_proj,
            Projection::KProj => &self.self_attn.k_proj,
            Projection::VProj => &self.self_attn.v_proj,
            Projection::OProj => &self.self_attn.o_proj,
            Projection::GateProj => &self.mlp.gate_proj,
            Projection::UpProj => &self.mlp.up_proj,
            Projection::DownProj => &self.mlp.down_proj,
        }
    }

    pub(super) fn dense_mut(&mut self, projection: Projection) -> &mut Linear {
        match projection {
            Projection::QProj => &mut self.self_attn.q_proj,
            Projection::KProj => &mut self.self_attn.k_proj,
            Projection::VProj => &mut self.self_attn.v_proj,
            Projection::OProj => &mut self.self_attn.o_proj,
            Projection::GateProj => &mut self.mlp.gate_proj,
            Projection::UpProj => &mut self.mlp.up_proj,
            Projection::DownProj => &mut self.mlp.down_proj,
        }
    }

    /// The same published weights on the same memory, without adapters.
    pub(super) fn share(&self) -> Self {
        self.each(Linear::share)
    }

    /// The same layer on the same memory, adapters included.
    pub(super) fn view(&self) -> Self {
        self.each(Linear::view)
    }

    fn each(&self, linear: impl Fn(&Linear) -> Linear) -> Self {
        Self {
            input_layernorm: self.input_layernorm.share(),
            self_attn: Attention {
                q_proj: linear(&self.self_attn.q_proj),
                k_proj: linear(&self.self_attn.k_proj),
                v_proj: linear(&self.self_attn.v_proj),
                o_proj: linear(&self.self_attn.o_proj),
                head_dim: self.self_attn.head_dim,
            },
            post_attention_layernorm: self.post_attention_layernorm.share(),
            mlp: Mlp {
                gate_proj: linear(&self.mlp.gate_proj),
                up_proj: linear(&self.mlp.up_proj),
                down_proj: linear(&self.mlp.down_proj),
            },
        }
    }
}

impl Attention {
    /// `[batch, length, hidden]` to the same.
    fn forward(
        &self,
        x: &Tensor,
        angles: &Angles,
        mask: &Tensor,
        mode: Mode,
    ) -> Result<Tensor, NnError> {
        let (batch, length, _) = x.size3()?;
        // [batch, length, heads · head_dim] -> [batch, heads, length, head_dim]
        let heads = |y: Tensor| -> Result<Tensor, NnError> {
            Ok(y.f_reshape([batch, length, -1, self.head_dim])?
                .f_transpose(1, 2)?)
        };
        let query = angles.rotate(&heads(self.q_proj.forward(x, mode)?)?)?;
        let key = angles.rotate(&heads(self.k_proj.forward(x, mode)?)?)?;
        let value = heads(self.v_proj.forward(x, mode)?)?;
        let mixed = attend(&query, &key, &value, Some(mask))?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([batch, length, -1])?;
        self.o_proj.forward(&mixed, mode)
    }

    /// `[tokens, hidden]` to the same.
    fn forward_cached(
        &self,
        x: &Tensor,
        angles: &Angles,
        (stretches, layer): (&[Stretch], usize),
        mode: Mode,
    ) -> Result<Tensor, NnError> {
        let tokens = x.size2()?.0;
        // [tokens, heads · head_dim] -> [tokens, heads, head_dim]
        let heads = |y: Tensor| y.f_reshape([tokens, -1, self.head_dim]);
        let query = angles.rotate(&heads(self.q_proj.forward(x, mode)?)?)?;
        let key = angles.rotate(&heads(self.k_proj.forward(x, mode)?)?)?;
        let value = heads(self.v_proj.forward(x, mode)?)?;
        let mut mixed = Vec::with_capacity(stretches.len());
        let mut from = 0;
        for stretch in stretches {
            let (count, length) = (stretch.count, stretch.length);
            let own = |y: &Tensor| -> Result<Tensor, NnError> {
                let own = y.f_narrow(0, from, count * length)?;
                Ok(own.f_reshape([count, length, -1, self.head_dim])?)
            };
            let (keys, values) = stretch.cache.append(layer, &own(&key)?, &own(&value)?)?;
            let query = own(&query)?.f_transpose(1, 2)?;
            let found = attend(&query, &keys, &values, Some(&stretch.mask))?;
            mixed.push(found.f_transpose(1, 2)?.f_reshape([count * length, -1])?);
            from += count * length;
        }
        let mixed = match mixed.as_slice() {
            [one] => one.shallow_clone(),
            all => Tensor::f_cat(all, 0)?,
        };
        self.o_proj.forward(&mixed, mode)
    }
}

impl Mlp {
    /// SwiGLU: `down(silu(gate(x)) · up(x))`.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let gate = self.gate_proj.forward(x, mode)?.f_silu()?;
        self.down_proj
            .forward(&gate.f_mul(&self.up_proj.forward(x, mode)?)?, mode)
    }
}

impl Projection {
    /// All seven, in the order of the checkpoint's modules.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// Its place in a layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }
}
