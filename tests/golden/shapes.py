"""Small models of each published shape, made and saved by transformers, with their hidden states.

A model is a folder beside this file, as `save_pretrained` leaves it; what it answers lies in
`shapes.safetensors` and `shapes.json`. Weights are seeded and far from what a fresh model has, so
that attention is uneven, biases count and `bf16` rounds where it hurts.
"""

import pathlib
import shutil

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY = 256
# Token ids of the rows, seeded; the longest goes past what the third shape was first trained on.
LENGTHS = [40, 11, 3]
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 160,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def shapes() -> dict:
    """Configurations, the kind that each is published in, and how large a shard may be."""
    llama2 = transformers.LlamaConfig(
        **SIZES, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    llama3 = transformers.LlamaConfig(
        **SIZES, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=16,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    )  # fmt: skip
    qwen2 = transformers.Qwen2Config(
        **SIZES, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )  # fmt: skip
    return {
        "llama2": (llama2, torch.float16, "50GB"),
        "llama3": (llama3, torch.bfloat16, "100KB"),
        "qwen2": (qwen2, torch.bfloat16, "50GB"),
    }


def folder(name: str) -> pathlib.Path:
    """Where a shape's model lies."""
    return HERE / name


def rows() -> list[torch.Tensor]:
    """The token ids that every model is asked about, `[1, length]` each."""
    chance = torch.Generator().manual_seed(3)
    return [torch.randint(0, VOCABULARY, (1, n), generator=chance) for n in LENGTHS]


def load(name: str, kind: torch.dtype):
    """A saved model as transformers reads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder(name), dtype=kind, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def save(name: str, config, kind: torch.dtype, shard: str) -> None:
    """Draws a model's weights and saves it, in place of what there was."""
    model = transformers.AutoModelForCausalLM.from_config(config)
    chance = torch.Generator().manual_seed(len(name))
    for weight_name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=chance)
        if weight_name.endswith("bias"):
            weight.copy_(0.5 * noise)
        elif weight.dim() == 1:
            weight.copy_(1 + 0.2 * noise)
        else:
            weight.copy_(0.1 * noise)
    shutil.rmtree(folder(name), ignore_errors=True)
    model.to(kind).save_pretrained(folder(name), max_shard_size=shard)
    (folder(name) / "generation_config.json").unlink(missing_ok=True)
    for file in folder(name).iterdir():
        file.chmod(0o644)


@torch.no_grad()
def shapes_golden() -> tuple[dict, dict]:
    """Saves the models anew; hidden states after the last norm of every position, and logits."""
    values, kinds = {}, {}
    for name, (config, kind, shard) in shapes().items():
        save(name, config, kind, shard)
        kinds[name] = str(kind).removeprefix("torch.")
        for computed, suffix in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
            model = load(name, computed)
            for number, ids in enumerate(rows()):
                hidden = model.model(ids, use_cache=False).last_hidden_state[0]
                values[f"{name}.{number}.{suffix}"] = hidden.clone()
                if computed == torch.float32:
                    values[f"{name}.{number}.logits"] = model.lm_head(hidden)
    return {"rows": [ids[0].tolist() for ids in rows()], "stored": kinds}, values
