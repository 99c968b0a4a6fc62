"""One run on several devices: a process each, which together compute what one would.

Every process gets its share of the identities of each batch. Batch normalisation takes its
statistics over all shares, and the losses are computed on the features of all, gathered: batch-
hard mining sees the whole batch, and the gradients are those of one process but for rounding.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pgfl.errors import UserError, of_another_process
from pgfl.runtime.devices import pick_device
from pgfl.runtime.orphans import GRACE
from pgfl.training.arithmetic import make_precision


def make_fabric(devices: int, precision: str) -> Fabric:
    """Fabric on this machine's GPUs, or on its CPU where there is none.

    Args:
        devices: processes; where torchrun has started them, their number.
        precision: Fabric's name of it.

    Raises:
        UserError: there are not as many devices.
    """
    kind = pick_device().type
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"--devices {devices}: this machine has {torch.cuda.device_count()}")
    if TorchElasticEnvironment.detect():
        started = os.environ["WORLD_SIZE"]
        if not started == os.environ["LOCAL_WORLD_SIZE"] == str(devices):
            raise UserError(
                f"--devices {devices}: torchrun started {started} processes; give the same "
                "number, and one machine"
            )
        environment, start = TorchElasticEnvironment(), "popen"
    else:
        environment, start = LightningEnvironment(), "spawn"
    plugin = make_precision(precision, kind)
    if devices == 1:
        # The environment is named, or in a Slurm job Lightning would look for one by itself.
        return Fabric(accelerator=kind, devices=1, plugins=[plugin, environment])
    strategy = Processes(cluster_environment=environment, start_method=start)
    return Fabric(accelerator=kind, devices=devices, strategy=strategy, plugins=plugin)


class Processes(DDPStrategy):
    """Fabric's processes without the DDP wrapper.

    That has gradients of zero, which weight decay turns into steps, where a branch only teaches
    and one process has none; and it averages after every part of a batch.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The network as it is; `average_gradients` does the wrapper's work."""
        return module


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Bring the gradients of all processes to their mean, in one message."""
    if fabric.world_size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= fabric.world_size
    for gradient, mean in zip(
        gradients, together.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(mean.view(gradient.shape))


def launch(fabric: Fabric, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(fabric, *arguments)` in every process, and wait for all of them.

    Raises:
        UserError: as the first process that failed did.
    """
    before = active_children()
    try:
        # In one piece: Lightning would look for networks in the arguments and refuse ours.
        fabric.launch(partial(_call, work, arguments))
    except torch.multiprocessing.ProcessRaisedException as error:
        raise of_another_process(error) or error from None
    finally:
        _stop_processes([child for child in active_children() if child not in before])


def _stop_processes(children: list[BaseProcess]) -> None:
    """End the processes that are left when this one is stopped; Python would wait for them."""
    for child in children:
        child.terminate()
    until = time.monotonic() + GRACE
    for child in children:
        child.join(max(0, until - time.monotonic()))
        child.kill()


def _call(work: Callable[..., None], arguments: tuple[Any, ...], fabric: Fabric) -> None:
    work(fabric, *arguments)


def gather(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The rows (n, ...) of all processes, in the order of their ranks.

    Gradients find their way back: each process gets those that its rows have in all processes.
    """
    if fabric.world_size == 1:
        return tensor
    before, after = fabric.global_rank, fabric.world_size - 1 - fabric.global_rank
    padding = [0, 0] * (tensor.ndim - 1) + [before * len(tensor), after * len(tensor)]
    return Sum.apply(functional.pad(tensor, padding))


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, in each of them."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        """Add up the values."""
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Add up what the processes want of it: their losses are added up, too."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm(_BatchNorm):
    """What PyTorch's SyncBatchNorm computes, on a CPU, which that does not support."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, ...) to the same, normalised over N and space of all processes."""
        if not self.training:
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        values = x.float()
        count = values[:, 0].numel() * distributed.get_world_size()
        mean = Sum.apply(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = Sum.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Have every batch normalisation take its statistics over all processes.

    Modules are changed in place, so that the BNNeck and the student go on sharing theirs.

    Raises:
        UserError: a backbone with batch normalisation of its own kind.
    """
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = nn.SyncBatchNorm if device.type == "cuda" else SyncedBatchNorm
            module.process_group = None  # all processes
        elif isinstance(module, _BatchNorm) and not isinstance(
            module, (nn.SyncBatchNorm, SyncedBatchNorm)
        ):
            raise UserError(
                f"--devices: {type(module).__name__} of this backbone cannot be synchronised "
                "over devices; train it on one"
            )
