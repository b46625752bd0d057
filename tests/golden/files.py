"""A small Qwen2 as a GGUF file, its biases, tied embedding and several formats in it, and what
transformers answers when it reads that file itself."""

import gguf
import torch
import transformers

import shapes

FILE = "qwen2.gguf"
KIND = gguf.GGMLQuantizationType
# Rows of 64 and 160 are whole blocks of 32 but not of 256.
FORMATS = {
    "self_attn.q_proj": KIND.Q8_0,
    "self_attn.k_proj": KIND.F16,
    "self_attn.v_proj": KIND.Q5_1,
    "self_attn.o_proj": KIND.Q4_0,
    "mlp.gate_proj": KIND.Q4_1,
    "mlp.up_proj": KIND.Q5_0,
    "mlp.down_proj": KIND.Q8_0,
}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
ENDS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write() -> None:
    """The model of `shapes.py` as llama.cpp's converter would name and describe it."""
    model = shapes.load("qwen2", torch.float32)
    config = model.config
    writer = gguf.GGUFWriter(shapes.HERE / FILE, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        if name in ENDS:
            kind = KIND.Q8_0 if values.ndim == 2 else KIND.F32
            name = ENDS[name]
        else:
            _, _, layer, module = name.split(".", 3)
            module, part = module.rsplit(".", 1)
            kind = FORMATS[module] if part == "weight" and module in FORMATS else KIND.F32
            name = f"blk.{layer}.{NAMES[module]}.{part}"
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (shapes.HERE / FILE).chmod(0o644)


@torch.no_grad()
def files_golden() -> tuple[dict, dict]:
    """Writes the file; hidden states after the last norm."""
    write()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        shapes.HERE, gguf_file=FILE, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    values = {
        f"qwen2.{number}": model.model(ids, use_cache=False).last_hidden_state[0].clone()
        for number, ids in enumerate(shapes.rows())
    }
    return {"formats": sorted({kind.name for kind in FORMATS.values()})}, values
