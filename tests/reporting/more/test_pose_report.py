import base64
import io
import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import h5py
import numpy as np
import pytest
from PIL import Image

from pgfl.errors import UserError
from pgfl.pose.keypoints import GROUPS, PARTS
from pgfl.pose.store import HeatmapReader, HeatmapWriter
from pgfl.reporting.more import pose_report
from pgfl.reporting.more.pose_page import as_text
from pgfl.reporting.more.pose_pictures import COLOURS, DIM, GAP, HEIGHT, photo_and_parts
from pgfl.reporting.more.pose_report import stated_scale, write_report

H, W = 16, 8
COUNT = 40
NOBODY, TWO = (3, 17, 30), (5, 21)
ATTRIBUTES = {
    "estimator": "hrnet_x<b>",
    "checkpoint_sha256": "c0ffee",
    "input_size": (64, 32),
    "softmax_scale": 10.0,
}


def softmaxed(responses):
    weights = np.exp(10 * responses)
    return (weights / weights.sum(axis=(2, 3), keepdims=True)).astype(np.float32)


def make_split(folder, split, count=COUNT):
    """Grey photographs, and maps that peak in one place, but for NOBODY (flat) and TWO."""
    rng = np.random.default_rng(len(split))
    (folder / split).mkdir(parents=True)
    names = [f"{split}/{index:02d}.png" for index in range(count)]
    names[TWO[0]] = f"{split}/05 & <i>.png"
    for name in names:
        Image.fromarray(rng.integers(90, 110, (64, 32, 3), np.uint8)).save(folder / name)
    responses = np.zeros((count, 8, H, W))
    responses[:, :, 2, 2] = 0.9
    responses[list(NOBODY)] = 0
    responses[TWO[0], PARTS.index("head"), 12, 5] = 0.8
    responses[TWO[1], PARTS.index("head"), 12, 5] = 0.85
    confidence = rng.uniform(0.5, 1, (count, 17)).astype(np.float32)
    for place, row in enumerate(NOBODY):
        confidence[row] = 0.05 + 0.1 * place
        confidence[row, :2] = 0.9
    with HeatmapWriter(folder / f"{split}.h5", names, (H, W), ATTRIBUTES) as writer:
        writer.write(0, softmaxed(responses), confidence)
    return names


@pytest.fixture
def dataset(tmp_path):
    """A manifest with a train and a query split, and their stores beside it."""
    folder = tmp_path / "a&b"
    rows = [(name, split) for split in ("train", "query") for name in make_split(folder, split)]
    lines = [
        f"{name},{split},{i // 8 + (split == 'query') * 99},1"
        for i, (name, split) in enumerate(rows)
    ]
    (folder / "manifest.csv").write_text("\n".join(["image,split,pid,camid", *lines]) + "\n")
    return folder


def report(folder, *splits, **options):
    files = {split: folder / f"{split}.h5" for split in splits or ("train",)}
    out = folder / "page.html"
    return write_report(files, folder / "manifest.csv", out, **options), out.read_text()


