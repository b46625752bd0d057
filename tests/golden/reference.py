#!/usr/bin/env python3
"""Writes the golden values of this folder with the reference implementation, Hugging Face transformers.

    make setup setup-peers
    .venv/bin/python tests/golden/reference.py [NAME ...]

The names are those of the tables: all of them, or the ones that are asked for.
- `minilm`, `smollm2`: the real weights of `make setup`;
- `shapes`: small seeded models of each family that transformers makes and saves (`shapes.py`);
- `adapters`: adapters that PEFT trains on one of those, and one that Segue trained (`adapters.py`);
- `blocks`: quantised blocks as the `gguf` package reads them (`blocks.py`);
- `files`: a small model as a GGUF file, as transformers reads it (`files.py`);
- `fusion`: vectors of tracks by the modules of PyTorch (`fusion.py`);
- `hearing`: small seeded models of sound that transformers makes and saves, and a module of
  TorchScript (`hearing.py`);
- `sound`: what librosa finds in a clip of music (`sound.py`);
- `texts`: a small seeded MPNet, and long texts by chunks (`texts.py`).

The values of MusiCNN are of its own code on TensorFlow: `musicnn_values.py`. The clips are cut by
`clips.py`.

The tests of `engine/encode`, `engine/nn` and `engine/e4srec` hold our own implementation against what is written
here.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import platform
import sys

import safetensors
import torch
import transformers
from safetensors.torch import save_file

sys.dont_write_bytecode = True  # no __pycache__ in the checkout

from adapters import adapters_golden  # noqa: E402
from blocks import blocks_golden  # noqa: E402
from files import files_golden  # noqa: E402
from fusion import fusion_golden  # noqa: E402
from hearing import hearing_golden  # noqa: E402
from shapes import shapes_golden  # noqa: E402
from sound import sound_golden  # noqa: E402
from texts import texts_golden  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent.parent / ".models"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEPTH = 4
CONTINUED = 16

SENTENCES = [
    "The Long Night by Paper Lanterns",
    "a",
    "Ænima — Ça ira, 東京 (Live at the Harbour, 1999) [Remastered]",
    "This is an example sentence",
    "An instrumental for strings, slow and in a minor key",
    "la " * 200 + "coda",
]
PROMPTS = {
    "capital": "The capital of France is",
    "music": "The Beatles were an English rock band formed in",
    "chat": "<|im_start|>user\nName a song.<|im_end|>\n<|im_start|>assistant\n",
    "digits": "In 1969, 12 of 34 songs — “déjà vu” — were 5:07 long.",
}


@torch.no_grad()
def minilm() -> tuple[dict, dict]:
    """Sentence embeddings as the model's card computes them: mean over tokens, scaled to length 1."""
    folder = MODELS / "minilm"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=256
    )
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows, ids = [], []
    for sentence in SENTENCES:  # each alone: no padding
        words = tokenizer(sentence, truncation=True, padding=False, return_tensors="pt")
        states = model(words["input_ids"], attention_mask=words["attention_mask"]).last_hidden_state
        rows.append(torch.nn.functional.normalize(states[0].mean(0), dim=0))
        ids.append(words["input_ids"][0].tolist())
    about = {"sentences": SENTENCES, "ids": ids, "weights": sha256(folder / "model.safetensors")}
    return about, {"embeddings": torch.stack(rows)}


@torch.no_grad()
def smollm2() -> tuple[dict, dict]:
    """Hidden states after the last norm, of the model cut to its first layers and of all of it."""
    folder = MODELS / "smollm2-135m"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    prompts, values = {}, {}
    for kind, suffix in ((torch.float32, ""), (torch.bfloat16, ".bf16")):
        whole = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=GGUF, dtype=kind, attn_implementation="eager"
        ).eval()
        for name, prompt in PROMPTS.items():
            ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
            if kind == torch.float32:
                said = whole.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=CONTINUED,
                    do_sample=False, repetition_penalty=1.0, eos_token_id=None, pad_token_id=0,
                )  # fmt: skip
                prompts[name] = {
                    "prompt": prompt,
                    "ids": ids[0].tolist(),
                    "greedy": said[0, ids.shape[1] :].tolist(),
                }
            last = whole.model(ids, use_cache=False).last_hidden_state[0, -1]
            values[f"{name}.last_of_all_layers{suffix}"] = last.clone()
        layers = whole.model.layers
        whole.model.layers = layers[:DEPTH]
        whole.config.num_hidden_layers = DEPTH
        for name, prompt in prompts.items():
            cut = whole.model(torch.tensor([prompt["ids"]]), use_cache=False).last_hidden_state[0]
            values[f"{name}.cut{suffix}"] = cut.clone()
    about = {"depth": DEPTH, "layers": len(layers), "prompts": prompts}
    return {**about, "weights": sha256(folder / GGUF)}, values


def sha256(path: pathlib.Path) -> str:
    """The checksum of the weights that the values hold for."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Writes a table of values and what they are of, for each model."""
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    by = {
        "implementation": "transformers on a CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "gguf": importlib.metadata.version("gguf"),
    }
    tables = {
        "minilm": minilm,
        "smollm2": smollm2,
        "shapes": shapes_golden,
        "adapters": adapters_golden,
        "blocks": blocks_golden,
        "files": files_golden,
        "fusion": fusion_golden,
        "hearing": hearing_golden,
        "sound": sound_golden,
        "texts": texts_golden,
    }
    unknown = [name for name in sys.argv[1:] if name not in tables]
    if unknown:
        sys.exit(f"reference: no table is called {unknown}; there are {list(tables)}")
    for name in sys.argv[1:] or tables:
        make = tables[name]
        about, values = make()
        text = json.dumps({"by": by, **about}, indent=1, ensure_ascii=False)
        (HERE / f"{name}.json").write_text(text + "\n")
        table = HERE / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in values.items()}, table)
        table.chmod(0o644)
        print(name, {key: tuple(value.shape) for key, value in values.items()})


if __name__ == "__main__":
    main()
