"""The browser that other tests look at pages with sees what is wrong with one."""


def test_errors_and_requests_are_noticed(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://example.org/x.png"><script>nothing()</script><p>text</p>')
    seen = browser(page)
    assert seen.requests == ["http://example.org/x.png"]
    assert any("nothing is not defined" in line for line in seen.console)
    assert "<p>text</p>" in seen.dom


def test_a_plain_page_is_quiet(browser, tmp_path):
    page = tmp_path / "good.html"
    page.write_text('<!DOCTYPE html><link rel="icon" href="data:,"><p>text</p>')
    seen = browser(page)
    assert (seen.console, seen.requests) == ([], [])
