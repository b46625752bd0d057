"""hnswlib, faiss and usearch over the vectors that it is told, one thread, each as its authors wrote it.

Reads its task as JSON from standard input; the vectors (length 1), queries and true neighbours are files of
raw numbers. For each peer: the time that inserting takes, the memory that it adds, recall@k and queries a
second along ef, and whether every vector is found by itself at ef 64. Writes one JSON object as its last line.
All times are the process's own on a core, the best of some repeats.
"""

import importlib.metadata
import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import faiss  # noqa: E402
import hnswlib  # noqa: E402
import numpy  # noqa: E402
import psutil  # noqa: E402
import usearch.index  # noqa: E402

CHUNK = 1000


class Hnswlib:
    name = "hnswlib"

    def __init__(self, task: dict) -> None:
        self.index = hnswlib.Index(space="ip", dim=task["dimensions"])
        self.index.init_index(max_elements=task["count"], M=task["m"], ef_construction=task["ef_construction"])
        self.index.set_num_threads(1)

    def add(self, rows: numpy.ndarray, first: int) -> None:
        self.index.add_items(rows, numpy.arange(first, first + len(rows)), num_threads=1)

    def set_ef(self, ef: int) -> None:
        self.index.set_ef(ef)

    def search(self, queries: numpy.ndarray, k: int) -> numpy.ndarray:
        return self.index.knn_query(queries, k=k, num_threads=1)[0]


class Faiss:
    name = "faiss-cpu"

    def __init__(self, task: dict) -> None:
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(task["dimensions"], task["m"], faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = task["ef_construction"]

    def add(self, rows: numpy.ndarray, first: int) -> None:
        self.index.add(rows)

    def set_ef(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef

    def search(self, queries: numpy.ndarray, k: int) -> numpy.ndarray:
        return self.index.search(queries, k)[1]


class Usearch:
    name = "usearch"

    def __init__(self, task: dict) -> None:
        self.index = usearch.index.Index(
            ndim=task["dimensions"], metric="ip", dtype="f32",
            connectivity=task["m"], expansion_add=task["ef_construction"],
        )  # fmt: skip

    def add(self, rows: numpy.ndarray, first: int) -> None:
        self.index.add(numpy.arange(first, first + len(rows)), rows, threads=1)

    def set_ef(self, ef: int) -> None:
        self.index.expansion_search = ef

    def search(self, queries: numpy.ndarray, k: int) -> numpy.ndarray:
        return self.index.search(queries, k, threads=1).keys


def resident() -> int:
    return psutil.Process().memory_info().rss


def measure(kind: type, task: dict, rows: numpy.ndarray, queries: numpy.ndarray, truth: numpy.ndarray) -> dict:
    k = truth.shape[1]
    before = resident()
    index = kind(task)
    begun = time.process_time()
    for first in range(0, len(rows), CHUNK):
        index.add(rows[first : first + CHUNK], first)
    inserting = time.process_time() - begun
    memory = resident() - before
    curve = []
    for ef in task["breadths"]:
        index.set_ef(ef)
        found = index.search(queries, k)
        hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        best = float("inf")
        for _ in range(task["repeats"]):
            begun = time.process_time()
            index.search(queries, k)
            best = min(best, time.process_time() - begun)
        curve.append({"ef": ef, "recall": hits / truth.size, "queries_per_s": len(queries) / best})
        if hits == truth.size:
            break
    index.set_ef(64)
    own = index.search(rows, 10)
    self_recall = float((own == numpy.arange(len(rows))[:, None]).any(axis=1).mean())
    return {
        "name": kind.name,
        "version": importlib.metadata.version(kind.name),
        "inserts_per_s": len(rows) / inserting,
        "memory_bytes": memory,
        "self_recall": self_recall,
        "curve": curve,
    }


def main() -> None:
    task = json.load(sys.stdin)
    read = lambda path, kind, width: numpy.fromfile(path, dtype=kind).reshape(-1, width)  # noqa: E731
    rows = read(task["rows"], numpy.float32, task["dimensions"])
    queries = read(task["queries"], numpy.float32, task["dimensions"])
    truth = read(task["truth"], numpy.uint32, task["k"]).astype(numpy.int64)
    kinds = {kind.name: kind for kind in (Hnswlib, Faiss, Usearch)}
    found = [measure(kinds[name], task, rows, queries, truth) for name in task["peers"]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
