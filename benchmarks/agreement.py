"""Does a device compute what the CPU computes? Each part of the method on both, side by side.

`tests/test_agreement.py` and `make gpu` run these checks on a GPU; on a CPU in place of it
(`python benchmarks/gpu.py --device cpu`) they see that they run. An error is the length of the
difference over the length of what the CPU computes in fp32. Modules are imported where they are
used: a missing package leaves out what needs it, and no more.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pgfl.nn.batch import Batch

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EXACT = 2e-5
"""Allowed for what is computed in float32 whatever the precision: other orders of summation."""
NETWORK = {"fp32": 1e-3, "bf16": 0.15, "fp16": 0.03}
"""Allowed for the features and logits of a whole network with random weights, whose normalisations
over few images enlarge what rounding does: bf16 on a CPU has 0.07."""
GRADIENT = {"fp32": 1e-2, "bf16": 0.7, "fp16": 0.15}
"""Allowed for the gradient of all its weights together: bf16 on a CPU has 0.35."""


@dataclass(frozen=True)
class Found:
    """One comparison."""

    what: str
    error: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the error is small enough; NaN never is."""
        return self.error <= self.allowed


Check = Callable[[torch.device, str], Iterator[Found]]


def precisions(device: torch.device) -> list[str]:
    """Those that a device computes in by itself: others are ten times slower on a processor."""
    from pgfl.runtime.devices import native_bf16

    native = ["bf16"] if native_bf16(device) else []
    return ["fp32", *native, *(["fp16"] if device.type == "cuda" else [])]


def cast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision."""
    return torch.autocast(device.type, KINDS[precision], enabled=precision != "fp32")


@contextmanager
def full_fp32() -> Iterator[None]:
    """No TF32: with it fp32 has 10 bits on newer GPUs."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = False
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def relative(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want|, in float64 on the CPU."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    return float((got - want).norm() / want.norm().clamp_min(1e-30))


def _both(
    what: str,
    compute: Callable[..., Tensor],
    inputs: list[Tensor],
    device: torch.device,
    precision: str,
    allowed: float = EXACT,
) -> Iterator[Found]:
    """A function and its gradients, on the CPU in fp32 and on the device under autocast."""
    results = []
    for where, kind in ((torch.device("cpu"), "fp32"), (device, precision)):
        given = [
            tensor.detach().to(where).requires_grad_(tensor.is_floating_point())
            for tensor in inputs
        ]
        with cast(where, kind):
            out = compute(*given)
        weights = torch.linspace(1, 2, out.numel(), device=where).view(out.shape)
        (out.float() * weights).sum().backward()
        gradients = [g.grad.float().flatten() for g in given if g.grad is not None]
        results.append((out, torch.cat(gradients) if gradients else None))
    (want, slope), (got, found) = results
    yield Found(what, relative(got, want), allowed)
    if slope is not None:
        yield Found(f"{what}: gradient", relative(found, slope), 10 * allowed)


def losses(device: torch.device, precision: str) -> Iterator[Found]:
    """All terms of Eq. 10, on features as long as a trained network's, also in half precision."""
    from pgfl.losses import (
        batch_hard_triplet_loss,
        consistency_loss,
        identity_loss,
        multi_part_contrastive_loss,
    )

    torch.manual_seed(0)
    pids = torch.arange(4).repeat_interleave(8)
    features, teacher = (torch.randn(32, 2048).abs() * 3 for _ in range(2))
    logits = torch.randn(32, 702) * 5
    kind = KINDS[precision]
    terms: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "identity loss": (lambda x: identity_loss(x, pids.to(x.device)), [logits]),
        "triplet loss": (lambda x: batch_hard_triplet_loss(x, pids.to(x.device)), [features]),
        "Eq. 5": (multi_part_contrastive_loss, [features, teacher]),
        "Eq. 5, raw": (
            lambda x, y: multi_part_contrastive_loss(x, y, temperature=1.0, normalized=False),
            [features / 10, teacher / 10],
        ),
    }
    for form in ("normalized", "mean", "literal"):
        terms[f"Eq. 4, {form}"] = (
            lambda x, y, form=form: consistency_loss(x, y, form),
            [features, teacher],
        )
    for name, (compute, inputs) in terms.items():
        yield from _both(name, compute, inputs, device, precision)
        if precision != "fp32":
            # Squares of such features overflow in fp16, unless they are float32 by then.
            rounded = [tensor.to(kind) for tensor in inputs]
            with torch.no_grad(), cast(device, precision):
                got = compute(*(tensor.to(device) for tensor in rounded))
            want = compute(*(tensor.float() for tensor in rounded))
            yield Found(f"{name}, of {precision} inputs", relative(got, want), EXACT)


