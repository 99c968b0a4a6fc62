"""What holds of every rule."""

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_output_of_a_rule_is_named_on_its_command_line(rules):
    for rule in rules:
        for name in rule.outputs:
            written = f"{{output.{name}:q}}" if name else "{output:q}"
            # The one command of both evaluations gets this one as a parameter: see below.
            if (rule.name, name) != ("evaluate", "queries"):
                assert written in rule.command, f"{rule.name}: {written} is not in its command"


def test_an_evaluation_names_what_its_pictures_are_made_of(project):
    run = "runs/demo/market1501/baseline/seed0"
    evaluation = f"{run}/eval/market1501.queries.csv"
    _, output = project.snakemake("-n", "-p", "--cores", "1", "--", evaluation)
    (command,) = [line for line in output.splitlines() if "pgfl evaluate" in line]
    words = shlex.split(command)
    assert words[words.index("--queries") + 1] == evaluation
    assert words[words.index("--out") + 1] == f"{run}/eval/market1501.json"


def test_every_rule_says_its_memory_and_those_with_a_network_their_gpu(rules):
    networks = {"train", "heatmaps", "evaluate", "evaluate_with_pose", "diagnosis", "speed_table"}
    networks |= {"baseline_responses", "responses", "stress_test"}
    for rule in rules:
        assert "mem_mb" in rule.resources, rule.name
        assert ("gpu" in rule.resources) == (rule.name in networks), rule.name
        assert rule.says_threads or "gpu" not in rule.resources, rule.name


def test_the_docs_name_every_rule_that_asks_for_a_gpu(rules):
    asking = {rule.name for rule in rules if "gpu" in rule.resources}
    text = (DOCS / "cluster.md").read_text()
    assert len(asking) > 5 and set(re.findall(r"(\w+):gpu=0", text)) == asking
