import contextlib
import datetime
import io
import pickle
import time
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest

from pgfl.untrusted import pickled
from pgfl.untrusted.pickled import Named, Stored, entries, read_pickle

PLAIN = {
    "numbers": [0, -1, 255, 65535, 2**31, -(2**31), 2**80, 0.5, float("inf"), True, False, None],
    "texts": ["", "a", "ü\n\\", "x" * 300, b"", b"ab", b"x" * 300],
    "nested": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], {}, {1: {2.5: "a"}}],
    None: [1] * 3000,
    b"key": {str(number): number for number in range(3000)},
}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(content):
    return read_pickle(io.BytesIO(content))[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("key", PLAIN)
def test_plain_data_is_what_python_makes_of_it(protocol, key):
    if protocol < 3 and key in ("texts", b"key"):
        # Before protocol 3 bytes are a call, which is not made.
        return
    assert read(pickle.dumps({key: PLAIN[key]}, protocol)) == {key: PLAIN[key]}


def test_bytes_of_old_protocols_are_a_call_that_is_not_made():
    found = read(pickle.dumps(b"ab", 2))
    assert (found.name, found.args) == ("_codecs.encode", ("ab", "latin1"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_lies_behind_a_pickle_is_left_in_the_file(protocol):
    file = io.BytesIO(pickle.dumps([1], protocol) + pickle.dumps({"a": 2}, protocol) + b"rest")
    assert [read_pickle(file)[0], read_pickle(file)[0], file.read()] == [[1], {"a": 2}, b"rest"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shared_object_is_one_object(protocol):
    shared = [1]
    found = read(pickle.dumps([shared, shared], protocol))
    assert found[0] is found[1]


def test_an_object_that_holds_itself_is_read():
    around = {}
    around["self"] = around
    found = read(pickle.dumps(around))
    assert found["self"] is found


class Setting(dict):
    """As a configuration's class of another package: entries and attributes."""

    def __init__(self, **entries):
        super().__init__(entries)
        self.frozen = True


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_names_with_what_they_hold(protocol):
    found = read(pickle.dumps([Setting(a=1), np.arange(3), deque([1]), {1, 2}], protocol))
    setting, array, queue, numbers = found
    assert setting.name.endswith((".Setting", "._reconstructor")) or protocol < 2
    assert entries(setting) in ({"a": 1}, None if protocol < 2 else ...)
    assert all(isinstance(each, Named) for each in (array, queue))
    assert isinstance(numbers, list if protocol > 3 else Named)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [OrderedDict, lambda pairs: defaultdict(int, pairs), Counter])
def test_other_kinds_of_dicts_have_entries(protocol, kind):
    found = read(pickle.dumps(kind({"a": 1, "b": 2}), protocol))
    if kind is Counter:
        assert found.args == ({"a": 1, "b": 2},)
    else:
        assert entries(found) == {"a": 1, "b": 2}
    assert entries(read(pickle.dumps(OrderedDict(), protocol))) == {}


def test_python_2s_ordered_dicts_have_entries():
    # What Python 2.7 wrote: the class is called with a list of pairs.
    written = (
        b"\x80\x02ccollections\nOrderedDict\n]q\x00(]q\x01(U\x01aK\x01e]q\x02(U\x01bK\x02ee\x85R."
    )
    assert list(pickle.loads(written).items()) == [("a", 1), ("b", 2)]
    assert entries(read(written)) == {"a": 1, "b": 2}


@pytest.mark.parametrize("value", [1, "a", [1], None, Named("a.Sequential"), Stored("x")])
def test_other_things_have_no_entries(value):
    assert entries(value) is None


def test_references_are_kept_and_listed():
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return f"storage {value}" if isinstance(value, float) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"a": 0.5, "b": [1.5]})
    found, stored = read_pickle(io.BytesIO(stream.getvalue()))
    assert [each.id for each in stored] == ["storage 0.5", "storage 1.5"]
    assert found["a"] is stored[0]


# Traps ------------------------------------------------------------------------------------------


def global_(name):
    return b"c" + name.replace(".", "\n", 1).encode() + b"\n"


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code was run")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_is_not_made(tmp_path, protocol):
    content = pickle.dumps([Trap(tmp_path / "marker")], protocol)
    assert isinstance(read(content)[0], Named) and not (tmp_path / "marker").exists()
    pickle.loads(content)
    assert (tmp_path / "marker").exists()


WAYS_TO_CALL = {
    "reduce": global_("os.mkdir") + b"(V%b\ntR.",
    "inst": b"(V%b\nios\nmkdir\n.",
    "obj": b"(" + global_("os.mkdir") + b"V%b\no.",
    "chained": global_("builtins.getattr") + b"(" + global_("os.path") + b"Vos\ntR" + b"(V%b\ntR.",
    "stack_global": b"\x80\x04Vos\nVmkdir\n\x93(V%b\ntR.",
}


@pytest.mark.parametrize("way", WAYS_TO_CALL)
def test_no_opcode_calls(tmp_path, way):
    marker = tmp_path / "marker"
    content = WAYS_TO_CALL[way] % str(marker).encode()
    assert isinstance(read(content), Named)
    assert not marker.exists()
    if way not in ("chained", "inst", "obj"):  # these want a class, or an attribute there is not
        pickle.loads(content)
        assert marker.is_dir()


class WithState:
    def __setstate__(self, state):
        Path(state["marker"]).write_text("code was run")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_state_is_set(tmp_path, protocol):
    value = WithState()
    value.marker = str(tmp_path / "marker")
    content = pickle.dumps(value, protocol)
    assert read(content).state == {"marker": value.marker}
    assert not (tmp_path / "marker").exists()
    pickle.loads(content)
    assert (tmp_path / "marker").exists()


def test_nothing_is_changed_by_setting_the_state_of_a_name():
    content = global_("collections.OrderedDict") + b"}(Vfromkeys\nI1\nsb."
    assert read(content).name == "collections.OrderedDict"
    assert callable(OrderedDict.fromkeys)
    assert read(global_("datetime.date") + b"}(Vmax\nI1\nsb.").state == {"max": 1}
    assert datetime.date.max.year == 9999


HUGE = 0x7FFFFFFF


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Nr" + HUGE.to_bytes(4, "little") + b".", id="memo"),
        pytest.param(b"B" + HUGE.to_bytes(4, "little") + b"abc.", id="bytes"),
        pytest.param(b"\x8e" + (2**60).to_bytes(8, "little") + b"abc.", id="long bytes"),
        pytest.param(b"X" + HUGE.to_bytes(4, "little") + b"abc.", id="text"),
        pytest.param(b"\x95" + (2**60).to_bytes(8, "little") + b"N.", id="frame"),
        pytest.param(b"\x8b" + HUGE.to_bytes(4, "little") + b"abc.", id="number"),
        pytest.param(b"(" * 10_000 + b"t" * 10_000 + b".", id="deep"),
        pytest.param(b"}N" + b"\x85" * 10_000 + b"Ns.", id="deep key"),
        pytest.param(b"}N" + b"2\x86" * 200 + b"Ns.", id="exponential key"),
        pytest.param(b"\x82\x01.", id="extension"),
    ],
)
def test_a_few_bytes_cost_neither_memory_nor_time(content):
    began = time.process_time()
    with contextlib.suppress(ValueError):
        read(content)
    assert time.process_time() - began < 10


def test_a_pickle_of_too_many_steps_is_refused(monkeypatch):
    monkeypatch.setattr(pickled, "MAX_OPCODES", 100)
    assert read(b"N" + b"20" * 49 + b".") is None
    with pytest.raises(ValueError, match="more than 100 steps"):
        read(b"N" + b"20" * 50 + b".")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"0.",
        b"R.",
        b"t.",
        b"I1\n)R.",
        b"NNs.",
        b"h\x05.",
        b"(N",
        b"\x97.",
    ],
)
def test_nonsense_is_refused(content):
    with pytest.raises((ValueError, LookupError, TypeError)):
        read(content)
