"""Adapters by the real PEFT: trained there and read here, trained here and read there.

What PEFT trained lies in `adapters/` as `save_pretrained` leaves it. What Segue trained lies in
`adapters/by_segue`; its test writes it anew when it is asked to:

    SEGUE_WRITE_GOLDEN=1 cargo test -p segue-nn --test golden adapters::trained_here
    .venv/bin/python tests/golden/reference.py adapters

The second line must follow the first: it loads that folder with PEFT and writes what PEFT answers.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers

import shapes

FOLDER = pathlib.Path(__file__).resolve().parent / "adapters"
BASE = "llama3"
STEPS = 6


def configs() -> dict:
    """The adapters that PEFT trains, and the class of the model that each is trained on."""
    everywhere = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=12, lora_dropout=0.1,
        target_modules=[
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ],
    )  # fmt: skip
    one_layer = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4, lora_dropout=0.0,
        target_modules=["self_attn.v_proj", "o_proj"], layers_to_transform=[1],
    )  # fmt: skip
    # On the model without its output layer, scaled by alpha / sqrt(r).
    features = peft.LoraConfig(
        task_type="FEATURE_EXTRACTION", r=3, lora_alpha=2, lora_dropout=0.0, use_rslora=True,
        target_modules=["self_attn.q_proj", "down_proj"],
    )  # fmt: skip
    return {
        "everywhere": (everywhere, transformers.AutoModelForCausalLM),
        "one_layer": (one_layer, transformers.AutoModelForCausalLM),
        "features": (features, transformers.AutoModel),
    }


def base(maker):
    """The model that adapters sit on, in float32."""
    return maker.from_pretrained(
        shapes.folder(BASE), dtype=torch.float32, attn_implementation="eager"
    )


def hidden(model, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states after the last norm, whatever sits on the model."""
    answer = model(ids, use_cache=False, output_hidden_states=True)
    return answer.hidden_states[-1][0]


def train(name: str, config, maker) -> None:
    """A few steps of AdamW towards random hidden states, and the adapter into its folder."""
    torch.manual_seed(len(name))
    model = peft.get_peft_model(base(maker), config)
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(STEPS):
        loss = sum((hidden(model, ids) - torch.randn(64)).square().mean() for ids in shapes.rows())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = BASE  # not where it lay when this was written
    config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps a set
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)


def adapters_golden() -> tuple[dict, dict]:
    """Hidden states under each adapter, apart and folded in."""
    for name, (config, maker) in configs().items():
        train(name, config, maker)
    makers = {name: maker for name, (_, maker) in configs().items()}
    makers["by_segue"] = transformers.AutoModelForCausalLM
    values = {}
    for name, maker in makers.items():
        if not (FOLDER / name).is_dir():
            print(f"adapters: {FOLDER / name} is not there yet, left out")
            continue
        model = peft.PeftModel.from_pretrained(base(maker), FOLDER / name).eval()
        with torch.no_grad():
            for number, ids in enumerate(shapes.rows()):
                values[f"{name}.{number}.apart"] = hidden(model, ids).clone()
            merged = model.merge_and_unload()
            for number, ids in enumerate(shapes.rows()):
                values[f"{name}.{number}.merged"] = hidden(merged, ids).clone()
    return {"peft": peft.__version__, "base": BASE}, values
