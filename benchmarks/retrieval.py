"""How fast rankings are scored, and how much memory that takes.

    python benchmarks/retrieval.py

Prints Markdown tables: counting beside a plain Python loop and a batched argsort, the whole
evaluation beside the bare matrix product, several vectors per image beside one, and re-ranking
beside its dense definition. Every
measurement has a process of its own. Time is the best of three runs where they are short;
memory is by how much the process's peak resident size grew during them, once the
inputs lay there and the libraries were warm.
"""

import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from processes import alone, peak_mib

from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import BLOCK_BYTES, LEAST_ROWS
from pgfl.retrieval.metrics import evaluate, score
from pgfl.retrieval.rerank import evaluate_reranked

IMAGES_A_PERSON = 34
"""In the gallery, as in Occluded-Duke: 17,661 images of 519 people."""
ROWS = 64
"""Queries that the batched argsort sorts at a time."""
LOOP_SAMPLE = 20
"""Queries that the Python loop ranks; its time is scaled to all of them."""
SHORT = 20.0
"""Seconds: only measurements below this are repeated."""

Measured = tuple[float, float]
"""Seconds, and MiB of extra memory."""


def measured(work: Callable[[], object]) -> Measured:
    """Run it up to three times."""
    before = peak_mib()
    times = []
    while len(times) < 3 and sum(times) < SHORT:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times), peak_mib() - before


