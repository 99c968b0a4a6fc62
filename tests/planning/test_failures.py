import pytest

from pgfl.planning.failures import explain


@pytest.fixture
def log(tmp_path):
    def write(text):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
        path.write_bytes(text)
        return str(path)

    return write


def test_a_job_says_its_own_errors_and_nothing_else(log):
    path = log(b"heatmaps: 3/9\nerror: a.zip: damaged\nno error: here\nerror: b.zip: too\n")
    assert explain([path])[:-1] == [
        f"{path}:",
        "    error: a.zip: damaged",
        "    error: b.zip: too",
    ]


def test_a_job_that_was_killed_is_shown_with_its_last_line(log, tmp_path):
    paths = [log(b"epoch 3/9 \xff\n\n"), str(tmp_path / "none.log")]
    lines = explain(paths)
    assert lines[1].endswith("the last line is: epoch 3/9 �")
    assert "killed?" in lines[3]


def test_many_errors_are_cut(log):
    lines = explain([log(b"error: x\n" * 30)])
    assert len(lines) == 8 and lines[6] == "    and 25 more"


def test_the_end_says_how_to_go_on(log):
    assert explain([log(b"")])[-1].startswith("Mend this, then type the same command again")
    assert explain([]) == ["Stopped. Type the same command again to go on where it was."]
