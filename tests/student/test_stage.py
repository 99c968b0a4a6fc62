import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pgfl
from pgfl.errors import UserError
from pgfl.student import stage
from pgfl.student.folder import embed_folder, find_images
from pgfl.student.stage import search


def lists(path):
    """The CSV as {query: [(image, score), ...]}."""
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            hits = found.setdefault(row["query"], [])
            hits.append((row["image"], float(row["score"])))
            assert int(row["rank"]) == len(hits)
    return found


def test_a_folder_in_a_folder(student, people, tmp_path):
    outs = [tmp_path / f"result.{kind}" for kind in ("html", "png", "csv")]
    search(student, people / "more", people, outs, top=4)
    names = find_images(people).names
    features = student.embed([people / name for name in names])
    found = lists(outs[2])
    assert list(found) == ["09.JPG", "a & <b>.jpeg"]
    for query, hits in found.items():
        own = names.index(f"more/{query}")
        scores = features @ features[own]
        scores[own] = -2  # the query's own file takes no part
        best = np.argsort(-scores)[:4]
        assert [name for name, _ in hits] == [names[place] for place in best]
        np.testing.assert_allclose([score for _, score in hits], scores[best], atol=1e-5)
    page = outs[0].read_text()
    assert page.count("<section>") == 2 and page.count("data:image/jpeg") == 2 * 5
    assert "a &amp; &lt;b&gt;.jpeg" in page and "<b>.jpeg" not in page.replace("<b>query", "")
    with Image.open(outs[1]) as picture:
        assert picture.format == "PNG" and picture.width > picture.height
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "people", "result.csv", "result.html", "result.png",
    ]  # fmt: skip


def test_features_instead_of_folders(student, people, tmp_path):
    embed_folder(student, people, tmp_path / "people.npz")
    query = people / "01.jpg"
    search(student, query, people, [tmp_path / "a.csv"], top=20)
    search(student, query, tmp_path / "people.npz", [tmp_path / "b.csv"], top=20)
    found = lists(tmp_path / "a.csv")["01.jpg"]
    assert len(found) == 10 and "01.jpg" not in dict(found)
    assert lists(tmp_path / "b.csv")["01.jpg"] == found
    search(student, tmp_path / "people.npz", people, [tmp_path / "c.csv"], top=20)
    every = lists(tmp_path / "c.csv")
    assert len(every) == 11
    # Computed in another batch, so equal up to rounding.
    assert dict(every["01.jpg"]) == pytest.approx(dict(found), abs=1e-5)


def test_a_copy_of_the_query_is_found_with_a_score_of_one(student, people, tmp_path):
    shutil.copy(people / "01.jpg", tmp_path / "query.jpg")
    search(student, tmp_path / "query.jpg", people, [tmp_path / "a.csv"], top=1)
    ((name, score),) = lists(tmp_path / "a.csv")["query.jpg"]
    assert name == "01.jpg" and score == pytest.approx(1, abs=1e-5)


def test_images_that_have_moved(student, people, tmp_path):
    embed_folder(student, people, tmp_path / "people.npz")
    query, out = tmp_path / "query.png", tmp_path / "a.html"
    shutil.copy(people / "00.png", query)
    moved = people.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="people"):
        search(student, query, tmp_path / "people.npz", [out])
    assert not out.exists()
    search(student, query, tmp_path / "people.npz", [out], gallery_images=moved)
    assert out.exists()


@pytest.mark.parametrize("option", ["query_images", "gallery_images"])
def test_two_files_of_one_folder_move_together(student, people, tmp_path, option):
    features, outs = tmp_path / "people.npz", [tmp_path / "a.csv", tmp_path / "a.html"]
    embed_folder(student, people, features)
    search(student, features, features, [tmp_path / "before.csv"])
    moved = people.rename(tmp_path / "elsewhere")
    search(student, features, features, outs, **{option: moved})
    found = lists(outs[0])
    assert found == lists(tmp_path / "before.csv")
    assert not any(query in dict(hits) for query, hits in found.items())
    assert outs[1].exists()


