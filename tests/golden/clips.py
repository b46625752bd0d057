"""Cuts the clips of `audio/` from a song that is free to pass on, in each format that is decoded.

    apt-get download fretsonfire-songs-sectoid && dpkg-deb -x fretsonfire-songs-sectoid_*.deb songs
    .venv/bin/python tests/golden/clips.py "songs/usr/share/games/fretsonfire/data/songs/sectoid/Metal madness/song.ogg"

The song is "Metal madness" by Sectoid (Carlos Viola Iborra), under the licence in `audio/LICENSE`. Lossy
encoders differ from version to version: the clips are kept, and values of what is in them are made
from the kept files (`sound.py`).
"""

import pathlib
import sys

import av
import librosa
import numpy
import soundfile

FOLDER = pathlib.Path(__file__).resolve().parent / "audio"
# Seconds: where the clips begin, and how long they are.
BEGIN = 30.0
SHORT = 5.0
PATCHES = 6.0


def main() -> None:
    """Writes every clip."""
    song = sys.argv[1]
    stereo, rate = librosa.load(song, sr=None, mono=False, offset=BEGIN, duration=SHORT)
    mono = librosa.resample(stereo.mean(axis=0), orig_sr=rate, target_sr=22050)
    soundfile.write(FOLDER / "clip.flac", mono, 22050, subtype="PCM_16")
    soundfile.write(FOLDER / "clip.ogg", stereo.T, rate, subtype="VORBIS", compression_level=0.7)
    soundfile.write(FOLDER / "clip.mp3", stereo.T, rate, subtype="MPEG_LAYER_III", compression_level=0.6)
    aac(FOLDER / "clip.m4a", "mp4", stereo, rate)
    aac(FOLDER / "clip.aac", "adts", stereo, rate)
    longer, rate = librosa.load(song, sr=16000, mono=True, offset=BEGIN, duration=10.0)
    first = longer[: int(PATCHES * rate)]
    soundfile.write(FOLDER / "clip.wav", first, rate, subtype="PCM_16")


def aac(path: pathlib.Path, container: str, stereo: numpy.ndarray, rate: int) -> None:
    """One AAC file by FFmpeg's encoder."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream("aac", rate=rate, layout="stereo")
        stream.bit_rate = 80_000
        for start in range(0, stereo.shape[1], 1024):
            piece = numpy.ascontiguousarray(stereo[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


if __name__ == "__main__":
    main()
