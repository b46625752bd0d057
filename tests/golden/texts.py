"""A small seeded MPNet with a tokenizer, made, saved and run by transformers, and long texts by chunks."""

import pathlib
import shutil
import string

import tokenizers
import torch
import transformers
from tokenizers import normalizers, pre_tokenizers, processors

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "mpnet"
# Tokens of a chunk, its two marks included, for the small model and for MiniLM.
CHUNK, MINILM_CHUNK = 40, 256

SENTENCES = [
    "The Long Night by Paper Lanterns",
    "a",
    "A slow song in a minor key",
]
VERSE = """We left the lights on at the harbour, and the water kept the sound,
you were counting all the lanterns, I was counting what we found.
Nobody calls this street by name now, nobody sweeps the floor,
but the radio still plays it: one for the road, and then one more.
"""
LONG = "\n".join(f"{number}.\n{VERSE}" for number in range(1, 13))


@torch.no_grad()
def texts_golden() -> tuple[dict, dict]:
    """Hidden states, sentence vectors, and the vectors of long texts."""
    torch.manual_seed(20)
    shutil.rmtree(FOLDER, ignore_errors=True)
    tokenizer = small_tokenizer()
    config = transformers.MPNetConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=24, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=40, max_position_embeddings=242,
    )  # fmt: skip
    model = transformers.MPNetModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        drawn = torch.randn_like(parameter) * (0.4 if parameter.dim() > 1 else 0.1)
        parameter.data = drawn + 1 if (parameter.data == 1).all() else drawn
    model.save_pretrained(FOLDER)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {CHUNK}}}\n')
    for path in FOLDER.iterdir():
        path.chmod(0o644)
    values = {}
    # Long enough for every bucket of distances.
    ids = torch.randint(4, config.vocab_size, (1, 240), generator=torch.Generator().manual_seed(21))
    values["states"] = model(ids).last_hidden_state
    ids_of = lambda text: tokenizer.encode(text).ids  # noqa: E731
    values["sentences"] = torch.stack([unit(model, ids_of(text)) for text in SENTENCES])
    values["long"] = by_chunks(model, ids_of(LONG), CHUNK)
    folder = HERE.parent.parent / ".models" / "minilm"
    minilm = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    whole = words(LONG, truncation=False, padding=False)["input_ids"]
    values["minilm.long"] = by_chunks(minilm, whole, MINILM_CHUNK)
    return {"sentences": SENTENCES, "long": LONG, "ids": ids[0].tolist()}, values


def unit(model, ids: list[int]) -> torch.Tensor:
    """The mean of the hidden states of a text's own tokens, of length 1."""
    states = model(torch.tensor([ids])).last_hidden_state
    return torch.nn.functional.normalize(states[0].mean(0), dim=0)


def by_chunks(model, ids: list[int], size: int) -> torch.Tensor:
    """The mean of the unit vectors of consecutive chunks, each between the marks of a text, of length 1."""
    first, last, inner = ids[0], ids[-1], ids[1:-1]
    chunks = [inner[start : start + size - 2] for start in range(0, len(inner), size - 2)]
    vectors = torch.stack([unit(model, [first, *chunk, last]) for chunk in chunks])
    return torch.nn.functional.normalize(vectors.mean(0), dim=0)


def small_tokenizer() -> tokenizers.Tokenizer:
    """Word pieces of single letters, with MPNet's marks."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["<s>", "<pad>", "</s>", "[UNK]", *letters, *(f"##{letter}" for letter in letters), "the", "night"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), False, False)
    return tokenizer
