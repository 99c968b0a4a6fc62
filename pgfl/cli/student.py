"""Commands for those who use a trained student: features, search, export."""

from pathlib import Path
from typing import Annotated

import typer

from pgfl.errors import UserError

app = typer.Typer()

Model = Annotated[Path, typer.Option("--model", "-m", help="A student, model.safetensors.")]
OneOut = Annotated[Path, typer.Option("--out", "-o", help="What to write; appears whole.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1 ...; by default a GPU where there is one.")
]
Precision = Annotated[
    str, typer.Option(help="fp32, half (fp16 on a GPU, bf16 on a processor) or auto.")
]


@app.command("embed")
def embed(
    folder: Annotated[Path, typer.Argument(help="Images of people, one a crop; subfolders too.")],
    out: OneOut,
    model: Model,
    batch_size: BatchSize = 64,
    device: Device = "",
    precision: Precision = "fp32",
) -> None:
    """Features of all images in a folder, as .npz; goes on where it was stopped."""
    import pgfl
    from pgfl.student.folder import embed_folder

    student = pgfl.load(model, device or None, precision)
    done = embed_folder(student, folder, out, batch_size=batch_size)
    print(f"{out}: {len(done.names):,} images, {done.channels} numbers each")
    if done.unreadable:
        print(
            f"left out: {len(done.unreadable):,}, which {out} lists as `unreadable` and `reasons`"
        )


@app.command("search")
def search(
    query: Annotated[Path, typer.Option(help="An image, a folder, or features (.npz).")],
    gallery: Annotated[Path, typer.Option(help="A folder, or features (.npz) of one.")],
    out: Annotated[
        list[Path],
        typer.Option("--out", "-o", help="A .html, .png or .csv file; may be given repeatedly."),
    ],
    model: Model,
    top: Annotated[int, typer.Option(min=1, help="Gallery images for each query.")] = 10,
    shown: Annotated[int, typer.Option(min=1, help="Queries on a page, at most.")] = 100,
    query_images: Annotated[
        Path | None,
        typer.Option(help="Where a .npz query has its images now, if they have moved."),
    ] = None,
    gallery_images: Annotated[
        Path | None, typer.Option(help="Likewise of the gallery; one does for two of one folder.")
    ] = None,
    batch_size: BatchSize = 64,
    device: Device = "",
    precision: Precision = "fp32",
) -> None:
    """The people in a gallery who are most like those of the query, to look at."""
    import pgfl
    from pgfl.student import stage

    for option, now in (("--query-images", query_images), ("--gallery-images", gallery_images)):
        if now is not None and not now.is_dir():
            raise UserError(f"{option} {now}: no such folder")
    found = stage.search(
        pgfl.load(model, device or None, precision),
        query,
        gallery,
        out,
        top=top,
        shown=shown,
        query_images=query_images,
        gallery_images=gallery_images,
        batch_size=batch_size,
    )
    for file in out:
        print(f"{file}: {found.title}")


@app.command("export")
def export(
    model: Annotated[Path, typer.Argument(help="A student, model.safetensors.")],
    out: OneOut,
    fp16: Annotated[bool, typer.Option("--fp16", help="The backbone in half precision.")] = False,
) -> None:
    """Write a student as ONNX, checked against PyTorch and against the plain backbone."""
    from pgfl.student.export import export

    done = export(model, out, "fp16" if fp16 else "fp32")
    graph, backbone = done.graph, done.backbone
    print(
        f"{out}: no pose branch in it\n"
        f"  in the graph:       {graph.macs:,} MACs, {graph.parameters:,} parameters, "
        f"{done.around:,} of them around the backbone\n"
        f"  the plain backbone: {backbone.macs:,} MACs, {backbone.parameters:,} parameters "
        f"({done.trained.parameters:,} before normalisations were folded)\n"
        f"  cosine distance from PyTorch: at most {done.distance:.1e} over {done.images} images"
    )