def test_queries_that_have_moved(student, people, tmp_path):
    embed_folder(student, people / "more", tmp_path / "more.npz")
    moved = (people / "more").rename(people / "less")
    out = tmp_path / "a.html"
    with pytest.raises(UserError, match="more"):
        search(student, tmp_path / "more.npz", people, [out])
    search(student, tmp_path / "more.npz", people, [out], query_images=moved, top=10)
    # Found by the other query only.
    assert out.read_text().count('class="name">less/09.JPG<') == 1


def test_a_folder_of_queries_stays_where_a_moved_gallery_was(student, people, tmp_path):
    embed_folder(student, people, tmp_path / "people.npz")
    moved = people.rename(tmp_path / "elsewhere")
    people.mkdir()
    shutil.copy(moved / "01.jpg", people / "new.jpg")
    out = tmp_path / "a.html"
    search(student, people, tmp_path / "people.npz", [out], gallery_images=moved, top=1)
    assert "new.jpg" in out.read_text() and 'class="name">01.jpg<' in out.read_text()


def test_queries_that_are_one_file_are_not_found_under_either_name(student, people, tmp_path):
    (people / "more" / "link.jpg").symlink_to("../01.jpg")
    search(student, people, people, [tmp_path / "a.csv"], top=20)
    found = lists(tmp_path / "a.csv")
    assert len(found) == 12
    for query in ("01.jpg", "more/link.jpg"):
        assert len(found[query]) == 10
        assert not {"01.jpg", "more/link.jpg"} & set(dict(found[query]))
    assert {"01.jpg", "more/link.jpg"} <= set(dict(found["00.png"]))


def test_another_models_features_are_refused(student, other_model_file, people, tmp_path):
    embed_folder(student, people, tmp_path / "people.npz")
    other = pgfl.load(other_model_file, device="cpu")
    with pytest.raises(UserError, match=r"people\.npz: made with another model .*embed the"):
        search(other, people / "01.jpg", tmp_path / "people.npz", [tmp_path / "a.csv"])


