"""Features that another program made: ranked and scored as ours are."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.nn.embedding import Embedding
from pgfl.retrieval.distances import Metric
from pgfl.retrieval.protocols import Protocol
from pgfl.retrieval.stage import write_evaluation
from pgfl.runtime.files import file_hash
from pgfl.runtime.messages import few, shown
from pgfl.runtime.provenance import code_hash

SPLITS = ("query", "gallery")


def score_features(
    features: Path,
    manifest: Path,
    out: Path,
    *,
    names: Path | None = None,
    metric: Metric = "cosine",
    protocol: Protocol = "multi_shot",
    rerank: bool = False,
    queries: Path | None = None,
    run: dict[str, object] | None = None,
) -> dict[str, object]:
    """Evaluate given features on the query and gallery splits of a manifest.

    Args:
        features: as `read_foreign` reads it.
        manifest: of the test set.
        out: the JSON to write.
        names: of the images, beside a `.npy`.
        metric: `cosine` or `euclidean`.
        protocol: `multi_shot` or `single_shot`.
        rerank: whether the distances are re-ranked.
        queries: a CSV to write, too: what became of each query.
        run: what is evaluated, some of `pgfl.retrieval.stage.RUN_KEYS` with their values.

    Returns:
        What was written: the report of any evaluation; `method` is `foreign` if not said.

    Raises:
        UserError: a file cannot be read, images lack their features, or no query has a match.
    """
    found, embedding = read_foreign(features, names)
    splits = {split: read_manifest(manifest, split) for split in SPLITS}
    rows = rows_of(found, splits, features)
    how = {"metric": metric, "feature": "after_bnneck", "protocol": protocol, "rerank": rerank}
    made_of = {
        "features_sha256": file_hash(features),
        "manifest_sha256": file_hash(manifest),
        "code": code_hash("pgfl.retrieval.foreign"),
    }
    embeddings = {split: embedding[rows[split]] for split in SPLITS}
    run = {"method": "foreign"} | (run or {})
    return write_evaluation(out, embeddings, splits, manifest, run, how, made_of, queries)


def read_foreign(path: Path, names: Path | None = None) -> tuple[list[str], Embedding]:
    """Features and the names of their images.

    Args:
        path: a `.npz` with `names` (N,) and `features` (N, c) or (N, K, c), and perhaps
            `visibility` (N, K); or a `.npy` of features alone.
        names: beside a `.npy`: a text file in UTF-8, one name per line.

    Returns:
        N names, and the embedding in float32.

    Raises:
        UserError: a file is missing, damaged, holds objects or something else, or the numbers of
            names and features differ.
    """
    if (path.suffix == ".npy") != (names is not None):
        raise UserError(f"{path}: give --names with a .npy, and only with one")
    try:
        content = np.load(path, allow_pickle=False)
        if names is not None:
            listed = names.read_text(encoding="utf-8").splitlines()
            arrays = {"features": content}
        else:
            with content:
                arrays = {key: content[key] for key in content.files}
            listed = arrays["names"].astype(str).ravel().tolist()
        vectors = np.asarray(arrays["features"])
        if vectors.dtype.kind != "f" or vectors.ndim not in (2, 3) or 0 in vectors.shape:
            raise ValueError(f"features are {vectors.dtype} {vectors.shape}, not (N, c) of floats")
        if len(listed) != len(vectors):
            raise ValueError(f"{len(listed)} names for {len(vectors)} features")
        seen = arrays.get("visibility")
        embedding = Embedding(
            vectors.astype(np.float32), None if seen is None else seen.astype(np.float32)
        )
    except KeyError as error:
        raise UserError(
            f"{path}: has no array {error.args[0].split()[0]!r}; needed: names, features"
        ) from None
    except Exception as error:  # zip, zlib and NumPy raise many kinds for a damaged file
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be used: {reason}") from None
    return listed, embedding


def rows_of(
    names: Sequence[str], splits: dict[str, pd.DataFrame], path: Path
) -> dict[str, np.ndarray]:
    """For the images of each split, the rows of their features.

    A feature belongs to the image that the manifest names so, or to the only one with this file
    name. Features of other images (those trained on) are passed over.

    Args:
        names: of the features' images.
        splits: rows of the manifest.
        path: of the features, for messages.

    Raises:
        UserError: images lack their features, or have two.
    """
    images = dict.fromkeys(image for table in splits.values() for image in table["image"])
    alone: dict[str, str | None] = {}
    for image in images:
        base = PurePosixPath(image).name
        alone[base] = None if base in alone else image
    places: dict[str, int] = {}
    twice = []
    for row, name in enumerate(names):
        plain = name.replace("\\", "/").removeprefix("./")
        image = plain if plain in images else alone.get(PurePosixPath(plain).name)
        if image in places:
            twice.append(image)
        elif image is not None:
            places[image] = row
    missing = [image for image in images if image not in places]
    for wrong, what in ((missing, "no features of"), (twice, "more than one feature of")):
        if wrong:
            raise UserError(f"{path}: {what} {', '.join(few([shown(image) for image in wrong]))}")
    return {
        split: np.array([places[image] for image in table["image"]], dtype=np.int64)
        for split, table in splits.items()
    }
