"""What users pass by mistake, in the place of each argument of a function in turn."""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from fnet_callbacks.errors import FnetError

ODD = (
    None,
    "a",
    2.5,
    -1,
    0,
    True,
    math.nan,
    math.inf,
    10**30,
    1j,
    object(),
    {},
    [1, 2],
    [[1.0, 2.0], [3.0]],
    ["a", "b"],
    np.array(7),
    np.float32(0.25),
    np.empty(0),
    np.empty((0, 0)),
    np.zeros((3, 0)),
    np.ones(3),
    np.ones((2, 3)),
    np.ones((2, 3, 2)),
    np.full((3, 3), np.nan),
    np.full(3, -3),
    np.full((3, 3), 2.5),
    np.ones((3, 3), bool),
    np.ones((3, 3), complex),
    np.full((3, 3), "a"),
    np.full((3, 3), None),
    np.full(3, "2020-01-01", "datetime64[s]"),
    torch.ones(3, 3, requires_grad=True),
    torch.ones(3, dtype=torch.int64),
    torch.tensor(2),
    torch.empty(0, 2),
    torch.full((3, 3), torch.nan),
    torch.ones(3, 3, dtype=torch.complex64),
)


def of_another_shape(value: Any) -> Iterable[Any]:
    """An array or tensor as it is not meant: shorter, longer, turned, with an axis more, of other types."""
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        return
    yield from (value[:0], value[:-1], value[None], value[..., None])
    if isinstance(value, np.ndarray):
        with np.errstate(invalid="ignore"):
            yield from (
                value.T,
                np.concatenate([value, value]),
                value.astype(str),
                value.astype(complex),
                value.astype(float) + 0.5,
                -np.abs(value.astype(float)) - 1,
                value.astype(bool),
                value.tolist(),
            )
    else:
        yield from (
            value.numpy(),
            value.flip(0).transpose(0, -1),
            torch.cat([value, value]),
            value.to(torch.complex64),
            -value - 1,
        )


def raw_errors(function: Callable[..., Any], arguments: dict[str, Any]) -> list[str]:
    """What a function raises or warns of, beyond an ``FnetError`` that names one of its arguments.

    Args:
        function: Is called with all of ``arguments``, one of which is odd.
        arguments: With which it works.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(**arguments)
        found = []
        for name, value in arguments.items():
            for odd in (*ODD, *of_another_shape(value)):
                try:
                    function(**{**arguments, name: odd})
                except FnetError as error:
                    if not any(argument in str(error) for argument in arguments):
                        found.append(f"{name}={_shown(odd)}: names no argument: {error}")
                except Exception as error:
                    found.append(f"{name}={_shown(odd)}: {type(error).__name__}: {error}")
    return found


def _shown(odd: Any) -> str:
    shape = getattr(odd, "shape", None)
    return repr(odd)[:40] if shape is None else f"{odd.dtype} {tuple(shape)}"
