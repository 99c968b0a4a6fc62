import pandas as pd
import pytest

from pgfl.datasets import taken
from pgfl.datasets.custom import Laid, take
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError


@pytest.fixture
def mine(tmp_path, lay_out_pictures):
    """Writes a table beside a folder of pictures; returns both."""
    names = ("anna/1.jpg", "anna/2.jpg", "bob/1.jpg", "bob/2.jpg", "eve/1.jpg")
    images = lay_out_pictures(*names)

    def write(text):
        table = tmp_path / "mine.csv"
        table.write_text(text)
        return table, images

    return write


WITH_WORDS = """image,split,pid,camid
eve/1.jpg,train,eve,door
anna/1.jpg,query,anna,door
anna/2.jpg,gallery,anna,hall
bob/1.jpg,query,bob,hall
bob/2.jpg,gallery,bob,door
"""


def test_words_become_numbers_and_are_kept(tmp_path, mine):
    take(*mine(WITH_WORDS), Laid.in_folder(tmp_path / "out"))
    manifest = read_manifest(tmp_path / "out" / "manifest.csv")
    assert dict(zip(manifest.label, manifest.pid, strict=True)) == {"anna": 0, "bob": 1, "eve": 2}
    assert manifest.set_index("image").camid["images/bob/1.jpg"] == 1
    assert all((tmp_path / "out" / image).is_file() for image in manifest.image)


def test_numbers_stay_as_they_are(tmp_path, mine):
    text = "image,split,pid,camid\nanna/1.jpg,query,70,3\nanna/2.jpg,gallery,70,5\n"
    manifest = take(*mine(text), Laid.in_folder(tmp_path / "out"))
    assert list(manifest.pid) == [70, 70] and list(manifest.camid) == [3, 5]
    assert "label" not in manifest


def test_without_cameras_no_match_is_filtered(tmp_path, mine):
    text = "image,split,pid\nanna/1.jpg,query,1\nanna/2.jpg,gallery,1\nbob/1.jpg,train,2\n"
    manifest = take(*mine(text), Laid.in_folder(tmp_path / "out"))
    assert dict(zip(manifest.split, manifest.camid, strict=True)) == {
        "train": 0,
        "query": 0,
        "gallery": 1,
    }


def test_what_stands_in_the_table_is_who_it_is(tmp_path, mine):
    text = "image,split,pid,camid\nanna/1.jpg,query,007,NA\nanna/2.jpg,gallery,007,None\n"
    text += "bob/1.jpg,query,7,NA\nbob/2.jpg,gallery,7,1.0\n"
    manifest = take(*mine(text), Laid.in_folder(tmp_path / "out"))
    people = dict(zip(manifest.image.str.split("/").str[1], manifest.label, strict=True))
    assert people == {"anna": "007", "bob": "7"} and manifest.pid.nunique() == 2
    assert manifest.camid.nunique() == 3


def test_a_pid_of_minus_one_is_a_person_here(tmp_path, mine):
    text = "image,split,pid\nanna/1.jpg,query,-1\nanna/2.jpg,gallery,-1\n"
    assert len(take(*mine(text), Laid.in_folder(tmp_path / "out"))) == 2


def test_one_picture_may_be_query_and_gallery(tmp_path, mine):
    text = (
        "image,split,pid,camid\nanna/1.jpg,query,1,1\n"
        "anna/1.jpg,gallery,1,1\nanna/2.jpg,gallery,1,2\n"
    )
    assert len(take(*mine(text), Laid.in_folder(tmp_path / "out"))) == 3


