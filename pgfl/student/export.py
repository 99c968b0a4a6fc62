"""The student as an ONNX file, checked against PyTorch and against the plain backbone."""

import importlib.util
import inspect
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgfl import __version__
from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.errors import UserError
from pgfl.networks.saved import load_student
from pgfl.nn.backbone import build_backbone
from pgfl.reporting.complexity import Complexity, measure
from pgfl.runtime.files import whole_file
from pgfl.student.embedder import SHORTEST, Embedder, unit_length

FORMAT = "pgfl-onnx-1"
INPUT, OUTPUT, BATCH = "images", "features", "batch"
OPSET = 20
FARTHEST = {"fp32": 1e-6, "fp16": 1e-3}
"""Cosine distance from PyTorch's fp32 features that a file may reach."""
BATCHES = (1, 2, 5)
"""Images in the batches of the comparison."""
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Of the extra `export`; PyTorch's exporter needs the last one."""


@dataclass(frozen=True)
class Exported:
    """What is in the file, and how it compares."""

    graph: Complexity
    """MACs of the graph, and the numbers in it that were learnt. Normalisations are folded into
    the convolutions, so a layer has one number a channel beside its kernel."""
    backbone: Complexity
    """The same of the plain backbone, exported by itself."""
    around: int
    """What the graph has beyond that: pixels' mean and deviation, and the BNNeck."""
    trained: Complexity
    """The plain backbone in PyTorch, its normalisations not folded."""
    distance: float
    """The largest cosine distance from PyTorch's fp32 features."""
    images: int
    """That were compared."""


class ExportedStudent(nn.Module):
    """The student with its features brought to length one; the backbone may be in fp16."""

    def __init__(self, student: nn.Module, precision: str):
        super().__init__()
        self.student = student
        self.kind = torch.float16 if precision == "fp16" else torch.float32
        student.backbone.to(self.kind)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3), RGB, to float32 (N, c), each row of length one."""
        pixels = self.student.normalize(images).to(self.kind)
        feature = self.student.head(self.student.backbone(pixels))
        return feature / feature.norm(dim=1, keepdim=True).clamp_min(SHORTEST)


def export(path: Path, out: Path, precision: str = "fp32") -> Exported:
    """Write a student as ONNX: uint8 images in, features of length one out.

    The graph takes `images`, uint8 (batch, height, width, 3), RGB, of any batch size, and
    normalises them itself. Its metadata say so too, in JSON.

    Args:
        path: `model.safetensors`.
        out: the .onnx file; written only if all checks pass.
        precision: `fp32`, or `fp16` for the backbone (input, BNNeck and output stay as they are).

    Raises:
        UserError: another ending than .onnx, the student cannot be loaded, a package is missing,
            the graph holds more than the plain backbone, or its features are not PyTorch's.
    """
    if precision not in FARTHEST:
        raise UserError(f"no precision {precision!r}; known: {', '.join(FARTHEST)}")
    if out.suffix != ".onnx":
        raise UserError(f"{out}: students are exported as .onnx; choose such a name")
    _need_packages()
    reference = Embedder(path, "cpu", "fp32")
    student, settings = load_student(path)
    size = reference.height, reference.width
    student.normalize = reference.network.normalize  # with the constants of the file
    plain = build_backbone(settings).eval()
    plain.load_state_dict(student.backbone.state_dict())
    trained = measure(plain, torch.zeros(1, 3, *size))
    whole = measure(student, torch.zeros(1, *size, 3, dtype=torch.uint8))
    model = _exported(
        ExportedStudent(student, precision), torch.zeros(2, *size, 3, dtype=torch.uint8)
    )
    backbone = census(_exported(plain, torch.zeros(2, 3, *size)))
    graph = census(model)
    around = graph.parameters - backbone.parameters
    # Equal vectors are kept once, so it may be less.
    few = 0 <= around <= _around(student)
    same = graph.macs == whole.macs and backbone.macs == trained.macs
    if not (few and same):
        raise UserError(
            f"{path}: its graph has {graph.macs:,} MACs and {graph.parameters:,} parameters, the "
            f"plain backbone {backbone.macs:,} ({trained.macs:,} in PyTorch) and "
            f"{backbone.parameters:,}; nothing was written"
        )
    distance, images = _farthest(model, reference)
    if not distance <= FARTHEST[precision]:
        raise UserError(
            f"{path}: its ONNX features differ from PyTorch's: cosine distance {distance:.2g}, "
            f"at most {FARTHEST[precision]:g} is allowed; nothing was written"
        )
    found = Exported(graph, backbone, around, trained, distance, images)
    _describe(model, reference, settings.backbone, precision, found)
    with whole_file(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return found


def census(model: Any) -> Complexity:
    """MACs of a graph for one image, and how many learnt numbers it holds.

    Args:
        model: an onnx.ModelProto whose inputs have a batch dimension in front.

    Raises:
        ValueError: the size of a product cannot be told.
    """
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in single.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    macs = sum(_macs(node, shapes | weights) for node in graph.node)
    learnt = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    numbers = sum(
        int(np.prod(tensor.dims))
        for tensor in graph.initializer
        if tensor.data_type in learnt and np.prod(tensor.dims) > 1
    )
    return Complexity(macs, numbers)


def _macs(node: Any, shapes: dict[str, list[int]]) -> int:
    """Multiply-accumulates of a node: of convolutions and matrix products."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    outputs, inputs = shapes.get(node.output[0], []), [shapes.get(name, []) for name in node.input]
    if not outputs or 0 in outputs or not all(inputs[:2]):
        raise ValueError(f"the shapes around node {node.name} are not known")
    if node.op_type == "Conv":
        each = inputs[1][1:]  # input channels of a group, and the kernel
    else:
        transposed = any(item.name == "transA" and item.i for item in node.attribute)
        each = [inputs[0][0 if transposed else -1]]
    return int(np.prod(outputs) * np.prod(each))


