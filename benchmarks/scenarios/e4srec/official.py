"""E4SRec as its authors run it (HestiaSky/E4SRec, model.py and inference.py), on the weights it is told.

The prompt is embed(instruction) + input_proj(item vectors, padded on the left) + embed(response) in Alpaca's
words; the last hidden state goes through Linear(hidden, items) without a bias; the best items of the softmax
over the whole catalogue are the answer. The vectors are drawn from chance: what is measured is time. Reads its
task as JSON from standard input and writes one JSON object as its last line.
"""

import json
import sys
import time

import torch
import transformers

INSTRUCTION = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\nGiven the user's purchase "
    "history, predict next possible item to be purchased.\n\n### Input:\n"
)
RESPONSE = "\n\n### Response:\n"
WIDTH = 64


class E4SRec(torch.nn.Module):
    def __init__(self, task: dict, kind: torch.dtype, device: str) -> None:
        super().__init__()
        folder, gguf = task["folder"], task["gguf"]
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
        whole = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32)
        self.llama = whole.model
        self.llama.layers = self.llama.layers[: task["depth"]]
        self.llama.config.num_hidden_layers = task["depth"]
        hidden = self.llama.config.hidden_size
        self.items = torch.nn.Embedding(task["items"] + 1, WIDTH, padding_idx=0)
        self.input_proj = torch.nn.Linear(WIDTH, hidden)
        self.score = torch.nn.Linear(hidden, task["items"], bias=False)
        self.to(device=device, dtype=kind)
        ids = lambda text: tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(device)  # noqa: E731
        self.instruction = self.llama.embed_tokens(ids(INSTRUCTION)).detach()
        self.response = self.llama.embed_tokens(ids(RESPONSE)).detach()

    def forward(self, items: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows = items.shape[0]
        begin, end = self.instruction.expand(rows, -1, -1), self.response.expand(rows, -1, -1)
        inputs = torch.cat([begin, self.input_proj(self.items(items)), end], dim=1)
        seen = torch.cat([mask.new_ones(rows, begin.shape[1]), mask, mask.new_ones(rows, end.shape[1])], dim=1)
        out = self.llama(inputs_embeds=inputs, attention_mask=seen, use_cache=False)
        return self.score(out.last_hidden_state[:, -1])


@torch.inference_mode()
def answers_per_second(task: dict, kind: torch.dtype, device: str) -> float:
    torch.manual_seed(0)
    model = E4SRec(task, kind, device).eval()
    batches = []
    for rows in task["batches"]:
        length = max(len(row) for row in rows)
        items = torch.tensor([[0] * (length - len(row)) + row for row in rows], device=device)
        batches.append((items, (items != 0).long()))
    count = 0
    for number, (items, mask) in enumerate([batches[0], *batches]):
        if number == 1:  # the first one warms up
            begun = time.perf_counter()
        probabilities = torch.softmax(model(items, mask).float(), dim=-1)
        best = probabilities.topk(task["limit"]).indices.tolist()
        count += len(best) if number else 0
    return count / (time.perf_counter() - begun)


def main() -> None:
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    device = "cuda" if task["cuda"] else "cpu"
    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        found[name] = answers_per_second(task, kind, device)
    about = f"torch {torch.__version__}, transformers {transformers.__version__}, {device}"
    print(json.dumps({"by_kind": found, "about": about}))


if __name__ == "__main__":
    main()
