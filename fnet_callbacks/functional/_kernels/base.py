"""How a kernel is compiled, and the two bit operations that NumPy does not offer to Numba."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

ONE = np.uint64(1)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, and keep the machine code on disk where a place is writable.

    Division by zero is NumPy's: to look for it before each division would keep loops from being vectorised.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # Numba finds no place for its cache; the code then lives as long as the process
        return njit(nogil=True, error_model="numpy")(function)


def _popcount(typingctx, word):
    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def _lowest_bit(typingctx, word):
    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))  # undefined for 0, which is never asked

    return types.int64(types.uint64), codegen


popcount: Any = intrinsic(_popcount)
lowest_bit: Any = intrinsic(_lowest_bit)