def test_training_only_and_testing_only_sets_are_fine(tmp_path, mine):
    manifest = take(
        *mine("image,split,pid\nanna/1.jpg,train,1\n"), Laid.in_folder(tmp_path / "out")
    )
    assert set(manifest.split) == {"train"}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("image,split\nanna/1.jpg,train\n", ["column pid is missing"]),
        ("image,split,pid\nanna/1.jpg,train,\n", ["row 2: pid is empty"]),
        (
            "image,split,pid,camid\nanna/1.jpg,train,1,\nanna/2.jpg,train,1,7\n",
            ["row 2: camid is empty"],
        ),
        ("image,split,pid\nanna/1.jpg,test,1\n", ["row 2: split 'test' is none of train, query"]),
        (
            "image,split,pid\nanna/1.jpg,train,1\nanna/1.jpg,train,2\n",
            ["row 3: image 'anna/1.jpg': listed twice in train .* with pid '1', now '2'"],
        ),
        (
            "image,split,pid\n../x.jpg,train,1\n/etc/x.jpg,train,1\nno.jpg,train,1\n",
            [
                "row 2: image '../x.jpg' must be",
                "row 3: image '/etc",
                "row 4: image 'no.jpg' does",
            ],
        ),
        (
            "image,split,pid\nanna/1.jpg,train,1\nanna/1.jpg,train,1\nbob/1.jpg,query,1\n",
            ["listed twice", "id 1 is in both", "there is a query but no gallery"],
        ),
        ("image,split,pid\n", ["no images"]),
        ("image,split,pid\nanna/1.jpg,train,1,5\n", ["row 2: has more values than there are col"]),
        ("image,split,pid,pid\nanna/1.jpg,train,1,5\n", ["column 'pid' stands twice"]),
        (
            "image,split,pid\n./anna/1.jpg,train,1\n",
            ["image './anna/1.jpg' must be written"],
        ),
        ('image,split,pid\n"a\nb.jpg",train,1\n', ["image 'a..b.jpg' holds line breaks"]),
        (f"image,split,pid\n{'x' * 5000}.jpg,train,1\n", ["row 2: image .* does not exist"]),
        ("image,split,pid\nanna\0,train,1\n", ["it holds zero bytes"]),
    ],
)
def test_what_is_wrong_is_said_at_once_and_nothing_is_written(tmp_path, mine, text, messages):
    table, images = mine(text)
    with pytest.raises(UserError) as caught:
        take(table, images, Laid.in_folder(tmp_path / "out"))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{table}: ") for line in lines)
    for message in messages:
        assert any(pd.Series(lines).str.contains(message)), (message, lines)
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_leaves_the_old_data_set_alone(tmp_path, mine):
    table, images = mine(WITH_WORDS)
    take(table, images, Laid.in_folder(tmp_path / "out"))
    before = (tmp_path / "out" / "manifest.csv").read_bytes()
    (images / "eve/1.jpg").unlink()
    (images / "eve/1.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"eve/1\.jpg: not an image"):
        take(table, images, Laid.in_folder(tmp_path / "out"))
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == before


def refusal(*arguments):
    with pytest.raises(UserError) as caught:
        take(*arguments)
    return str(caught.value).splitlines()


def test_a_wrong_folder_is_said_once_with_the_right_one(tmp_path, mine):
    table, images = mine(WITH_WORDS)
    for wrong, hint in (
        (images.parent, f"They are below {images}: name that as the folder of the images"),
        (images / "anna", f"They are below {images}: name that as the folder of the images"),
        (tmp_path / "no", "but there is no such folder. Name the folder that they start from"),
    ):
        (line,) = refusal(table, wrong, Laid.in_folder(tmp_path / "out"))
        first = f"the first is looked for at {wrong}/eve/1.jpg"
        assert line.startswith(f"{table}: none of the 5 images is below {wrong}: {first}")
        assert hint in line


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("photos/", ".jpg", "They are there without the 'photos/' before their names"),
        ("", "", "Their names lack the ending '.jpg'"),
    ],
)
def test_names_that_begin_or_end_otherwise_are_said_once(tmp_path, mine, before, after, hint):
    header, *rows = WITH_WORDS.splitlines()
    names, others = zip(*(row.split(".jpg", 1) for row in rows), strict=True)
    rows = [f"{before}{name}{after}{rest}" for name, rest in zip(names, others, strict=True)]
    (line,) = refusal(*mine("\n".join([header, *rows])), Laid.in_folder(tmp_path / "out"))
    assert line.endswith(hint)


