"""Any evaluation makes a table whose numbers are in it, or is refused with a line naming it."""

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.reporting.more.comparison import write_comparison
from pgfl.reporting.paper.specs import comparison_spec
from pgfl.reporting.trace import follow
from pgfl.runtime.files import read_json

REPORT = {
    **{"rank1": 50.0, "rank3": 60.0, "rank5": 70.0, "rank10": 80.0, "mAP": 40.0},
    **{"train_set": "market1501", "dataset": "market1501", "seed": 0},
    "counts": {"query": 10, "gallery": 20, "query_identities": 5, "valid_query": 10},
    "chance": {"rank1": 1.0, "mAP": 2.0},
    "protocol": "multi_shot",
    "rerank": False,
    "model_sha256": "0" * 64,
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 200)
    | st.sampled_from([10**400, math.nan, math.inf, -0.0, 100.0, "50", "nan", "a\nb", "|"])
    | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs' folders with an evaluation each."""
    root = tmp_path_factory.mktemp("runs")
    for variant in ("one", "two"):
        folder = root / "market1501" / variant / "seed0" / "eval"
        folder.mkdir(parents=True)
        (folder / "market1501.json").write_text(json.dumps(REPORT))
    return root


SPEC = comparison_spec("c", ["one", "two"], "one", ["market1501"])


def check_table(clear, runs, tmp_path, content):
    files = {
        (variant, "market1501"): [runs / f"market1501/{variant}/seed0/eval/market1501.json"]
        for variant in ("one", "two")
    }
    changed = files["two", "market1501"][0]
    changed.write_bytes(content)
    out = tmp_path / "compare.csv"
    clear(write_comparison, SPEC, files, "demo", out, named=[changed])
    if out.exists():
        assert "nan" not in out.read_text() and "inf" not in out.read_text()
        numbers = [line.split(",") for line in out.read_text().splitlines()]
        assert len({len(line) for line in numbers}) == 1
        assert math.isfinite(float(numbers[2][numbers[0].index("market1501.rank1")]))
        out.unlink()


@given(st.data())
def test_an_evaluation_with_odd_values_is_used_or_named(clear, runs, tmp_path, data):
    report = copy.deepcopy(REPORT)
    for _ in range(data.draw(st.integers(1, 3))):
        section = data.draw(st.sampled_from([report, report["counts"], report["chance"]]))
        key = data.draw(st.sampled_from(sorted(section)))
        if section is report and key in ("counts", "chance"):
            continue
        section[key] = data.draw(VALUES)
    for key in ("counts", "chance"):
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            report[key] = data.draw(VALUES)
    check_table(clear, runs, tmp_path, json.dumps(report).encode())


@given(st.data())
def test_a_damaged_evaluation_is_used_or_named(clear, damaged, runs, tmp_path, data):
    content = data.draw(damaged(json.dumps(REPORT).encode()))
    check_table(clear, runs, tmp_path, content)


@given(st.data())
def test_any_text_is_json_or_named(clear, tmp_path, data):
    path = tmp_path / "x.json"
    odd = [b"[" * 100_000, b"9" * 5000, b"\xff", b"", b'"\\ud800"', b"NaN"]
    path.write_bytes(data.draw(st.binary(max_size=20) | st.sampled_from(odd)))
    clear(read_json, path, named=[path])


@given(st.data())
def test_a_damaged_trace_is_followed_or_named(clear, damaged, runs, tmp_path, data):
    files = {
        (variant, "market1501"): [runs / f"market1501/{variant}/seed0/eval/market1501.json"]
        for variant in ("one", "two")
    }
    for (file,) in files.values():
        file.write_text(json.dumps(REPORT))
    out = tmp_path / "compare.csv"
    write_comparison(SPEC, files, "demo", out)
    trace = tmp_path / "compare.trace.json"
    content = trace.read_bytes()
    if data.draw(st.booleans()):
        trace.write_bytes(data.draw(damaged(content)))
    else:
        parts = json.loads(content)
        parts[data.draw(st.sampled_from(sorted(parts)))] = data.draw(VALUES)
        trace.write_text(json.dumps(parts))
    clear(follow, out, named=[tmp_path, runs, ": no such file"])
