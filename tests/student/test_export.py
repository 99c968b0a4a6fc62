import json

import numpy as np
import pytest
import torch
from torch import nn

import pgfl
from pgfl.errors import UserError
from pgfl.reporting.complexity import measure
from pgfl.student import export as module
from pgfl.student.export import census, cosine_distances, export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="session")
def fp32(model_file, tmp_path_factory):
    """A file, and what was found about it."""
    path = tmp_path_factory.mktemp("onnx") / "student.onnx"
    return path, export(model_file, path)


@pytest.fixture(scope="session")
def fp16(model_file, changed, tmp_path_factory):
    """Likewise, of a student that wants its pixels in another way, and that student's file."""
    folder = tmp_path_factory.mktemp("onnx")
    other = changed(model_file, folder / "m.safetensors", mean=[99, 88, 77], std=[40, 50, 60])
    return folder / "half.onnx", export(other, folder / "half.onnx", "fp16"), other


def run(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_features_are_the_students_for_any_number_of_images(fp32, student, people, count):
    rng = np.random.default_rng(count)
    noise = rng.integers(0, 256, (count, 64, 32, 3), dtype=np.uint8)
    drawn = [student.prepare(path) for path in sorted(people.rglob("*.*"))[:count]]
    for images in (noise, np.stack(drawn)):
        found = run(fp32[0], images)
        assert found.dtype == np.float32 and found.shape == (count, 512)
        assert cosine_distances(found, student.embed(images)).max() <= 1e-6
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_half_precision_is_half_as_large_and_nearly_as_good(fp32, fp16):
    student = pgfl.load(fp16[2], device="cpu")
    assert fp16[0].stat().st_size < 0.52 * fp32[0].stat().st_size
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3), dtype=np.uint8)
    distances = cosine_distances(run(fp16[0], images), student.embed(images))
    assert 1e-9 < distances.max() <= 1e-3
    assert fp16[1].distance > fp32[1].distance


def test_there_is_no_pose_branch_in_it(fp32, student):
    path, found = fp32
    plain = measure(student.network.backbone, torch.zeros(1, 3, 64, 32))
    assert found.trained == plain
    assert found.graph.macs == found.backbone.macs == plain.macs
    assert found.graph.parameters - found.around == found.backbone.parameters
    assert found.around == 6 + 4 * 512
    # Folded, each of the 20 normalisations is one vector instead of two.
    channels = 64 * 5 + (128 + 256 + 512) * 5
    assert found.backbone.parameters == plain.parameters - channels
    names = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert not any("part" in name or "foreground" in name for name in names)


def test_the_file_says_how_to_use_it(fp32, student):
    model = onnx.load(fp32[0])
    said = {entry.key: entry.value for entry in model.metadata_props}
    given = json.loads(said["input"])
    assert given["shape"] == ["batch", 64, 32, 3] and given["type"] == "uint8"
    assert (given["colours"], given["range"]) == ("RGB", [0, 255])
    preprocessing = json.loads(said["preprocessing_in_the_graph"])
    assert preprocessing == {key: student.preprocessing[key] for key in ("mean", "std")}
    assert json.loads(said["output"])["shape"] == ["batch", 512]
    assert said["model_sha256"] == student.sha256
    assert int(said["macs"]) == json.loads(said["plain_backbone"])["macs"]
    (graph_input,) = model.graph.input
    (graph_output,) = model.graph.output
    for value, shape in ((graph_input, ["batch", 64, 32, 3]), (graph_output, ["batch", 512])):
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == shape


def test_nobodys_folders_are_named_in_it(fp32):
    content = fp32[0].read_bytes()
    assert b".py" not in content and b"Traceback" not in content


class Grown(module.ExportedStudent):
    """A student with something more in it."""

    def __init__(self, student: nn.Module, precision: str):
        super().__init__(student, precision)
        self.branch = nn.Linear(512, 512, bias=False)

    def forward(self, images):
        return super().forward(images) + 0.001 * self.branch(super().forward(images))


class Turned(module.ExportedStudent):
    """One that takes BGR for RGB."""

    def forward(self, images):
        return super().forward(images.flip(3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Grown, "MACs and .* the plain backbone"), (Turned, "differ from PyTorch's: cosine")],
)
def test_a_graph_that_is_something_else_is_not_written(
    model_file, tmp_path, monkeypatch, kind, message
):
    monkeypatch.setattr(module, "ExportedStudent", kind)
    with pytest.raises(UserError, match=message):
        export(model_file, tmp_path / "student.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_precision_and_missing_packages(model_file, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no precision 'int8'; known: fp32, fp16"):
        export(model_file, tmp_path / "student.onnx", "int8")
    monkeypatch.setattr(module, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package: pip install '\.\[export\]'"):
        export(model_file, tmp_path / "student.onnx")


def test_a_student_is_not_replaced_by_its_export(model_file, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(model_file.read_bytes())
    with pytest.raises(UserError, match=r"m\.safetensors: students are exported as \.onnx"):
        export(path, path)
    assert path.read_bytes() == model_file.read_bytes()


def test_the_census_counts_as_by_hand():
    def tensor(name, *dims):
        values = np.ones(dims, np.float32)
        return onnx.numpy_helper.from_array(values, name)

    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"], strides=[2, 2], group=2),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "m"], ["g"]),
        node("Gemm", ["g", "t"], ["y"], transB=1),
        node("Mul", ["y", "one"], ["z"]),
    ]
    weights = [tensor("k", 6, 2, 3, 3), tensor("b", 6), tensor("m", 6, 5), tensor("t", 7, 5)]
    value = onnx.helper.make_tensor_value_info
    given = value("x", onnx.TensorProto.FLOAT, ["batch", 4, 9, 11])
    made = value("z", onnx.TensorProto.FLOAT, ["batch", 7])
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], [*weights, tensor("one", 1)])
    opset = onnx.helper.make_opsetid("", module.OPSET)
    found = census(onnx.helper.make_model(graph, opset_imports=[opset]))
    assert found.macs == 6 * 4 * 5 * (2 * 3 * 3) + 5 * 6 + 7 * 5
    assert found.parameters == 6 * 2 * 9 + 6 + 30 + 35


def test_features_that_are_no_numbers_are_far(student):
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Cast", ["images"], ["x"], to=onnx.TensorProto.FLOAT),
        node("Flatten", ["x"], ["f"]),
        node("Sub", ["f", "f"], ["zero"]),
        node("Div", ["zero", "zero"], ["n"]),
        node("ReduceMean", ["n", "axes"], ["features"]),
    ]
    given = value("images", onnx.TensorProto.UINT8, ["batch", 64, 32, 3])
    made = value("features", onnx.TensorProto.FLOAT, ["batch", 1])
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], [axes])
    opset = onnx.helper.make_opsetid("", module.OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    distance, _ = module._farthest(model, student)
    assert np.isnan(distance)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_cosine_distances():
    one = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    other = np.array([[3, 0], [1, -1], [1, 0]], np.float32)
    found = cosine_distances(one, other)
    np.testing.assert_allclose(found[:2], [0, 1])
    assert np.isnan(found[2])
