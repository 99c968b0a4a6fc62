"""The code that a rule's jobs run, as one word: another one makes them run again.

The Snakefile imports this, so it stays light.
"""

from pgfl.config.recipe import Recipe
from pgfl.runtime.provenance import code_hash

DRAWS_PEOPLE = "pgfl.datasets.synthetic.people"


def reading_code(*modules: str) -> str:
    """The code that reads data sets; how the demo draws people is none of it.

    Args:
        modules: where it begins; those of the data sets among them.
    """
    return code_hash(*modules, without=[DRAWS_PEOPLE])


def evaluation_code(recipe: Recipe) -> str:
    """The code of a method's own evaluation: with its student, or else with its whole network."""
    if recipe.settings.has_student:
        return code_hash("pgfl.retrieval.stage", recipe.student_module)
    return code_hash("pgfl.retrieval.guided", recipe.module)
