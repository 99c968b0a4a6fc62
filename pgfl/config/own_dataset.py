"""What somebody with a table of own images writes into config.yaml."""

import re
from pathlib import Path

import pandas as pd
import yaml

from pgfl.config.combinations import RESERVED
from pgfl.config.load import load_config
from pgfl.datasets.registry import TRAIN_SET
from pgfl.runtime.messages import LOWER_NAME


def config_lines(path: Path, folder: Path, table: pd.DataFrame) -> list[str]:
    """What to paste into config.yaml for a table, and what to type then."""
    name = re.sub("[^a-z0-9_]", "_", path.stem.lower())
    if not re.fullmatch(LOWER_NAME, name) or name in {*TRAIN_SET, *RESERVED}:
        name = "mine"
    people = table["pid"][table["split"] == "train"].nunique()
    own = {"table": str(path), "images": str(folder)}
    own |= {} if people else {"models_of": "market1501"}
    flow = yaml.safe_dump(own, default_flow_style=True, sort_keys=False, width=9999)
    lines = ["", "Paste this into config.yaml:", "", "datasets:", f"  {name}: {flow.strip()}"]
    if 0 < people < load_config({}).training.identities:
        lines.append(
            f"training: {{identities: {people}}}  # people in a batch: no more than there are"
        )
    made = f"{name if people else 'market1501'}/pgfl_kd/seed0"
    tests = "query" in set(table["split"])
    return [
        *lines,
        "",
        "Then check all of it, and train:",
        "",
        f"snakemake data/demo/{name}/manifest.csv",
        f"snakemake runs/demo/{made}/{f'eval/{name}.json' if tests else 'model.safetensors'}",
    ]
