"""Commands of the data stage: archives, weights, manifests."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pgfl.cli.arguments import (
    ConfigFile,
    ConfigOverrides,
    JsonSettings,
    Out,
    all_files,
    json_settings,
    known,
    loaded_config,
)
from pgfl.errors import UserError

app = typer.Typer()
archive_app = typer.Typer(help="Get, draw and unpack the archives.", no_args_is_help=True)
weights_app = typer.Typer(help="Get pretrained weights.", no_args_is_help=True)


@archive_app.command("synthesize")
def archive_synthesize(
    dataset: str,
    out: Out,
    settings: JsonSettings = "{}",
    joints: Annotated[
        Path | None, typer.Option(help="The true joints. Default: OUT.joints.npz.")
    ] = None,
) -> None:
    """Draw a small synthetic archive in a data set's own layout."""
    from pgfl.datasets.registry import SOURCES
    from pgfl.datasets.synthetic.archives import synthesize
    from pgfl.datasets.synthetic.settings import SyntheticSettings

    known(dataset, SOURCES)
    parsed = SyntheticSettings.parse(json_settings(settings), "synthetic")
    print(f"{out}: {synthesize(dataset, out, parsed, joints)} images drawn")


@archive_app.command("get")
def archive_get(
    dataset: str,
    out: Out,
    folder: Annotated[Path, typer.Option(help="Where your archives lie.")] = Path("archives"),
    file: Annotated[Path | None, typer.Option(help="Your own file for this data set.")] = None,
    url: Annotated[str, typer.Option(help="An https address for it.")] = "",
) -> None:
    """Find or download the archive of a data set, and check it; a folder needs `extract` only."""
    from pgfl.datasets.registry import SOURCES
    from pgfl.untrusted.obtain import obtain

    known(dataset, SOURCES)
    obtain(SOURCES[dataset], out, folder=folder, file=file, url=url)


@archive_app.command("extract")
def archive_extract(
    archive: Annotated[Path, typer.Argument(help="A zip, a tar, or an unpacked folder.")],
    dataset: str,
    out: Out,
) -> None:
    """Unpack an archive safely, or lay out the folder that one was unpacked to."""
    from pgfl.datasets.archives import extract
    from pgfl.datasets.registry import SOURCES

    known(dataset, SOURCES)
    print(f"{out}: {extract(archive, dataset, out)} files")


@archive_app.command("occluded-duke")
def archive_occluded_duke(
    lists: Annotated[Path, typer.Option(help="Folder with the three .list files.")],
    duke: Annotated[Path, typer.Option(help="Folder of the unpacked DukeMTMC-reID.")],
    out: Out,
) -> None:
    """Lay out Occluded-Duke from its lists and DukeMTMC-reID."""
    from pgfl.datasets.occluded_duke import assemble

    print(f"{out}: {assemble(lists, duke, out)} images")


@archive_app.command("partial-duke")
def archive_partial_duke(
    duke: Annotated[Path, typer.Option(help="Folder of the unpacked DukeMTMC-reID.")],
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images are cropped.")] = 0,
) -> None:
    """Make Partial-Duke: DukeMTMC-reID with half of its images cropped."""
    from pgfl.datasets.partial_duke import make_crops

    print(f"{out}: {make_crops(duke, out, seed)} images")


@weights_app.command("get")
def weights_get(
    name: str,
    out: Out,
    folder: Annotated[Path, typer.Option(help="Where your files lie.")] = Path("archives"),
    file: Annotated[Path | None, typer.Option(help="Your own file.")] = None,
    url: Annotated[str, typer.Option(help="An https address for it.")] = "",
) -> None:
    """Find or download pretrained weights (resnet50, hrnet_w48, ...), and check them."""
    from pgfl.config.sources import WEIGHTS
    from pgfl.untrusted.obtain import obtain

    known(name, WEIGHTS)
    obtain(WEIGHTS[name], out, folder=folder, file=file, url=url)


@app.command("manifest")
def manifest(
    dataset: str,
    images: Annotated[Path, typer.Option(help="Folder of the unpacked archive.")],
    out: Out,
    check_published: Annotated[
        bool, typer.Option(help="Insist on the published numbers of ids, images and cameras.")
    ] = True,
    counts: Annotated[
        Path | None, typer.Option(help="How many they are. Default: counts.json beside --out.")
    ] = None,
) -> None:
    """List a data set's images with their identities and cameras, and check all of them."""
    from pgfl.datasets.manifest import verified, write_manifest
    from pgfl.datasets.origin import read_origin

    if images.parent.resolve() != out.parent.resolve():
        raise UserError(f"--out {out}: the manifest must lie beside the image folder {images}")
    table, junk, published = _checked(dataset, images, check_published)
    origin = verified(read_origin(images), table, published)
    write_manifest(table, junk, out, origin, counts)
    print(f"{out}: from {origin}")
    _say_counts(str(out), table)


