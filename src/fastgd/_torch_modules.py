"""Modules of torch that networks need and torch has not."""

from typing import Any

import torch
from torch import Tensor, nn


class Skip(nn.Sequential):
    """Modules one after the other, and what went in added to what comes out.

    ``x + module(x)``: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR
    2016, eq. 1.

    Examples
    --------
    >>> import torch
    >>> from fastgd.torch import Skip
    >>> Skip(torch.nn.ReLU())(torch.tensor([-1.0, 2.0]))
    tensor([-1.,  4.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the sum."""
        modules: Any = super()
        return torch.add(input, modules.forward(input))
