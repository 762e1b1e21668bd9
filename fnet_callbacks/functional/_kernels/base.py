"""How a kernel is compiled, and the three operations that NumPy does not offer to Numba."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys
from numba.extending import intrinsic

ONE = np.uint64(1)


class _Cache(FunctionCache):
    """Loads machine code without what only compiling asks for, which takes Numba longer than a snapshot to measure."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, and keep the machine code on disk where a place is writable.

    Division by zero is NumPy's: to look for it before each division would keep loops from being vectorised.
    """
    try:
        compiled: Any = njit(nogil=True, error_model="numpy", cache=True)(function)
        compiled._cache = _Cache(function)
        return compiled
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


def _prefetch(typingctx, array, place):
    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer)
        # To be written to, to be kept in all levels of the cache, data and not code.
        builder.call(instruction, [address, *(ir.Constant(integer, each) for each in (1, 3, 1))])

    return types.void(array, types.int64), codegen


popcount: Any = intrinsic(_popcount)
lowest_bit: Any = intrinsic(_lowest_bit)
prefetch: Any = intrinsic(_prefetch)  # asks for one item of a contiguous array, by its place in memory order
