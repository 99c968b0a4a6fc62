import pytest

from pgfl.errors import UserError
from pgfl.reporting.report import write_report

SNAKEFILE = """
rule all:
    output:
        report("table.csv", category=config["name"]),
    shell:
        "exit 1"
"""


@pytest.fixture
def workflow(project):
    """A workflow whose only result is there already."""
    (project / "Snakefile").write_text(SNAKEFILE)
    (project / "table.csv").write_text("method,source\nBaseline,published\n")
    return project


def test_a_report_is_written_with_the_given_configuration_and_runs_nothing(workflow):
    out = workflow / "results" / "report.html"
    write_report(["table.csv"], {"name": "Made up"}, workflow / "Snakefile", out)
    assert "Made up" in out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_what_snakemake_cannot_do_is_one_line_and_leaves_nothing(workflow, capfd):
    out = workflow / "report.html"
    with pytest.raises(UserError, match="could not write the report; its messages say why"):
        write_report(["other.csv"], {"name": "Made up"}, workflow / "Snakefile", out)
    assert "other.csv" in "".join(capfd.readouterr())
    assert not out.exists() and not list(workflow.glob(".report*"))
