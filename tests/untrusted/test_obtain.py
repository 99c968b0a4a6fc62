import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.untrusted.obtain import (
    Source,
    can_be_had,
    check,
    explain_missing,
    matches,
    obtain,
    unreachable,
)

CONTENT = b"a published file" * 1000
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
SOURCE = Source("set.zip", SHA, note="Its authors withdrew it.")


def get(source, tmp_path, **options):
    target = tmp_path / "out" / source.name
    arguments = {"folder": tmp_path / "archives", "file": None, "url": ""} | options
    obtain(source, target, **arguments)
    return target


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


def test_a_file_in_the_folder_is_checked_and_linked(tmp_path, archives):
    (archives / "set.zip").write_bytes(CONTENT)
    target = get(SOURCE, tmp_path)
    assert target.samefile(archives / "set.zip")


def test_a_wrong_checksum_stops_and_leaves_nothing(tmp_path, archives):
    (archives / "set.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"set\.zip: wrong checksum: sha256 is .*expected"):
        get(SOURCE, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_data_set_packed_again_is_taken_and_that_is_said(tmp_path, archives, capsys):
    again = Source("set.zip", SHA, holds=(("query", "gallery"),))
    (archives / "set.zip").write_bytes(b"packed again")
    assert get(again, tmp_path).read_bytes() == b"packed again"
    assert "its names and counts are checked instead" in capsys.readouterr().out


def test_a_missing_file_says_what_why_and_where(tmp_path):
    with pytest.raises(UserError) as caught:
        get(SOURCE, tmp_path)
    message = str(caught.value)
    assert message == explain_missing(SOURCE, tmp_path / "archives")
    assert "withdrew" in message and SHA in message
    assert str(tmp_path / "archives" / "set.zip") in message


def test_the_users_own_file_is_taken_though_it_differs(tmp_path, capsys):
    mine = tmp_path / "mine.zip"
    mine.write_bytes(b"other")
    assert get(SOURCE, tmp_path, file=mine).read_bytes() == b"other"
    assert "not the published set.zip" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"gone\.zip: no such file, but the configuration"):
        get(SOURCE, tmp_path, file=tmp_path / "gone.zip")


def test_a_checksum_may_be_a_prefix(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    assert matches(path, SHA[: len("sha256:") + 8]) and matches(path, "")
    assert not matches(path, "sha256:00000000")
    check(path, SHA)


def test_a_file_inside_a_published_zip(tmp_path, archives):
    inner = Source("set.zip", SHA, container=Source("outer.zip"))
    with zipfile.ZipFile(archives / "outer.zip", "w") as outer:
        outer.writestr("set.zip", CONTENT)
    assert get(inner, tmp_path).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set.zip"]


def test_a_bomb_inside_a_published_zip_is_refused(tmp_path, archives):
    inner = Source("set.zip", SHA, container=Source("outer.zip"))
    with zipfile.ZipFile(archives / "outer.zip", "w", zipfile.ZIP_DEFLATED) as outer:
        outer.writestr("set.zip", bytes(8 << 20))
    with pytest.raises(UserError, match="a zip bomb"):
        get(inner, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_container_without_the_file_is_named(tmp_path, archives):
    inner = Source("set.zip", SHA, container=Source("outer.zip"))
    with zipfile.ZipFile(archives / "outer.zip", "w") as outer:
        outer.writestr("another.zip", b"")
    with pytest.raises(UserError, match=r"does not hold set\.zip"):
        get(inner, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


class Flaky(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, breaking off half-way at the first request; honours Range."""

    starts: list[int] = []

    def do_GET(self):
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT) // 2 if len(self.starts) == 1 else len(CONTENT)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    Flaky.starts = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    # Only https is allowed; for the test's own server the rule is widened, nothing else is.
    monkeypatch.setattr("pgfl.untrusted.obtain.ALLOWED", ("http://127.0.0.1",))
    yield f"http://127.0.0.1:{httpd.server_address[1]}/set.zip"
    httpd.shutdown()
    httpd.server_close()


def test_a_broken_download_goes_on_where_it_was(tmp_path, server):
    with pytest.raises(UserError, match="run again to go on"):
        get(SOURCE, tmp_path, url=server)
    assert not (tmp_path / "out" / "set.zip").exists()
    assert get(SOURCE, tmp_path, url=server).read_bytes() == CONTENT
    assert Flaky.starts == [0, len(CONTENT) // 2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set.zip"]


def test_a_complete_part_is_only_checked(tmp_path, server):
    Flaky.starts.append(0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "set.zip.part").write_bytes(CONTENT)
    assert get(SOURCE, tmp_path, url=server).read_bytes() == CONTENT


def test_a_download_of_other_bytes_is_thrown_away(tmp_path):
    published = tmp_path / "elsewhere"
    published.write_bytes(b"not it")
    with pytest.raises(UserError, match="wrong checksum"):
        get(SOURCE, tmp_path, url=published.as_uri())
    assert list((tmp_path / "out").iterdir()) == []


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Sends everybody elsewhere."""

    asked: list[str] = []
    to = ""

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", self.to)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("to", ["http://127.0.0.2/set.zip", "file:///etc/passwd", "ftp://a/b"])
def test_a_redirection_to_where_no_download_may_begin_is_refused(tmp_path, monkeypatch, to):
    Redirecting.asked, Redirecting.to = [], to
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    # This server stands for one of https: what begins like its address is allowed, no other.
    monkeypatch.setattr("pgfl.untrusted.obtain.ALLOWED", ("http://127.0.0.1",))
    url = f"http://127.0.0.1:{httpd.server_address[1]}/set.zip"
    with pytest.raises(
        UserError, match=r"refused, it redirects to|Redirection to url .* is not allowed"
    ):
        get(SOURCE, tmp_path, url=url)
    httpd.shutdown()
    httpd.server_close()
    assert Redirecting.asked == ["/set.zip"] and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("url", ["https://[", "https://a b/c", "https://", "file://"])
def test_an_address_that_is_none_is_named(tmp_path, url):
    with pytest.raises(UserError, match="download failed"):
        get(SOURCE, tmp_path, url=url)


@pytest.mark.parametrize("url", ["http://example.org/set.zip", "ftp://example.org/set.zip"])
def test_only_https_and_files_are_asked(tmp_path, url):
    with pytest.raises(UserError, match="only https"):
        get(SOURCE, tmp_path, url=url)


def test_what_can_be_had_is_known_without_trying(tmp_path, archives):
    def ask(source, file=None, url=""):
        return can_be_had(source, archives, file, url)

    inner = Source("set.zip", container=Source("outer.zip"))
    assert not ask(SOURCE) and not ask(inner)
    assert ask(SOURCE, url="https://example.org/x")
    assert ask(Source("a", url="https://example.org/a"))
    assert not ask(SOURCE, file=Path("gone"))
    (archives / "outer.zip").touch()
    assert ask(inner)


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers with the number that the path is, and keeps those waiting who ask for /wait."""

    let_go = threading.Event()

    def do_HEAD(self):
        if self.path == "/wait":
            self.let_go.wait(30)
        self.send_response(int(self.path[1:]) if self.path[1:].isdecimal() else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_an_address_that_gives_nothing_is_said_and_nothing_hangs(tmp_path, monkeypatch):
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr("pgfl.untrusted.obtain.ALLOWED", ("http://127.0.0.1", "file://"))
    monkeypatch.setattr("pgfl.untrusted.obtain.PATIENCE_SECONDS", 0.5)
    here = f"http://127.0.0.1:{httpd.server_address[1]}"
    (tmp_path / "x.zip").touch()
    closed = "http://127.0.0.1:1/x.zip"
    gone = (tmp_path / "y.zip").as_uri()
    answering = [f"{here}/200", f"{here}/403", f"{here}/500", (tmp_path / "x.zip").as_uri()]
    # These are refused by the download itself, which says so.
    answering += ["http://elsewhere.example/x.zip", "no address"]
    silent = [f"{here}/404", f"{here}/410", f"{here}/wait", closed, gone]
    reasons = unreachable([*answering, *silent])
    Answering.let_go.set()
    httpd.shutdown()
    httpd.server_close()
    assert sorted(reasons) == sorted(silent)
    assert reasons[f"{here}/404"] == "404 Not Found"
    assert "refused" in reasons[closed] and "No such file" in reasons[gone]
    assert unreachable([]) == {}