class Page(HTMLParser):
    """Tags with their attributes, and the captions below each heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.inside = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag != "br" else self.inside
        if tag == "figcaption":
            self.sections[next(reversed(self.sections))].append("")

    def handle_data(self, data):
        if self.inside == "h2" and data.strip():
            self.sections[data] = []
        elif self.inside == "figcaption" and data.strip():
            self.sections[next(reversed(self.sections))][-1] += f"{data}|"


def test_the_page_counts_and_shows_what_is_doubtful(dataset):
    found, text = report(dataset)
    assert (found.images, found.nobody, found.competing) == ({"train": 40}, 3, 2)
    sections = Page(text).sections
    maps, confidence, nobody, two = sections
    assert nobody == "Nobody found: 3 of 40 images (7.5 %)"
    assert two == "Two people compete: 2 of 40 images (5.0 %)"
    assert len(sections[maps]) == 24 and sections[confidence] == []
    assert len(sections[nobody]) == 12
    assert sections[nobody][:3] == [
        "third best 0.05|train/03.png|",
        "third best 0.15|train/17.png|",
        "third best 0.25|train/30.png|",
    ]
    assert sections[two] == ["head 0.05|train/21.png|", "head 0.10|train/05 & <i>.png|"]


def test_the_sheet_goes_from_the_most_to_the_least_confident(dataset):
    _, text = report(dataset)
    captions = next(iter(Page(text).sections.values()))
    means = [float(re.match(r"mean ([\d.]+)\|", caption)[1]) for caption in captions]
    confidence = HeatmapReader(dataset / "train.h5").confidence().mean(axis=1)
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(confidence.max(), abs=0.005)
    assert means[-1] == pytest.approx(confidence.min(), abs=0.005)


def test_the_page_needs_nothing_but_itself_and_escapes_what_is_in_files(dataset):
    _, text = report(dataset, experiment="demo")
    tags = Page(text).tags
    assert not {"script", "iframe", "object", "i"} & {tag for tag, _ in tags}
    (link,) = (attributes for tag, attributes in tags if tag == "link")
    assert link == {"rel": "icon", "href": "data:,"}  # none, so that a browser asks for none
    assert "http" not in text and "url(" not in text
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(sources) == 24 + 1 + 12 + 2
    for source in sources:
        header, data = source.split(",")
        kind = re.fullmatch(r"data:image/(png|jpeg);base64", header)[1]
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.format.lower() == kind
    assert "<h1>Heatmaps of a&amp;b, train (experiment: demo)</h1>" in text
    assert "hrnet_x&lt;b&gt;" in text and "c0ffee" in text and "64 x 32" in text
    assert "05 &amp; &lt;i&gt;.png" in text and "<i>" not in text


def test_several_splits_share_a_page(dataset):
    found, text = report(dataset, "train", "query")
    assert (found.all, found.nobody, found.competing) == (80, 6, 4)
    assert "Heatmaps of a&amp;b, train and query" in text
    *_, two = Page(text).sections.values()
    assert [caption.split(",")[0] for caption in two] == ["train", "query"] * 2


def test_equal_files_give_equal_pages_and_figures(dataset):
    pages = [report(dataset, figure=dataset / f"{i}.png")[1] for i in range(2)]
    assert pages[0] == pages[1]
    assert (dataset / "0.png").read_bytes() == (dataset / "1.png").read_bytes()
    with Image.open(dataset / "0.png") as figure:
        assert figure.format == "PNG" and min(figure.size) > 900


def test_only_the_images_that_are_shown_are_opened(dataset):
    _, text = report(dataset, figure=dataset / "sheet.png")
    shown = set(re.findall(r"<br>(train/.*?)</figcaption>", text))
    hidden = [
        path
        for path in (dataset / "train").iterdir()
        if f"train/{path.name}" not in {unescape(name) for name in shown}
    ]
    assert hidden
    for path in hidden:
        path.unlink()
    assert report(dataset)[1] == text


def test_maps_are_read_in_blocks(dataset, monkeypatch):
    _, whole = report(dataset)
    sizes = []
    read = HeatmapReader.read

    def recorded(self, rows):
        maps = read(self, rows)
        sizes.append(len(maps) if isinstance(rows, slice) else 1)
        return maps

    monkeypatch.setattr(HeatmapReader, "read", recorded)
    monkeypatch.setattr(pose_report, "BLOCK", 7)
    monkeypatch.setattr("pgfl.pose.check.BLOCK", 7)
    assert report(dataset)[1] == whole
    assert max(sizes) == 7


def test_a_store_of_another_estimator_is_shown_too(dataset):
    """Floating-point maps, exact zeros, no attribute but those that the format demands."""
    ours = HeatmapReader(dataset / "train.h5")
    names, confidence = ours.images(), ours.confidence()
    ours.close()
    with h5py.File(dataset / "train.h5", "w") as file:
        file.attrs["format_version"] = 1
        file.attrs["groups"] = json.dumps(GROUPS)
        file["image"] = names
        maps = np.zeros((COUNT, 8, H, W), np.float16)
        maps[:, :, 2, 2] = 0.5
        maps[:, :, 12, 5] = 0.5
        file["heatmaps"] = maps
        file["confidence"] = 100 * confidence
    found, text = report(dataset, threshold=30)
    assert (found.nobody, found.competing) == (3, 40)
    assert text.count("<td>not said</td>") == 4
    assert "The 12 clearest of these images" in text


@pytest.mark.parametrize("value", ["", "none", "nan", np.nan, -1, 0, np.inf, np.array([])])
def test_a_scale_that_cannot_be_used_is_ten(value):
    assert stated_scale({"softmax_scale": value}) == stated_scale({}) == 10


@pytest.mark.parametrize("value", [4, "4", 4.0, np.float32(4), np.array([4.0]), b"4"])
def test_a_scale_may_be_written_in_any_way(value):
    assert stated_scale({"softmax_scale": value}) == 4


def test_attributes_become_text():
    assert as_text(None) == "not said"
    assert as_text(np.array([384, 128])) == "384 x 128"
    assert as_text(np.bytes_(b"w48")) == as_text("w48") == "w48"


def test_an_image_that_is_gone_is_said_and_nothing_is_left(dataset):
    (dataset / "train/03.png").unlink()
    with pytest.raises(UserError, match=r"train/03\.png: cannot be read"):
        report(dataset, figure=dataset / "sheet.png")
    assert not list(dataset.glob("*.html")) and not list(dataset.glob(".*"))


def test_unusable_photographs_are_named_and_neither_opened_nor_counted(dataset):
    (dataset / "train/03.png").write_text("no picture")
    with (dataset / "train.h5").open("r+b") as file:
        file.write(bytes(512))  # without its checksum, as another program would write it
    with h5py.File(dataset / "train.h5", "r+") as file:
        file["usable"][3] = 0
    numbers, text = report(dataset, figure=dataset / "sheet.png")
    assert numbers.nobody == len(NOBODY) - 1
    assert f"could not be used: 1 of {COUNT} images" in text and text.count("train/03.png") == 1
    with h5py.File(dataset / "train.h5", "r+") as file:
        file["usable"][:] = 0
    with pytest.raises(UserError, match=r"train\.h5: no photograph could be used"):
        report(dataset)


def test_a_store_of_another_manifest_is_refused(dataset):
    with pytest.raises(UserError, match="the manifest has"):
        write_report({"query": dataset / "train.h5"}, dataset / "manifest.csv", dataset / "o.html")


# The pictures ------------------------------------------------------------------------------------


def drawn(responses, size=(64, 32)):
    """The right half of a picture: parts over a photograph of one grey."""
    photo = np.full((*size, 3), 100, np.uint8)
    picture = photo_and_parts(photo, softmaxed(responses[None])[0], 10)
    width = (picture.shape[1] - GAP) // 2
    assert picture.shape[0] == HEIGHT and (picture[:, :width] == 100).all()
    return picture[:, width + GAP :]


def test_a_flat_map_leaves_no_trace_and_neither_does_noise():
    noise = 0.15 * np.random.default_rng(0).random((8, H, W))
    for responses in (np.zeros((8, H, W)), noise):
        assert (drawn(responses) == int(100 * DIM)).all()


@pytest.mark.parametrize("part", range(8))
def test_a_peak_shows_in_its_colour_at_its_place(part):
    responses = np.zeros((8, H, W))
    responses[part, 4, 6] = 0.9
    picture = drawn(responses).astype(int)
    changed = np.argwhere(np.abs(picture - int(100 * DIM)).max(axis=2) > 30)
    cell = HEIGHT / H
    assert np.abs(changed.mean(axis=0) - (np.array([4, 6]) + 0.5) * cell).max() < 4
    assert np.ptp(changed, axis=0).max() < 3 * cell
    colour = np.array(COLOURS[PARTS[part]])
    assert (np.abs(picture - colour).max(axis=2) <= 1).sum() > 50


def test_a_weaker_peak_is_fainter():
    responses = np.zeros((2, 8, H, W))
    responses[:, 0, 4, 4] = 0.3, 0.38
    weak, strong = (drawn(one).astype(int).sum() for one in responses)
    assert drawn(np.zeros((8, H, W))).astype(int).sum() < weak < strong


def test_a_second_mode_gets_a_black_disc():
    responses = np.zeros((8, H, W))
    responses[0, 2, 2], responses[0, 12, 5] = 0.9, 0.85
    alone = responses.copy()
    alone[0, 12, 5] = 0.5
    cell = HEIGHT // H
    region = slice(12 * cell, 13 * cell), slice(5 * cell, 6 * cell)
    assert (drawn(responses)[region] == 0).all(axis=2).sum() > 40
    assert not (drawn(alone)[region] == 0).all(axis=2).any()


@pytest.mark.parametrize("size", [(10, 300), (300, 10), (1, 1), (500, 200)])
def test_photographs_of_any_shape_can_be_drawn(size):
    responses = np.zeros((8, H, W))
    responses[:, 0, 0] = 0.9  # all numbers in one corner
    drawn(responses, size)


# The command -------------------------------------------------------------------------------------


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pgfl", "heatmaps", "report", *arguments, "--manifest",
         "manifest.csv", "--out", "page.html"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_takes_the_splits_from_the_files_names(dataset):
    result = command(dataset, "train.h5", "query.h5", "--figure", "sheet.png")
    assert result.returncode == 0, result.stderr
    assert "page.html: 80 images, 6 with nobody found, 4 in which two people" in result.stdout
    assert (dataset / "sheet.png").is_file() and (dataset / "page.html").is_file()


def test_the_command_says_which_split_it_cannot_tell(dataset):
    (dataset / "train.h5").rename(dataset / "mine.h5")
    assert "mine.h5: whose heatmaps? Say --split" in command(dataset, "mine.h5").stderr
    assert command(dataset, "mine.h5", "--split", "train").returncode == 0
    assert (
        "only with one file" in command(dataset, "mine.h5", "query.h5", "--split", "train").stderr
    )
    (dataset / "more").mkdir()
    (dataset / "mine.h5").rename(dataset / "more/query.h5")
    assert "are of one split" in command(dataset, "query.h5", "more/query.h5").stderr


@pytest.mark.parametrize("estimator", ["hrnet_small", "hrnet_w48"])
@pytest.mark.parametrize("photographs", [True, False])
def test_photographs_seen_by_the_demos_estimator_are_warned_of(
    tmp_path, monkeypatch, capsys, estimator, photographs
):
    monkeypatch.setitem(ATTRIBUTES, "estimator", estimator)
    lines = [f"{name},train,{row},1" for row, name in enumerate(make_split(tmp_path, "train"))]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,split,pid,camid", *lines]) + "\n")
    _, text = report(tmp_path, photographs=photographs)
    warned = estimator == "hrnet_small" and photographs
    line = "nobody found in 3 of 40 images (7.5 %), where fewer than 3 of 17 keypoints reach 0.3; "
    assert (f"<p>{line}hrnet_small was trained on drawn people" in text) == warned
    assert (f": {line}hrnet_small was" in capsys.readouterr().out) == warned


def test_maps_that_are_not_finite_are_refused(dataset):
    with h5py.File(dataset / "train.h5", "r+") as file:
        file["affine"][2, 0, 0] = np.nan
    with (dataset / "train.h5").open("r+b") as file:
        file.write(bytes(512))
    with pytest.raises(UserError, match=r"train\.h5: a map holds NaN .*the first is row 2: "):
        report(dataset)
