"""What Numba lacks for kernels that are made of tasks: their addresses, their packed arguments, and parts of
arrays."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TASK = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, ir.IntType(64)])


def pointer_to(kind: Any) -> Any:
    """A function of compiled code: from an address, a pointer to numbers of a kind."""

    @intrinsic
    def at(typing, address):
        def emit(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), emit

    return at


@intrinsic
def call(typing, function, arguments, i):
    """function(arguments, i), by its address."""

    def emit(context, builder, signature, args):
        function, arguments, i = args
        builder.call(
            builder.inttoptr(function, _TASK.as_pointer()), [builder.inttoptr(arguments, cgutils.voidptr_t), i]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


def _borrowed(context, builder, kind, value):
    """The value with arrays that count no references: whoever holds them does so until the task is done."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo, array.parent = (cgutils.get_null_value(part.type) for part in (array.meminfo, array.parent))
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for i, part in enumerate(kind):
            value = builder.insert_value(value, _borrowed(context, builder, part, builder.extract_value(value, i)), i)
    return value


def task_of(kernel: Any) -> Any:
    """A function of compiled code: from the arguments of the kernel, (address of a function that calls it
    with them, address of the arguments, which stay there until the calling function returns, and their
    length in words)."""

    @intrinsic
    def task(typing, arguments):
        kinds = (types.intp, *arguments.types)
        kernel.compile(kinds)
        compiled = kernel.overloads[kinds]

        def emit(context, builder, signature, args):
            module, packed_kind = builder.module, args[0].type
            values = cgutils.alloca_once_value(builder, _borrowed(context, builder, arguments, args[0]))
            function = ir.Function(module, _TASK, module.get_unique_name("task"))
            function.linkage = "internal"
            body = ir.IRBuilder(function.append_basic_block())
            packed = body.load(body.bitcast(function.args[0], values.type))
            unpacked = [body.extract_value(packed, k) for k in range(len(arguments.types))]
            callee = context.declare_function(module, compiled.fndesc)
            context.call_conv.call_function(body, callee, types.none, kinds, [function.args[1], *unpacked])
            body.ret_void()
            context.add_linking_libs([compiled.library])
            addresses = [builder.ptrtoint(pointer, ir.IntType(64)) for pointer in (function, values)]
            words = ir.Constant(ir.IntType(64), -(-context.get_abi_sizeof(packed_kind) // 8))
            return context.make_tuple(builder, signature.return_type, [*addresses, words])

        return types.UniTuple(types.int64, 3)(arguments), emit

    return task


@intrinsic
def cut(typing, arrays, first, last):
    """array[first:last] for each array of a tuple, where None stays None."""

    def emit(context, builder, signature, args):
        results = []
        for i, kind in enumerate(arrays.types):
            value = builder.extract_value(args[0], i)
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value)
                step, extents = builder.extract_value(array.strides, 0), cgutils.unpack_tuple(builder, array.shape)
                start = builder.gep(builder.bitcast(array.data, cgutils.voidptr_t), [builder.mul(args[1], step)])
                items = length = builder.sub(args[2], args[1])
                for extent in extents[1:]:
                    items = builder.mul(items, extent)
                array.data, array.nitems = builder.bitcast(start, array.data.type), items
                array.shape = cgutils.pack_array(builder, [length, *extents[1:]])
                context.nrt.incref(builder, kind, array._getvalue())
                value = array._getvalue()
            results.append(value)
        return context.make_tuple(builder, arrays, results)

    return arrays(arrays, types.intp, types.intp), emit
