"""Training in several processes at once, as torchrun starts them: who does what.

Every process makes its part of each batch and takes the same step; the batch is that of one
process, and so is the loss. The first alone writes. Batch normalisation is over the whole batch on
GPUs (torch's SyncBatchNorm); on CPUs, where torch has none, over each process's part, and the loss
of a network with such layers is near that of one process, not equal to it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Processes:
    """One of the processes that train together.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        local_rank: Its number among those of this machine.
        local_count: How many there are on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def device_of(self, device: Device) -> Device:
        """This process's part of the device that all were given: a GPU each, or some threads."""
        if self.count == 1:
            return device
        threads = max(1, device.threads // self.local_count)
        is_gpu = device.name.startswith("cuda")
        name = f"cuda:{self.local_rank}" if is_gpu else device.name
        return replace(device, name=name, threads=threads)

    def sum(self, value: Tensor) -> Tensor:
        """Of all processes' values, without a gradient; each has to ask for it."""
        total = value.detach().clone()
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total

    def joined(self, values: Tensor) -> Tensor:
        """All processes' values (n, ...), one after the other; a gradient has its own part alone.

        All have equally many.
        """
        if self.count == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.count)]
        torch.distributed.all_gather(parts, values.detach().contiguous())
        parts[self.rank] = values
        return torch.cat(parts)

    def interleaved(self, values: Tensor) -> Tensor:
        """All processes' values (n, ...) in the order of rows that were dealt out in turn.

        Process r holds rows r, r + count, ...; the last ones may hold one less.
        """
        if self.count == 1:
            return values
        parts: list[Tensor] = [values] * self.count
        torch.distributed.all_gather_object(parts, values.cpu())
        whole = values.new_empty(sum(map(len, parts)), *values.shape[1:], device="cpu")
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole


ALONE = Processes()


def of_environment(environment: Mapping[str, str] = os.environ) -> Processes:
    """This process among those that torchrun started; alone where it did not.

    Raises:
        ConfigError: the environment names several processes, and not all that torchrun says.
    """
    if int(environment.get("WORLD_SIZE", "1")) <= 1:
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in environment]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, and {', '.join(missing)} is not set; "
            "start several processes with torchrun, or unset WORLD_SIZE for one"
        )
    return Processes(*(int(environment[name]) for name in names[:4]))
