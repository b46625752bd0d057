"""The 63 numbers that librosa finds in a clip, and the clip at other rates by the resampler it uses."""

import pathlib

import librosa
import numpy
import soundfile
import torch

CLIPS = pathlib.Path(__file__).resolve().parent / "audio"
# What is kept of a resampled clip, in seconds.
KEPT = (1.0, 1.25)


def sound_golden() -> tuple[dict, dict]:
    """Values of `clip.flac` as it is, mono at 22 050 samples a second, and of one with no beat."""
    samples, rate = soundfile.read(CLIPS / "clip.flac", dtype="float32")
    drone = numpy.sin(2 * numpy.pi * 440 * numpy.arange(2 * rate) / rate).astype(numpy.float32) / 2
    values = {"clip": numbers(samples, rate), "drone": numbers(drone, rate)}
    for other in (16000, 48000):
        whole = librosa.resample(samples, orig_sr=rate, target_sr=other, res_type="soxr_vhq")
        values[f"at_{other}"] = whole[int(KEPT[0] * other) : int(KEPT[1] * other)]
    return {"librosa": librosa.__version__, "kept": KEPT}, {
        name: torch.from_numpy(value) for name, value in values.items()
    }


def numbers(y: numpy.ndarray, sr: int) -> numpy.ndarray:
    """Means and deviations over time of librosa's features with their defaults, and the tempo."""
    features = [
        librosa.feature.mfcc(y=y, sr=sr),
        librosa.feature.spectral_centroid(y=y, sr=sr),
        librosa.feature.spectral_contrast(y=y, sr=sr),
        librosa.feature.spectral_rolloff(y=y, sr=sr),
        librosa.feature.rms(y=y),
        librosa.feature.zero_crossing_rate(y),
    ]
    found = [part for feature in features for part in (feature.mean(axis=1), feature.std(axis=1))]
    tempo, _ = librosa.beat.beat_track(y=y, sr=sr)
    return numpy.concatenate([*found, numpy.atleast_1d(tempo)]).astype(numpy.float32)
