"""Commands that show the configuration."""

from pathlib import Path
from typing import Annotated

import typer

from pgfl.cli.arguments import (
    ConfigFile,
    ConfigOverrides,
    JsonSettings,
    Out,
    json_settings,
    loaded_config,
)

app = typer.Typer(help="Show what the configuration resolves to.", no_args_is_help=True)


@app.command("show")
def config_show(
    configfile: ConfigFile = Path("config.yaml"),
    config: ConfigOverrides = None,
    variant: Annotated[str, typer.Option(help="Show the recipe of one variant only.")] = "",
) -> None:
    """Print the whole configuration, presets and defaults included, as YAML."""
    import yaml

    loaded = loaded_config(configfile, config)
    shown = loaded.recipe(variant) if variant else loaded
    print(yaml.safe_dump(shown.model_dump(mode="json"), sort_keys=False), end="")


@app.command("fits")
def config_fits(settings: JsonSettings) -> None:
    """Build the network of a recipe without memory, to see that its parts fit each other."""
    import torch

    from pgfl.config.recipe import Recipe
    from pgfl.networks.build import build_network, student_of

    recipe = Recipe.parse(json_settings(settings))
    with torch.device("meta"):
        student = student_of(build_network(recipe, identities=2), recipe)
    print(f"{recipe.model.backbone}: fits, {student.channels} channels")


@app.command("schema")
def config_schema(out: Out) -> None:
    """Write the JSON schema of the configuration, for editors."""
    from pgfl.config.experiment import Config
    from pgfl.runtime.files import write_json

    write_json(out, Config.model_json_schema())
