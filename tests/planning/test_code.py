from pgfl.config.load import load_config
from pgfl.methods.pgfl_kd import settings as pgfl_kd
from pgfl.planning.code import evaluation_code, reading_code
from pgfl.runtime.provenance import code_hash


def test_an_evaluation_runs_the_code_of_the_student():
    recipes = load_config({}).recipe
    assert evaluation_code(recipes("pgfl_kd")) == evaluation_code(recipes("baseline"))
    assert evaluation_code(recipes("pcb")) != evaluation_code(recipes("baseline"))
    assert evaluation_code(recipes("pcb")) == code_hash("pgfl.retrieval.stage", "pgfl.methods.pcb")


def test_without_a_student_it_runs_the_code_of_the_whole_network(monkeypatch):
    recipe = load_config({}).recipe("pgfl_kd")
    monkeypatch.setattr(pgfl_kd.Settings, "needs_heatmaps_at_test", property(lambda _: True))
    expected = code_hash("pgfl.retrieval.guided", "pgfl.methods.pgfl_kd.method")
    assert evaluation_code(recipe) == expected


def test_how_people_are_drawn_is_no_part_of_reading_them():
    modules = ("pgfl.datasets.manifest", "pgfl.datasets.market1501")
    people = "pgfl.datasets.synthetic.people"
    assert reading_code(*modules) == code_hash(*modules, without=[people])
    assert reading_code(people) != reading_code(*modules)