@app.command("own-table")
def own_table(
    folder: Annotated[Path, typer.Argument(help="Your images; folders below it count.")],
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    pattern: Annotated[
        str,
        typer.Option(
            help="How names below the folder read: {pid}, {camid}, {split}, {} for anything; "
            "{pid:d} takes digits only. Default: a usual layout is recognised."
        ),
    ] = "",
    train: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the people in train, 0 to test only. [0.5]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides who and what goes where.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a table.")] = False,
) -> None:
    """Make the table of a data set of your own from a folder, by the names of its images."""
    from pgfl.config.own_dataset import config_lines
    from pgfl.datasets.folder_table import table_of_folder, write_table
    from pgfl.student.folder import find_images

    if out.exists() and not force:
        raise UserError(f"{out}: is there already; --force replaces it")
    made = table_of_folder(folder, find_images(folder).names, pattern, train, seed)
    print("\n".join(made.understood))
    write_table(made.table, out)
    _say_counts(str(out), made.table)
    print("\n".join(config_lines(out, folder, made.table)))


@app.command("take")
def take(
    table: Annotated[Path, typer.Argument(help="CSV: image, split, pid and, if known, camid.")],
    images: Annotated[Path, typer.Option(help="The folder that the image names start from.")],
    out: Annotated[
        Path | None, typer.Option(help="The data set's folder, for all that is not named.")
    ] = None,
    laid_out: Annotated[
        Path | None, typer.Option(help="The folder of the taken images. [OUT/images]")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="[OUT/manifest.csv]")] = None,
    counts: Annotated[Path | None, typer.Option(help="[OUT/counts.json]")] = None,
    stamp: Annotated[str, typer.Option(help="The workflow's word for these photographs.")] = "",
) -> None:
    """Take a data set of your own: lay out its images, check them, write the manifest."""
    from pgfl.datasets import custom

    named = {"images": laid_out, "manifest": manifest, "counts": counts}
    made = all_files(custom.Laid, out, named)
    _say_counts(str(made.folder), custom.take(table, images, made, stamp))


@app.command("verify")
def verify(
    dataset: str,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets; default: the experiment's.")
    ] = None,
    configfile: ConfigFile = Path("config.yaml"),
    config: ConfigOverrides = None,
) -> None:
    """Check a data set on disk again: names, numbers, every image's content, every match."""
    from pgfl.datasets import taken
    from pgfl.datasets.custom import listed
    from pgfl.datasets.manifest import build_manifest, read_manifest, verify_rows
    from pgfl.datasets.own_checks import repeated_photographs

    loaded = loaded_config(configfile, config)
    folder = (data or Path("data") / loaded.experiment) / dataset
    # Whatever was taken from a table is one's own, also where no configuration names it.
    own = dataset in loaded.datasets or (folder / taken.NAME).is_file()
    if not own:
        known(dataset, sorted(loaded.test_sets))
    if not (folder / "manifest.csv").is_file():
        raise UserError(
            f"{folder}: holds no data set yet; make it: snakemake {folder / 'manifest.csv'}"
        )
    if not (folder / "images").is_dir():
        raise UserError(
            f"{folder / 'images'}: is gone; make it again: snakemake {folder / 'images'}"
        )
    expected = read_manifest(folder / "manifest.csv")
    if own:
        found, _ = build_manifest(listed(expected), folder, check=repeated_photographs)
    else:
        found, *_ = _checked(dataset, folder / "images", not loaded.is_synthetic(dataset))
    verify_rows(expected, found, folder)
    if dataset in loaded.datasets and (folder / taken.NAME).is_file():
        table, images = loaded.datasets[dataset].files
        if changes := taken.since(table, images, folder):
            again = f"what was taken is in order; take it again: snakemake {folder}/manifest.csv"
            raise UserError("\n".join([*changes, again]))
    _say_counts(f"{dataset}: as it should be", expected)


def _checked(dataset: str, images: Path, check_published: bool) -> Any:
    """A data set's table, junk counts and published values, read anew and checked."""
    from pgfl.datasets.manifest import build_manifest
    from pgfl.datasets.registry import DATASETS, TRAIN_SET

    known(dataset, TRAIN_SET)
    data = DATASETS[dataset]
    published = data.published if check_published else None
    return *build_manifest(data.read(images), images.parent, published), published


def _say_counts(what: str, table: Any) -> None:
    from pgfl.datasets.manifest import count

    if "camid" not in table:  # a user's own table
        table = table.assign(camid=0)
    for split, counts in count(table).items():
        print(f"{what}: {split}: {counts}")


@app.command("contact-sheet")
def contact_sheet(
    manifest: Annotated[Path, typer.Argument(help="Partial-Duke's manifest.")], out: Out
) -> None:
    """Draw examples of Partial-Duke's crops as one PNG."""
    from pgfl.reporting.more.contact_sheet import contact_sheet

    print(f"{out}: {contact_sheet(manifest, out)} images")