def test_many_missing_images_are_ten_lines(tmp_path, mine):
    missing = "".join(f"no{number}.jpg,train,1\n" for number in range(40))
    lines = refusal(
        *mine(f"image,split,pid\nanna/1.jpg,train,1\n{missing}"), Laid.in_folder(tmp_path / "out")
    )
    assert len(lines) == 11 and lines[-1].endswith("mine.csv: and 30 more")


def test_a_split_that_is_none_is_said_once_with_its_rows(tmp_path, mine):
    (line,) = refusal(*mine(WITH_WORDS.replace("query", "Test")), Laid.in_folder(tmp_path / "out"))
    assert "row 3 and 1 more: split 'test' is none of train, query, gallery" in line


def test_windows_paths_and_the_other_accents_are_found(tmp_path, mine):
    text = "Image;Split;PID\nanna\\1.jpg;Train;1\nanna\\2.jpg;Train;1\nj\u00f6rg.jpg ;TRAIN;2\n"
    table, images = mine(text)
    (images / "eve/1.jpg").rename(images / "jo\u0308rg.jpg")
    manifest = take(table, images, Laid.in_folder(tmp_path / "out"))
    assert list(manifest.image) == [f"images/{n}.jpg" for n in ("anna/1", "anna/2", "jo\u0308rg")]
    assert taken.stamp_of(table, images, tmp_path / "out") == ""
    assert taken.since(table, images, tmp_path / "out") == []


def test_one_photograph_under_two_names_and_people_is_refused(tmp_path, mine):
    table, images = mine(WITH_WORDS.replace("anna/2.jpg,gallery,anna", "anna/2.jpg,gallery,eva"))
    (images / "anna/2.jpg").write_bytes((images / "anna/1.jpg").read_bytes())
    assert refusal(table, images, Laid.in_folder(tmp_path / "out"))[-1] == (
        f"{table}: anna/1.jpg (query) and anna/2.jpg (gallery) are the same photograph, but of "
        "two people ('anna' and 'eva')"
    )


def test_one_photograph_in_train_and_test_is_refused(tmp_path, mine):
    table, images = mine(WITH_WORDS.replace("train,eve", "train,anna"))
    (images / "eve/1.jpg").write_bytes((images / "anna/1.jpg").read_bytes())
    lines = refusal(table, images, Laid.in_folder(tmp_path / "out"))
    assert lines[0].endswith("id anna is in both train and test")
    assert "eve/1.jpg (train) and anna/1.jpg (query) are the same photograph: take" in lines[1]


def test_a_query_in_the_gallery_needs_its_own_camera(tmp_path, mine):
    rows = "anna/1.jpg,query,1\nanna/1.jpg,gallery,1\nanna/2.jpg,gallery,1\n"
    (line,) = refusal(*mine(f"image,split,pid\n{rows}"), Laid.in_folder(tmp_path / "out"))
    assert "anna/1.jpg: query and gallery list the same photograph, so that the query" in line


def test_doubts_and_what_was_forgiven_are_printed(tmp_path, mine, capsys):
    rows = "anna/1.jpg;train; Anna\nanna/2.jpg;train;anna\nbob/1.jpg;train;bob\n"
    table, images = mine(f"image;split;pid\n{rows}")
    take(table, images, Laid.in_folder(tmp_path / "out"))
    note, near, alone = capsys.readouterr().out.splitlines()
    assert note == f"note: {table}: pid: blanks around values are taken off, as in ' Anna'"
    assert near.startswith(
        f"warning: {table}: 'Anna' (rows: 1) and 'anna' (rows: 1) count as 2 people"
    )
    assert alone.startswith(f"warning: {table}: train has only one image of 3 people")
