#!/usr/bin/env python3
"""Writes the golden values of MusiCNN with its own code, on TensorFlow, into `musicnn.safetensors`.

TensorFlow is not among the peers of `make setup-peers` (it is large, and one script needs it): an
environment of its own, with Python 3.11,

    python3.11 -m venv /some/where
    /some/where/bin/pip install tensorflow-cpu==2.15.1 'numpy<2' librosa==0.9.2 'setuptools<80' safetensors soundfile
    /some/where/bin/pip install --no-deps musicnn==0.1.0
    /some/where/bin/python tests/golden/musicnn_values.py

The log-mel spectrogram is that of `musicnn/extractor.py` but for its cast to half precision, which
overflows on newer versions of numpy and moves the embedding by less than 2e-4. The ends of a file are
reflected, as by the librosa of the time; later ones pad with zeros.
"""

import pathlib

import librosa
import musicnn.models
import numpy
import soundfile
import tensorflow as tf
from musicnn import configuration as config
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
PATCH = librosa.time_to_frames(3, sr=config.SR, n_fft=config.FFT_SIZE, hop_length=config.FFT_HOP) + 1
# The frames of the spectrogram that are kept, to say where a difference begins.
KEPT = [0, 1, 10, 100, 373]


def log_mel(samples: numpy.ndarray) -> numpy.ndarray:
    """The spectrogram, `[frames, 96]`."""
    power = librosa.feature.melspectrogram(
        y=samples, sr=config.SR, hop_length=config.FFT_HOP, n_fft=config.FFT_SIZE, n_mels=config.N_MELS,
        pad_mode="reflect",
    ).T  # fmt: skip
    return numpy.log10(10000 * power + 1).astype(numpy.float32)


def run(model: str, labels: int, patches: numpy.ndarray) -> dict:
    """What the published network says of each patch."""
    tf.compat.v1.reset_default_graph()
    with tf.name_scope("model"):
        x = tf.compat.v1.placeholder(tf.float32, [None, PATCH, config.N_MELS])
        training = tf.compat.v1.placeholder(tf.bool)
        made = musicnn.models.define_model(x, training, model, labels)
    names = ["logits", "timbral", "temporal", "cnn1", "cnn2", "cnn3", "mean_pool", "max_pool", "penultimate"]
    with tf.compat.v1.Session() as session:
        folder = pathlib.Path(musicnn.models.__file__).parent / model
        tf.compat.v1.train.Saver().restore(session, f"{folder}/")
        values = session.run(list(made), feed_dict={x: patches, training: False})
    kept = {"logits", "mean_pool", "max_pool", "penultimate"}
    return {f"{model}.{name}": value for name, value in zip(names, values) if name in kept}


def main() -> None:
    """Writes the table."""
    tf.compat.v1.disable_eager_execution()
    samples, rate = soundfile.read(HERE / "audio" / "clip.wav", dtype="float32")
    assert rate == config.SR
    frames = log_mel(samples)
    starts = range(0, frames.shape[0] - PATCH + 1, PATCH)
    patches = numpy.stack([frames[start : start + PATCH] for start in starts])
    values = {"log_mel": frames[KEPT]}
    for model, labels in [("MTT_musicnn", config.MTT_LABELS), ("MSD_musicnn", config.MSD_LABELS)]:
        values.update(run(model, len(labels), patches))
    save_file({name: numpy.ascontiguousarray(value) for name, value in values.items()}, HERE / "musicnn.safetensors")
    (HERE / "musicnn.safetensors").chmod(0o644)
    print({name: value.shape for name, value in values.items()})


if __name__ == "__main__":
    main()