def test_long_results_are_cut_where_they_are_looked_at(student, people, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MOST_ROWS", 2)
    outs = [tmp_path / f"result.{kind}" for kind in ("html", "png", "csv")]
    search(student, people, people, outs, top=2, shown=3)
    page = outs[0].read_text()
    assert page.count("<section>") == 3 and "The first 3 of 11 queries are shown" in page
    assert len(lists(outs[2])) == 11
    with Image.open(outs[1]) as two:
        search(student, people, people, [outs[1]], top=2, shown=1)
        with Image.open(outs[1]) as one:
            assert one.height < two.height


def test_files_that_cannot_be_read_are_left_out(student, people, tmp_path, capsys):
    (people / "broken.jpg").touch()
    found = search(student, people / "01.jpg", people, [tmp_path / "a.html"], top=50)
    assert len(found.rows[0].hits) == 10
    assert "broken.jpg: an empty file" in capsys.readouterr().out
    page = (tmp_path / "a.html").read_text()
    assert "1 file could not be read" in page and "broken.jpg: an empty file" in page
    with pytest.raises(UserError, match="none of 1 images can be read"):
        search(student, people / "broken.jpg", people, [tmp_path / "b.html"])


def test_wrong_arguments_are_said_at_once(student, people, tmp_path):
    with pytest.raises(UserError, match=r"a\.pdf: the name must end with one of \.html"):
        search(student, people, people, [tmp_path / "a.pdf"])
    with pytest.raises(UserError, match=r"none: no such file or folder"):
        search(student, people / "none", people, [tmp_path / "a.csv"])


@pytest.mark.parametrize("given", ["01.png", ".", "people.npz"])
def test_no_image_is_replaced_by_what_was_found(student, people, tmp_path, given):
    image = people / "01.png"
    shutil.copy(people / "00.png", image)
    content = image.read_bytes()
    embed_folder(student, people, people / "people.npz")
    (tmp_path / "link.png").symlink_to(image)
    for out in (image, people / "more" / ".." / "01.png", tmp_path / "link.png"):
        with pytest.raises(UserError, match=r"would replace the image .*01\.png; choose another"):
            search(student, people / given, people / "more", [tmp_path / "a.csv", out])
        with pytest.raises(UserError, match=f"{out.name}: would replace the image"):
            search(student, people / "03.png", people / given, [out])
    assert image.read_bytes() == content and not (tmp_path / "a.csv").exists()
    search(student, image, people / "more", [people / "result.png"])
    assert (people / "result.png").exists()


def test_more_is_asked_for_than_any_memory_holds(student, people, tmp_path):
    search(student, people / "01.jpg", people, [tmp_path / "a.csv"], top=10**11)
    assert len(lists(tmp_path / "a.csv")["01.jpg"]) == 10


def test_features_that_are_no_numbers_are_named_by_their_row(student, people, tmp_path):
    good = embed_folder(student, people, tmp_path / "good.npz")
    with np.load(good.path) as content:
        arrays = dict(content)
    arrays["features"][7, 3] = np.nan
    np.savez(tmp_path / "bad.npz", **arrays)
    for query, gallery, wrong in (("good", "bad", "gallery"), ("bad", "good", "query")):
        files = [tmp_path / f"{name}.npz" for name in (query, gallery)]
        said = rf"{query}\.npz cannot be searched for in .*{gallery}\.npz: {wrong}_features: row 7"
        with pytest.raises(UserError, match=said):
            search(student, *files, [tmp_path / "a.csv"])


def test_features_of_several_vectors_are_searched(student, people, tmp_path):
    embed_folder(student, people, tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as content:
        arrays = dict(content)
    # Three pieces of each vector: all seen, the mean of their cosines ranks the images.
    arrays["features"] = arrays["features"][:, :510].reshape(11, 3, 170)
    arrays["visibility"] = np.ones((11, 3), np.float32)
    np.savez(tmp_path / "parts.npz", **arrays)
    outs = [tmp_path / "a.csv", tmp_path / "a.html"]
    search(student, tmp_path / "parts.npz", tmp_path / "parts.npz", outs, top=20)
    vectors = arrays["features"]
    vectors = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    alike = np.einsum("ipc,jpc->ij", vectors, vectors) / 3
    found, names = lists(outs[0]), arrays["names"].tolist()
    for row, name in enumerate(names):
        order = [at for at in np.argsort(-alike[row], kind="stable") if at != row]
        assert [hit for hit, _ in found[name]] == [names[at] for at in order]
        scores = [score for _, score in found[name]]
        np.testing.assert_allclose(scores, alike[row, order], atol=1e-5)
    assert "the mean of the cosine similarities of the two images" in outs[1].read_text()
    with pytest.raises(UserError, match=r"plain\.npz cannot be searched for in .*parts\.npz"):
        search(student, tmp_path / "plain.npz", tmp_path / "parts.npz", outs)


def test_a_strangers_features_put_no_other_picture_on_a_page(student, people, tmp_path):
    shutil.copy(people / "01.jpg", tmp_path / "secret.jpg")
    good = embed_folder(student, people, tmp_path / "good.npz")
    with np.load(good.path) as content:
        arrays = dict(content)
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg")):
        arrays["names"] = np.array([name] * 11)
        np.savez(tmp_path / "bad.npz", **arrays)
        for kind in ("html", "csv", "png"):
            with pytest.raises(UserError, match=r"bad\.npz: the name .* leads out of the folder"):
                out = tmp_path / f"a.{kind}"
                search(student, people / "01.jpg", tmp_path / "bad.npz", [out])
            with pytest.raises(UserError, match=r"bad\.npz: the name .* leads out of the folder"):
                search(student, tmp_path / "bad.npz", people, [out])
            assert not out.exists()


def test_names_that_are_not_utf_8_spoil_no_result(student, people, tmp_path, capsys):
    awkward = os.fsencode(people / "b") + b"\xff.jpg"
    shutil.copy(people / "01.jpg", awkward)
    outs = [tmp_path / f"result.{kind}" for kind in ("html", "png", "csv")]
    search(student, people, people, outs)
    assert "b\\xff.jpg: its name is not UTF-8; left out" in capsys.readouterr().out
    assert len(lists(outs[2])) == 11 and all(out.exists() for out in outs)
    with pytest.raises(
        UserError, match=r"the name 'b\\udcff\.jpg' is not UTF-8; rename the image"
    ):
        search(student, Path(os.fsdecode(awkward)), people, outs)