def branches(device: torch.device, precision: str) -> Iterator[Found]:
    """Eq. 1, Eq. 2 with each similarity, Eq. 3, and the maps that they are given."""
    from pgfl.methods.pgfl_kd.foreground_branch import attend, foreground_attention
    from pgfl.nn.part_pooling import pool_parts, resize_heatmaps
    from pgfl.pose.heatmaps import part_maps

    torch.manual_seed(0)
    features = torch.randn(8, 256, 24, 8).relu()
    maps = torch.rand(8, 8, 96, 32).pow(8)
    query = torch.randn(8, 256).relu()
    raw = torch.rand(8, 17, 96, 32)
    for order in ("merge_first", "softmax_first"):
        with torch.no_grad():
            got = part_maps(raw.to(device), 10.0, "sum", order)
        yield Found(f"maps, {order}", relative(got, part_maps(raw, 10.0, "sum", order)), EXACT)

    def pooled(x: Tensor) -> Tensor:
        return pool_parts(x, resize_heatmaps(maps.to(x.device), (24, 8)))

    yield from _both("Eq. 1", pooled, [features], device, precision)
    for similarity in ("centred", "cosine"):

        def attended(x: Tensor, y: Tensor, similarity: str = similarity) -> Tensor:
            return attend(x, foreground_attention(x, y, similarity, 0.2))

        yield from _both(
            f"Eq. 2 and 3, {similarity}", attended, [features, query], device, precision
        )


def part_branch(device: torch.device, precision: str) -> Iterator[Found]:
    """f_P in training: eight reductions with their normalisations."""
    from pgfl.methods.pgfl_kd.part_branch import PartBranch

    torch.manual_seed(0)
    branch = PartBranch(256, 8)
    parts = torch.randn(32, 8, 256)

    def compute(x: Tensor) -> Tensor:
        return copy.deepcopy(branch).to(x.device)(x)

    # A ReLU's slope jumps where rounding moves its input past zero.
    yield from _both("f_P", compute, [parts], device, precision, allowed=1e-4)


