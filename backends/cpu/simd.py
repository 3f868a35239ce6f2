"""Vectors of a fixed number of lanes inside numba kernels.

Numba leaves vectorising to LLVM, which is fickle here: a literal rank is unrolled into scalar code (twice as slow), a
loop over several row slices is not vectorised for fear of aliasing (5 times as slow), short loops are not at all. So
the kernels say what they mean: a vector type and a handful of operations, each one LLVM instruction or intrinsic. LLVM
splits a vector that is wider than the machine's registers; nothing here depends on the processor.

Memory is named by integer addresses and element numbers: one compiled kernel then serves arrays that may be written to
and arrays that may not, and any number of axes, and helpers can be called for every point (an array as argument costs
two atomic counts of its references in each call: 70 ns a point and axis). Callers keep the arrays alive and check the
shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

__all__ = [
    "Vector",
    "add",
    "fma",
    "get",
    "load4",
    "load8",
    "mul",
    "put",
    "splat4",
    "splat8",
    "store4",
    "store8",
    "total",
]

_INT32 = ir.IntType(32)
_declare: Any = cgutils.get_or_insert_function


class Vector(types.Type):
    """Numba type of a vector of `lanes` numbers of type `dtype`."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")

    @property
    def suffix(self) -> str:
        """LLVM's name of the type inside names of intrinsics, as ``v8f64``."""
        return f"v{self.lanes}f{self.dtype.bitwidth}"


class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        element = ir.DoubleType() if kind.dtype.bitwidth == 64 else ir.FloatType()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))  # type: ignore[no-untyped-call]


register_model(Vector)(_VectorModel)


def _operation(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


def _broadcast(builder: Any, kind: Any, scalar: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, kind.count), [0] * kind.count))


def _mask(builder: Any, count: Any, lanes: int) -> Any:
    kind = ir.VectorType(count.type, lanes)
    return builder.icmp_signed("<", ir.Constant(kind, list(range(lanes))), _broadcast(builder, kind, count))


def _pointer(builder: Any, address: Any, index: Any, vector: Any) -> Any:
    number = builder.gep(builder.inttoptr(address, vector.element.as_pointer()), [index])
    return builder.bitcast(number, vector.as_pointer())


def _splat(lanes: int) -> Any:
    @_operation
    def splat(context: Any, scalar: Any) -> Any:
        """All lanes equal to `scalar`."""
        kind = Vector(scalar, lanes)

        def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _broadcast(builder, target.get_value_type(kind), arguments[0])

        return kind(scalar), code

    return splat


def _load(lanes: int) -> Any:
    @_operation
    def load(context: Any, address: Any, index: Any, count: Any, like: Any) -> Any:
        """The `count` numbers from number `index` on at `address`, of the type of `like`; zero in the other lanes."""
        kind = Vector(like, lanes)

        def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = target.get_value_type(kind)
            pointer = _pointer(builder, arguments[0], arguments[1], vector)
            mask = _mask(builder, arguments[2], lanes)
            shape = ir.FunctionType(vector, [pointer.type, _INT32, mask.type, vector])
            masked = _declare(builder.module, shape, f"llvm.masked.load.{kind.suffix}.p0")
            return builder.call(masked, [pointer, _INT32(like.bitwidth // 8), mask, ir.Constant(vector, None)])

        return kind(address, index, count, like), code

    return load


def _store(lanes: int) -> Any:
    @_operation
    def store(context: Any, address: Any, index: Any, count: Any, vector: Any) -> Any:
        """Write the first `count` lanes from number `index` on at `address`."""

        def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = arguments[3]
            pointer = _pointer(builder, arguments[0], arguments[1], value.type)
            mask = _mask(builder, arguments[2], lanes)
            shape = ir.FunctionType(ir.VoidType(), [value.type, pointer.type, _INT32, mask.type])
            masked = _declare(builder.module, shape, f"llvm.masked.store.{vector.suffix}.p0")
            builder.call(masked, [value, pointer, _INT32(vector.dtype.bitwidth // 8), mask])
            return target.get_dummy_value()

        return types.void(address, index, count, vector), code

    return store


splat4, splat8 = _splat(4), _splat(8)
load4, load8 = _load(4), _load(8)
store4, store8 = _store(4), _store(8)


@_operation
def get(context: Any, address: Any, index: Any, like: Any) -> Any:
    """Number `index` at `address`, of the type of `like`."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = target.get_value_type(like)
        return builder.load(builder.gep(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]]))

    return like(address, index, like), code


@_operation
def put(context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write `value` as number `index` at `address`."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], arguments[2].type.as_pointer())
        builder.store(arguments[2], builder.gep(pointer, [arguments[1]]))
        return target.get_dummy_value()

    return types.void(address, index, value), code


@_operation
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = arguments[0].type
        shape = ir.FunctionType(vector, [vector] * 3)
        return builder.call(_declare(builder.module, shape, f"llvm.fma.{a.suffix}"), arguments)

    return a(a, b, c), code


@_operation
def mul(context: Any, a: Any, b: Any) -> Any:
    """``a * b``."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return a(a, b), code


@_operation
def add(context: Any, a: Any, b: Any) -> Any:
    """``a + b``."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return a(a, b), code


@_operation
def total(context: Any, a: Any) -> Any:
    """Sum of the lanes, by halves."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, half = arguments[0], a.lanes // 2
        while half:
            undefined, kind = ir.Constant(value.type, ir.Undefined), ir.VectorType(_INT32, half)
            low = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(half))))
            high = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(half, 2 * half))))
            value, half = builder.fadd(low, high), half // 2
        return builder.extract_element(value, _INT32(0))

    return a.dtype(a), code
