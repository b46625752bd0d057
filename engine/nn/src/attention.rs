//! Attention: one function for all models here, and one way to say who may see whom.

use tch::{Kind, Tensor};

use crate::NnError;

/// What stands for "not visible" in an additive mask. Finite, so that a row that may see nothing
/// (padding) comes out as some average and not as NaN, which would leak into its neighbours as
/// `0 · NaN` in the next layer.
const HIDDEN: f64 = -1e9;
/// The same within the range of `f16`, and far below any score all the same.
const HIDDEN_IN_F16: f64 = -6e4;

/// Scaled dot-product attention with grouped keys and values.
///
/// `query` is `[batch, heads, length, head_dim]`, `key` and `value` are
/// `[batch, kv_heads, total, head_dim]` with `heads` a multiple of `kv_heads`, `mask` broadcasts to
/// `[batch, heads, length, total]` and comes from [`additive`]. Scores are scaled by
/// `1 / sqrt(head_dim)`. Returns `[batch, heads, length, head_dim]`.
pub fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor, NnError> {
    let grouped = query.size4()?.1 != key.size4()?.1;
    Ok(Tensor::f_scaled_dot_product_attention(
        query, key, value, mask, 0.0, false, None, grouped,
    )?)
}

/// A mask as numbers to add to the scores: a boolean one (`true` = may see) is translated, a
/// numeric one is only brought to `kind`.
pub fn additive(mask: &Tensor, kind: Kind) -> Result<Tensor, NnError> {
    if mask.kind() != Kind::Bool {
        return Ok(mask.f_to_kind(kind)?);
    }
    let zeros = mask.f_zeros_like()?.f_to_kind(kind)?;
    let hidden = match kind {
        Kind::Half => HIDDEN_IN_F16,
        _ => HIDDEN,
    };
    Ok(zeros.f_masked_fill(&mask.f_logical_not()?, hidden)?)
}

/// Who may see whom in a batch of sequences that are padded on the right: each row sees itself and
/// what came before, within its own length. Boolean, `[batch, 1, length, length]`.
pub fn causal(lengths: &[i64], length: i64) -> Result<Tensor, NnError> {
    let cpu = tch::Device::Cpu;
    let rows = i64::try_from(lengths.len()).unwrap_or(i64::MAX);
    let seen = Tensor::f_ones([length, length], (Kind::Bool, cpu))?.f_tril(0)?;
    let place = Tensor::f_arange(length, (Kind::Int64, cpu))?.f_reshape([1, 1, 1, length])?;
    let inside = place.f_lt_tensor(&Tensor::f_from_slice(lengths)?.f_reshape([rows, 1, 1, 1])?)?;
    Ok(seen.f_logical_and(&inside)?)
}
