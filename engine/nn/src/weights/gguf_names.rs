//! What GGUF calls a tensor and what the published checkpoint calls it.

/// The Hugging Face name of a decoder's tensor; other names are kept.
pub(super) fn published(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    let mut parts = name.split('.');
    let (Some("blk"), Some(layer), Some(part), Some(what), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return name.to_string();
    };
    let module = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return name.to_string(),
    };
    format!("model.layers.{layer}.{module}.{what}")
}

/// Which heads' rows a llama-architecture GGUF stores interleaved, as its rotary code wants them.
pub(super) enum Interleaved {
    /// The query projection: one group of rows per attention head.
    Query,
    /// The key projection: one group of rows per key-value head.
    Key,
}

/// Whether the rows of a tensor (by its GGUF name) have to be put back in order.
pub(super) fn interleaved(architecture: &str, name: &str) -> Option<Interleaved> {
    // qwen2 files keep the published order.
    if architecture != "llama" {
        return None;
    }
    match name.split('.').nth(2)? {
        "attn_q" => Some(Interleaved::Query),
        "attn_k" => Some(Interleaved::Key),
        _ => None,
    }
}
