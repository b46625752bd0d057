"""Small seeded models of sound, made, saved and run by transformers, and a module of TorchScript.

What they hear is real music: the beginning of `audio/clip.wav`.
"""

import json
import pathlib

import soundfile
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "hearing"

WAV2VEC2 = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "conv_dim": [12, 12, 16], "conv_stride": [5, 4, 4], "conv_kernel": [10, 3, 2],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3,
    "apply_spec_augment": False,
}  # fmt: skip
ENCODEC = {
    "num_filters": 4, "hidden_size": 12, "upsampling_ratios": [4, 3, 2], "codebook_size": 16,
    "num_lstm_layers": 2, "num_residual_layers": 2,
}  # fmt: skip


@torch.no_grad()
def hearing_golden() -> tuple[dict, dict]:
    """The hidden states of each model, and the frames of each codec."""
    samples, rate = soundfile.read(HERE / "audio" / "clip.wav", dtype="float32")
    second = torch.from_numpy(samples[:rate])[None]  # [1, samples]
    values = {}
    for name, model in transformers_models():
        save(model, name)
        said = model(second, output_hidden_states=True)
        # Where layers are normed before, some versions leave the last without its norm in the list.
        for number, states in enumerate([*said.hidden_states[:-1], said.last_hidden_state]):
            values[f"{name}.{number}"] = states
    # One that hears all at once, and one that hears pieces, in stereo.
    torch.manual_seed(11)
    codec = transformers.EncodecModel(transformers.EncodecConfig(**ENCODEC, target_bandwidths=[24.0]))
    save(filled(codec), "encodec")
    values["encodec.frames"] = codec.encoder(second[:, None, :4001])
    values["encodec.short"] = codec.encoder(second[:, None, :5])
    config = transformers.EncodecConfig(
        **ENCODEC, audio_channels=2, sampling_rate=8000, normalize=True, chunk_length_s=0.25,
        overlap=0.01, norm_type="time_group_norm", use_causal_conv=False, use_conv_shortcut=False,
        target_bandwidths=[24.0],
    )  # fmt: skip
    codec = transformers.EncodecModel(config)
    save(filled(codec), "encodec_stereo")
    stereo = torch.stack([second[0, :5000], second[0, 3000:8000]])[None]
    frames = []
    for start in range(0, stereo.shape[2], config.chunk_stride):
        chunk = stereo[..., start : start + config.chunk_length]
        mono = chunk.sum(1, keepdim=True) / 2
        scale = mono.pow(2).mean(dim=-1, keepdim=True).sqrt() + 1e-8  # as in `_encode_frame`
        frames.append(codec.encoder(chunk / scale))
    values["encodec_stereo.vector"] = torch.cat(frames, dim=2).mean(dim=(0, 2))
    values["module.vector"] = module(second)
    return {"wav2vec2": WAV2VEC2, "encodec": ENCODEC}, values


def transformers_models():
    """The four kinds: positions by one convolution or several, layers normed before or after."""
    torch.manual_seed(10)
    plain = transformers.Wav2Vec2Config(**WAV2VEC2)
    yield "wav2vec2", filled(transformers.Wav2Vec2Model(plain))
    stable = transformers.HubertConfig(
        **{**WAV2VEC2, "num_conv_pos_embeddings": 15}, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True
    )
    yield "hubert", filled(transformers.HubertModel(stable))
    several = transformers.Data2VecAudioConfig(**{**WAV2VEC2, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=7)
    yield "data2vec", filled(transformers.Data2VecAudioModel(several))


def filled(model):
    """Every parameter from chance: those that begin as 0 or 1 would hide a mistake."""
    for parameter in model.parameters():
        spread = 0.3 if parameter.dim() > 1 else 0.1
        drawn = torch.randn_like(parameter) * spread
        parameter.data = drawn.abs() + 0.5 if (parameter.data == 1).all() else drawn
    return model.eval()


def save(model, name: str) -> None:
    """In the form that transformers gives it."""
    model.save_pretrained(FOLDER / name)
    if name != "encodec" and name != "encodec_stereo":
        (FOLDER / name / "preprocessor_config.json").write_text(
            json.dumps({"sampling_rate": 16000, "do_normalize": False}) + "\n"
        )
    for path in (FOLDER / name).iterdir():
        path.chmod(0o644)


class Ears(torch.nn.Module):
    """Something that hears, with several outputs."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv1d(1, 6, 400, 160)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        frames = torch.tanh(self.convolution(samples[:, None]))
        return {"frames": frames.transpose(1, 2), "loudness": samples.abs().mean(1, keepdim=True)}


def module(second: torch.Tensor) -> torch.Tensor:
    """Exports it, and says what the vector of its frames is."""
    torch.manual_seed(12)
    ears = Ears().eval()
    torch.jit.script(ears).save(str(FOLDER / "ears.pt"))
    half = second.shape[1] // 2
    (FOLDER / "ears.toml").write_text(
        'module = "ears.pt"\nrate = 16000\nseconds = 0.5\noutput = "frames"\npooling = "max"\n'
    )
    pieces = [ears(second[:, :half]), ears(second[:, half:])]
    return torch.stack([piece["frames"].amax(dim=(0, 1)) for piece in pieces]).mean(dim=0)