def _around(student: nn.Module) -> int:
    """How many numbers of a student are not in its backbone."""
    pixels = student.normalize.mean.numel() + student.normalize.std.numel()
    head = [
        tensor.numel()
        for name, tensor in student.state_dict().items()
        if not name.startswith("backbone.") and tensor.is_floating_point()
    ]
    return pixels + sum(head)


def _farthest(model: Any, reference: Embedder) -> tuple[float, int]:
    """The largest cosine distance from PyTorch over random and drawn images, and their number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    distances = []
    for images in _comparison_images(reference.height, reference.width):
        with torch.inference_mode():
            expected = unit_length(reference.network(torch.from_numpy(images)).numpy())
        (found,) = session.run([OUTPUT], {INPUT: images})
        distances.append(cosine_distances(found, expected))
    found = np.concatenate(distances)
    return float(found.max()), len(found)  # NaN stays NaN


def cosine_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 (N,): of each row of one from the same row of the other; NaN if one holds NaN."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return 1 - (first * second).sum(axis=1) / lengths


def _comparison_images(height: int, width: int) -> Iterator[np.ndarray]:
    """Batches uint8 (n, height, width, 3): noise, one colour, and drawn people."""
    rng = np.random.default_rng(0)
    for count in BATCHES:
        yield rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        yield np.broadcast_to(
            rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), (count, height, width, 3)
        ).copy()
        people = [
            render(
                sample_identity(1, pid),
                rng=np.random.default_rng(pid),
                camera=pid,
                camera_seed=1,
                size=(height, width),
                occlusion="object",
            ).image
            for pid in range(count)
        ]
        yield np.stack(people)


def _exported(module: nn.Module, example: Tensor) -> Any:
    """An onnx.ModelProto of a module, without the notes that the exporter leaves in it."""
    import onnx

    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            verbose=False,
        )
        program.save(buffer)
    model = onnx.load_from_string(buffer.getvalue())
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: Any) -> None:
    """Remove names of local files and lines of code: they are nobody's business."""
    graph = model.graph
    noted = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for item in [*noted, graph, model]:
        del item.metadata_props[:]
        item.doc_string = ""
    graph.name = "student"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _describe(
    model: Any, reference: Embedder, backbone: str, precision: str, found: Exported
) -> None:
    """Say in the file how to use it."""
    facts = {
        "format": FORMAT,
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": [BATCH, reference.height, reference.width, 3],
            "colours": "RGB",
            "range": [0, 255],
            "content": "one person a crop, resized to this size without keeping the aspect ratio",
            "resize": "averaging (area) where both sides shrink, else bilinear",
        },
        "preprocessing_in_the_graph": {
            "mean": reference.preprocessing["mean"],
            "std": reference.preprocessing["std"],
        },
        "output": {
            "name": OUTPUT,
            "type": "float32",
            "shape": [BATCH, reference.channels],
            "content": "length one: the dot product of two rows is their cosine similarity",
        },
        "backbone": backbone,
        "precision": precision,
        "macs": found.graph.macs,
        "parameters": found.graph.parameters,
        "plain_backbone": {"macs": found.backbone.macs, "parameters": found.backbone.parameters},
        "largest_cosine_distance_from_pytorch": found.distance,
        "model_sha256": reference.sha256,
    }
    model.producer_name, model.producer_version = "pgfl", __version__
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)


def _need_packages() -> None:
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise UserError(
            f"exporting needs a later PyTorch than {torch.__version__}, whose exporter is another "
            "one (2.13 and 2.14 are tested): pip install --upgrade torch"
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"exporting needs {', '.join(missing)}: pip install '.[export]' in the repository's "
            "folder"
        )
