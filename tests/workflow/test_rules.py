"""What holds of every rule."""

import json

LISTING = """
import json
Path("rules.json").write_text(json.dumps([
    [rule.name, len(rule.output), list(rule.output.keys()), rule.shellcmd]
    for rule in workflow.rules if rule.name != "all"
]))
"""


def test_every_output_of_a_rule_is_named_on_its_command_line(project):
    with (project.root / "Snakefile").open("a") as snakefile:
        snakefile.write(LISTING)
    project.snakemake("--list-rules")
    rules = json.loads((project.root / "rules.json").read_text())
    assert len(rules) > 25
    for rule, outputs, names, command in rules:
        assert len(names) == outputs or (outputs == 1 and not names), rule
        for written in [f"{{output.{name}:q}}" for name in names] or ["{output:q}"]:
            assert written in command, f"{rule}: {written} is not in {command}"
