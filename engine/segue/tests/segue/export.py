"""What pandas and Hugging Face datasets read in a folder of `segue export`, as one JSON object.

Beside counting, it asserts what the card promises: splits by time, sessions that are whole, ratios
that are what the other columns say.
"""

import json
import os
import pathlib
import sys

# Nothing is asked of the hub: the folder has all there is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = sys.argv[2]

import datasets  # noqa: E402
import numpy  # noqa: E402
import pandas  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

SPLITS = ["train", "validation", "test"]


def main(folder: pathlib.Path, cache: str) -> dict:
    datasets.disable_progress_bars()
    frames = {
        path.stem: pandas.read_parquet(path) for path in (folder / "interactions").glob("*.parquet")
    }
    sessions = pandas.read_parquet(folder / "sessions.parquet")
    tracks = pandas.read_parquet(folder / "tracks.parquet")
    plays = pandas.concat([frames[split] for split in SPLITS if split in frames])
    promised(frames, plays, sessions, tracks)

    configured = datasets.load_dataset(str(folder), "interactions", cache_dir=cache)
    by_default = datasets.load_dataset(str(folder), cache_dir=cache)
    named = datasets.load_dataset(
        "parquet",
        data_files={split: str(folder / "interactions" / f"{split}.parquet") for split in frames},
        cache_dir=cache,
    )
    for split, frame in frames.items():
        for read in (configured, by_default, named):
            same(read[split].to_pandas(), frame)
    others = {
        name: datasets.load_dataset(str(folder), name, split="train", cache_dir=cache)
        for name in ("sessions", "tracks")
    }
    same(others["sessions"].to_pandas(), sessions)
    same(others["tracks"].to_pandas(), tracks)
    started = configured["train"].features["started_at"]
    assert started.dtype == "timestamp[ms, tz=UTC]", started

    features = {}
    if (folder / "features.safetensors").exists():
        features = load_file(folder / "features.safetensors")
        for name, rows in features.items():
            assert len(rows) == len(tracks), name
            if not name.endswith(".known"):
                known = features[f"{name}.known"]
                assert numpy.isfinite(rows).all() and not rows[~known].any(), name
                assert (numpy.abs(rows[known]).sum(axis=1) > 0).all(), name
    return {
        "pandas": counts(frames, sessions, tracks),
        "datasets": counts(configured, others["sessions"], others["tracks"]),
        "features": {name: list(rows.shape) for name, rows in features.items()},
        "versions": {"pandas": pandas.__version__, "datasets": datasets.__version__},
    }


def promised(frames, plays, sessions, tracks) -> None:
    """What the card says of the rows."""
    bounds = [
        (frames[split]["started_at"].min(), frames[split]["started_at"].max())
        for split in SPLITS
        if split in frames and len(frames[split])
    ]
    for (_, last), (first, _) in zip(bounds, bounds[1:]):
        assert last < first, (last, first)
    assert str(plays["started_at"].dtype) == "datetime64[ms, UTC]", plays["started_at"].dtype
    by_session = plays.sort_values(["session", "position"]).groupby("session")
    sizes = by_session.size()
    assert (sizes.to_numpy() == sessions.set_index("session")["plays"].loc[sizes.index].to_numpy()).all()
    assert (by_session["user"].nunique() == 1).all()
    assert by_session["started_at"].is_monotonic_increasing.all()
    heard = plays["played_ms"].notna() & plays["duration_ms"].notna() & (plays["duration_ms"] > 0)
    assert (plays["completion_ratio"].notna() == heard).all()
    said = plays.loc[heard, "completion_ratio"].to_numpy()
    expected = (plays["played_ms"] / plays["duration_ms"]).clip(0, 1)[heard].to_numpy()
    assert numpy.allclose(said, expected, atol=1e-6)
    assert set(plays["track"]) == set(tracks["track"]) and tracks["track"].is_monotonic_increasing
    counted = plays.groupby("track").size()
    assert (counted.to_numpy() == tracks.set_index("track")["plays"].loc[counted.index].to_numpy()).all()


def same(read: pandas.DataFrame, frame: pandas.DataFrame) -> None:
    frame = frame.reset_index(drop=True)
    pandas.testing.assert_frame_equal(read, frame, check_dtype=False)


def counts(interactions, sessions, tracks) -> dict:
    return {
        "interactions": {split: len(rows) for split, rows in interactions.items()},
        "sessions": len(sessions),
        "tracks": len(tracks),
    }


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]), sys.argv[2])))