def ids(queries: int, images: int) -> list[np.ndarray]:
    """Query pids, gallery pids, query camids, gallery camids."""
    rng = np.random.default_rng(0)
    people = max(1, images // IMAGES_A_PERSON)
    counts = (queries, images)
    return [rng.integers(0, high, count) for high in (people, 8) for count in counts]


def features(queries: int, images: int, channels: int) -> list[np.ndarray]:
    """Query and gallery features: noise around a centre for each person."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((images // IMAGES_A_PERSON + 1, channels), dtype=np.float32)
    found = []
    for pids in ids(queries, images)[:2]:
        drawn = rng.standard_normal((len(pids), channels), dtype=np.float32)
        for start in range(0, len(pids), 4096):
            drawn[start : start + 4096] += 0.15 * centres[pids[start : start + 4096]]
        found.append(drawn)
    return found


def counting(method: str, queries: int, images: int) -> Measured:
    """Score distances that are there already."""
    rng = np.random.default_rng(2)
    distances = rng.standard_normal((queries, images), dtype=np.float32)
    arrays = ids(queries, images)
    rows = max(LEAST_ROWS, BLOCK_BYTES // (4 * images))
    blocks = [distances[start : start + rows] for start in range(0, queries, rows)]
    if method == "loop":
        sample = range(0, queries, max(1, queries // LOOP_SAMPLE))
        seconds, memory = measured(lambda: [loop(distances, query, *arrays) for query in sample])
        return seconds * queries / len(sample), memory
    score([np.ones((2, 2))], *[np.arange(2)] * 2, np.zeros(2), np.ones(2), ranks=[1])
    if method == "argsort":
        return measured(
            lambda: [argsort(distances, at, *arrays) for at in range(0, queries, ROWS)]
        )
    return measured(lambda: score(blocks, *arrays, ranks=(1, 3, 5, 10)))


def loop(
    distances: np.ndarray,
    query: int,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
) -> float:
    """Average precision of one query: sort, then walk down the list in plain Python."""
    row, pid, camera = distances[query].tolist(), q_pids[query], q_cams[query]
    pids, cameras = g_pids.tolist(), g_cams.tolist()
    rank = hits = 0
    total = 0.0
    for image in sorted(range(len(row)), key=row.__getitem__):
        if pids[image] == pid and cameras[image] == camera:
            continue
        rank += 1
        if pids[image] == pid:
            hits += 1
            total += hits / rank
    return total / max(1, hits)


def argsort(
    distances: np.ndarray,
    start: int,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
) -> np.ndarray:
    """Average precisions of some queries: sort their rows, then cumulative sums."""
    some = slice(start, start + ROWS)
    order = np.argsort(distances[some], axis=1, kind="stable")
    same = g_pids[order] == q_pids[some, None]
    kept = ~(same & (g_cams[order] == q_cams[some, None]))
    hits = same & kept
    precision = np.cumsum(hits, axis=1) / np.maximum(np.cumsum(kept, axis=1), 1)
    return (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def evaluation(method: str, queries: int, images: int, channels: int) -> Measured:
    """The whole evaluation, or a matrix product and nothing else."""
    query, gallery = features(queries, images, channels)
    arrays = ids(queries, images)
    few = [array[:64] for array in (query, gallery)]
    evaluate(*few, *[np.arange(64)] * 2, np.zeros(64), np.ones(64))
    if method in ("cosine", "euclidean"):
        return measured(lambda: evaluate(query, gallery, *arrays, metric=method))
    left, right = torch.from_numpy(query), torch.from_numpy(gallery)
    rows = queries if method == "product" else max(LEAST_ROWS, BLOCK_BYTES // (4 * images))
    out = torch.zeros(rows, images)
    return measured(
        lambda: [torch.mm(part, right.T, out=out[: len(part)]) for part in left.split(rows)]
    )


def parts(method: str, queries: int, images: int, count: int, channels: int) -> Measured:
    """The whole evaluation of an `Embedding`, or of a matrix of as many numbers per image.

    Every fourth part is hidden, and the others are seen to some degree.
    """
    query, gallery = features(queries, images, count * channels)
    arrays = ids(queries, images)
    few = [array[:64] for array in (query, gallery)]
    evaluate(*few, *[np.arange(64)] * 2, np.zeros(64), np.ones(64))
    if method == "matrix":
        return measured(lambda: evaluate(query, gallery, *arrays))
    if method == "one":
        given = tuple(Embedding(array[:, None]) for array in (query, gallery))
    else:
        rng = np.random.default_rng(3)
        given = tuple(
            Embedding(array.reshape(-1, count, channels), seen(rng, len(array), count))
            for array in (query, gallery)
        )
    return measured(lambda: evaluate(*given, *arrays))


def seen(rng: np.random.Generator, images: int, count: int) -> np.ndarray:
    """float32 (images, count): visibilities of parts, a quarter of them zero."""
    visibility = rng.random((images, count), dtype=np.float32)
    visibility[rng.random((images, count)) < 0.25] = 0
    return visibility


def reranking(method: str, queries: int, images: int, channels: int) -> Measured:
    """Re-ranking and its evaluation."""
    query, gallery = features(queries, images, channels)
    arrays = ids(queries, images)
    few = [array[:64] for array in (query, gallery)]
    evaluate_reranked(*few, *[np.arange(64)] * 2, np.zeros(64), np.ones(64))
    if method == "dense":
        return measured(lambda: score([dense(query, gallery)], *arrays, ranks=(1, 3, 5, 10)))
    return measured(lambda: evaluate_reranked(query, gallery, *arrays))


def dense(
    query: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> np.ndarray:
    """Re-ranked cosine distances from full matrices and full sorts, image after image."""
    images = np.concatenate([query, gallery])
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    original = 1 - images @ images.T
    original /= original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable")

    def mutual(image: int, k: int) -> np.ndarray:
        forward = order[image, : k + 1]
        return forward[(order[forward, : k + 1] == image).any(axis=1)]

    sets = np.zeros_like(original)
    for image in range(len(images)):
        members = expanded = mutual(image, k1)
        for member in members:
            theirs = mutual(member, round(k1 / 2))
            if len(np.intersect1d(theirs, members)) > 2 / 3 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        weights = np.exp(-original[image, expanded])
        sets[image, expanded] = weights / weights.sum()
    sets = np.stack([sets[order[image, :k2]].mean(axis=0) for image in range(len(images))])
    holders = [np.flatnonzero(column) for column in sets.T]
    final = original[: len(query)] * lambda_value
    for image in range(len(query)):
        shared = np.zeros(len(images))
        for member in np.flatnonzero(sets[image]):
            other = holders[member]
            shared[other] += np.minimum(sets[image, member], sets[other, member])
        final[image] += (1 - lambda_value) * (1 - shared / (2 - shared))
    return final[:, len(query) :]


def table(
    title: str, work: Callable[..., Measured], methods: dict[str, str], sizes: list[tuple]
) -> None:
    """Print one table; the last method's time is what the others are compared with."""
    print(f"\n### {title}\n")
    print(
        "| queries x gallery (x parts) (x channels) | method | s | extra MiB | time / last row's |"
    )
    print("| --- | --- | ---: | ---: | ---: |", flush=True)
    for size, wanted in sizes:
        results = {method: alone(work, method, *size) for method in wanted or methods}
        last = list(results.values())[-1][0]
        for method, (seconds, memory) in results.items():
            name = " x ".join(f"{number:,}" for number in size)
            times = f"{seconds / last:.2f}"
            print(
                f"| {name} | {methods[method]} | {seconds:.3f} | {memory:.0f} | {times} |",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python"
        f" {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}"
    )
    table(
        "Counting ranks in distances that are there already",
        counting,
        {
            "loop": f"Python loop (scaled from {LOOP_SAMPLE} queries)",
            "argsort": f"stable argsort, {ROWS} queries at a time",
            "ours": "counting",
        },
        [((2210, 1000), ()), ((2210, 17_661), ()), ((400, 100_000), ()), ((40, 1_000_000), ())],
    )
    table(
        "The whole evaluation beside the matrix product in it",
        evaluation,
        {
            "cosine": "evaluate, cosine",
            "euclidean": "evaluate, euclidean",
            "blocks": "matrix product in the same blocks",
            "product": "matrix product in one piece",
        },
        [((2210, 17_661, 2048), ()), ((200, 1_000_000, 256), ())],
    )
    table(
        "One vector per image given as an Embedding, beside the same matrix",
        parts,
        {"one": "Embedding, K = 1", "matrix": "matrix"},
        [((2210, 17_661, 1, 2048), ())],
    )
    table(
        "Parts with visibilities, beside one vector per image of the same length",
        parts,
        {"parts": "Embedding with visibilities", "matrix": "matrix"},
        [((2210, 17_661, 6, 256), ()), ((2210, 17_661, 9, 512), ())],
    )
    table(
        "k-reciprocal re-ranking",
        reranking,
        {"dense": "dense definition", "ours": "sparse"},
        [
            ((200, 1000, 256), ()),
            ((500, 4000, 256), ()),
            ((1000, 8000, 256), ()),
            ((2210, 17_661, 2048), ("ours",)),
        ],
    )


if __name__ == "__main__":
    main()