def _network(device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """A network on the CPU, and images and maps for it; all smaller where only a CPU computes."""
    from pgfl.config.recipe import Recipe
    from pgfl.networks.build import build_network

    torch.manual_seed(0)
    height, width = (128, 64) if device.type == "cuda" else (64, 32)
    size = {"height": height, "width": width}
    recipe = Recipe.parse({"model": {"backbone": "resnet18", "pretrained": False} | size})
    network = build_network(recipe, identities=16)
    images = torch.randint(256, (16, height, width, 3)).byte()
    maps = torch.rand(16, 8, height // 4, width // 4).pow(8)
    return network.to(memory_format=torch.channels_last), images, maps


def batch_of(images: Tensor, maps: Tensor) -> "Batch":
    """A batch of four people with four images each."""
    from pgfl.nn.batch import Batch

    labels = torch.arange(4).repeat_interleave(4)
    return Batch(images, labels, torch.zeros_like(labels), maps)


def network(device: torch.device, precision: str) -> Iterator[Found]:
    """The whole network in training: features, logits, and the gradient of all weights."""
    model, images, maps = _network(device)
    results = []
    for where, kind in ((torch.device("cpu"), "fp32"), (device, precision)):
        ours = copy.deepcopy(model).to(where).train()
        with cast(where, kind):
            features, logits = ours(batch_of(images, maps).mapped(lambda t, to=where: t.to(to)))
        out = {f"feature {k}": v.float() for k, v in features.items()}
        out |= {f"logits {k}": v.float() for k, v in logits.items()}
        # Smooth, as losses with mining are not: rounding may choose another hardest image.
        sum(value.square().mean().sqrt() for value in out.values()).backward()
        gradients = [p.grad.float().flatten().cpu() for p in ours.parameters() if p.requires_grad]
        results.append((out, torch.cat(gradients)))
    (want, slope), (got, found) = results
    for name in want:
        yield Found(name, relative(got[name], want[name]), NETWORK[precision])
    yield Found("gradient of all weights", relative(found, slope), GRADIENT[precision])


def student(device: torch.device, precision: str) -> Iterator[Found]:
    """The features that a student's users get, by the code of `.embed` and of evaluation."""
    from pgfl.retrieval.embed import batch_features

    model, images, _ = _network(device)
    ours = model.student.eval()
    want = torch.cat([torch.from_numpy(f) for f in batch_features(ours, [images.numpy()])])
    half = "fp16" if device.type == "cuda" else "bf16"
    if precision not in ("fp32", half):
        return
    asked = "fp32" if precision == "fp32" else "half"
    pieces = [part.numpy() for part in images.split(5)]
    found = batch_features(copy.deepcopy(ours).to(device), pieces, precision=asked)
    got = torch.cat([torch.from_numpy(f) for f in found])
    yield Found(f"features of a student, {asked}", relative(got, want), NETWORK[precision])


def ranking(device: torch.device, precision: str) -> Iterator[Found]:
    """CMC and mAP of features that lie on the device; with ties, to the last bit."""
    from pgfl.retrieval import evaluate

    if precision != "fp32":
        return
    rng = torch.Generator().manual_seed(0)
    pids = torch.randint(50, (1600,), generator=rng)
    cameras = torch.randint(6, (1600,), generator=rng)
    smooth = torch.randn(1600, 256, generator=rng) + torch.randn(50, 256, generator=rng)[pids]
    whole = torch.randint(-2, 3, (1600, 16), generator=rng).float()
    whole[800:1200] = whole[400:800]
    for name, features, metric, allowed in (
        ("mAP, cosine", smooth, "cosine", 1e-5),
        ("mAP, Euclidean", smooth, "euclidean", 1e-5),
        ("AP of each query, tied whole numbers", whole, "euclidean", 0.0),
    ):
        ids = pids[:200], pids[200:], cameras[:200], cameras[200:]
        both = [
            evaluate(features[:200].to(where), features[200:].to(where), *ids, metric=metric)
            for where in ("cpu", device)
        ]
        want, got = (torch.from_numpy(result.average_precision).nan_to_num() for result in both)
        yield Found(name, relative(got, want), allowed)


def reranking(device: torch.device, precision: str) -> Iterator[Found]:
    """Re-ranked mAP."""
    from pgfl.retrieval.rerank import evaluate_reranked

    if precision != "fp32":
        return
    rng = torch.Generator().manual_seed(0)
    pids = torch.randint(20, (500,), generator=rng)
    cameras = torch.randint(4, (500,), generator=rng)
    features = torch.randn(500, 64, generator=rng) + torch.randn(20, 64, generator=rng)[pids]
    ids = pids[:100], pids[100:], cameras[:100], cameras[100:]
    want, got = (
        evaluate_reranked(features[:100].to(where), features[100:].to(where), *ids).mAP
        for where in ("cpu", device)
    )
    yield Found("mAP, re-ranked", abs(got - want) / want, 1e-4)


@contextmanager
def strict() -> Iterator[None]:
    """As training sets it: operations that do not repeat their bits raise."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def repeats(device: torch.device, precision: str) -> Iterator[Found]:
    """Strict training: the same bits twice, and through a checkpoint in the middle."""
    from trainer import Trainer

    from pgfl.config.recipe import Recipe
    from pgfl.training.checkpoint import Resume, load_checkpoint, save_checkpoint

    model, images, maps = _network(device)
    size = {"height": images.shape[1], "width": images.shape[2]}
    recipe = Recipe.parse({"model": {"backbone": "resnet18", **size}})
    batch = batch_of(images, maps / maps.sum(dim=(2, 3), keepdim=True))
    if device.type == "cuda":
        batch = batch.pin_memory()
    batch = batch.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def new() -> Trainer:
        trainer = Trainer(recipe, device, identities=16, precision=precision)
        trainer.model.load_state_dict(model.state_dict())
        return trainer

    def weights(trainer: Trainer) -> Tensor:
        return torch.cat([v.double().flatten().cpu() for v in trainer.model.state_dict().values()])

    with strict(), tempfile.TemporaryDirectory() as folder:
        first, second, third = new(), new(), new()
        resume = Resume(Path(folder) / "checkpoint.pt", {})
        for step in range(4):
            for trainer in (first, second):
                trainer.step(batch)
            if step == 1:
                state = {
                    "model": second.model.state_dict(),
                    "optimizer": second.optimizer.state_dict(),
                    "scaler": second.scaler.state_dict(),
                }
                save_checkpoint(resume, [], state)
        state = load_checkpoint(resume.path)
        third.model.load_state_dict(state["model"])
        third.optimizer.load_state_dict(state["optimizer"])
        third.scaler.load_state_dict(state["scaler"])
        for _ in range(2):
            third.step(batch)
    yield Found("four strict steps, twice", relative(weights(second), weights(first)), 0.0)
    yield Found("resumed after two of them", relative(weights(third), weights(first)), 0.0)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        losses, branches, part_branch, network, student, ranking, reranking, repeats,
    )
}  # fmt: skip
