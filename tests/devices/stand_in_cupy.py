"""A stand-in for CuPy, as strict as CuPy where that matters: a kernel takes CuPy arrays and NumPy
scalars, a module bytes."""

from types import ModuleType, SimpleNamespace

import numpy as np

H100 = {
    "MultiProcessorCount": 132,
    "ClockRate": 1_980_000,
    "MemoryClockRate": 2_619_000,
    "GlobalMemoryBusWidth": 5120,
    "L2CacheSize": 50 << 20,
}
PASSED_BY_VALUE = {np.dtype(code).type for code in "?bhilqBHILQefd"}


class CompileException(Exception):
    pass


class CUDADriverError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class CUDARuntimeError(CUDADriverError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class StandIn(ModuleType):
    """A module with what gpucnn uses of CuPy, which records the calls."""

    def __init__(self):
        super().__init__("cupy")
        calls = self.calls = []
        self.attributes = dict(H100)
        self.failing = None
        self.static_bytes = 0
        self.out_of_memory = 0
        self.log = "kern.cu(3): error: identifier is undefined"
        self.current = 0
        stand_in = self

        class Array(np.ndarray):
            def __array_finalize__(self, base):
                self.number = getattr(base, "number", stand_in.current)

            @property
            def data(self):
                return SimpleNamespace(ptr=self.ctypes.data, device_id=self.number)

            def get(self):
                return np.array(self)

        def empty(shape, dtype):
            if stand_in.out_of_memory:
                stand_in.out_of_memory -= 1
                raise OutOfMemoryError("Out of memory allocating 4,096 bytes")
            return np.empty(shape, dtype).view(Array)

        def asarray(values, order):
            array = empty(values.shape, values.dtype)
            array[...] = values
            return array

        class Function:
            ptr = 77

            def __init__(self, name):
                self.name = name

            def __call__(self, grid, block, args, shared_mem=0):
                assert isinstance(grid, tuple) and isinstance(block, tuple) and isinstance(args, tuple)
                assert all(isinstance(a, Array) or type(a) in PASSED_BY_VALUE for a in args), args
                if stand_in.failing == "launch":
                    raise CUDADriverError(1, "CUDA_ERROR_INVALID_VALUE: invalid argument")
                if stand_in.failing == "lost":
                    raise CUDADriverError(700, "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")
                calls.append(("launch", self.name, grid, block, args, shared_mem))

        class RawModule:
            def __init__(self, *, code, options):
                assert isinstance(code, str) and all(isinstance(option, str) for option in options)
                calls.append(("compile", code, options))

            def get_function(self, name):
                if stand_in.failing == "compile":
                    raise CompileException(stand_in.log)
                return SimpleNamespace(kernel=Function(name))

        class Module:
            def load(self, binary):
                assert type(binary) is bytes
                calls.append(("load", binary))

            def get_function(self, name):
                return Function(name)

        class OneDevice:
            cublas_handle = 5
            mem_info = (3 << 30, 80 << 30)
            compute_capability = "90"

            def __init__(self, number=0):
                self.id = number

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            @property
            def attributes(self):
                return stand_in.attributes

            def use(self):
                stand_in.current = self.id
                calls.append(("use", self.id))

            def synchronize(self):
                calls.append("synchronize device")

        class Stream:
            ptr = 9

            def __init__(self, non_blocking):
                assert non_blocking

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def synchronize(self):
                calls.append("synchronize")

            def begin_capture(self):
                calls.append("begin capture")

            def end_capture(self):
                calls.append("end capture")
                return SimpleNamespace(launch=lambda stream: calls.append("graph"))

        class Event:
            def record(self, stream):
                assert isinstance(stream, Stream)
                calls.append("event")

            def synchronize(self):
                calls.append("wait")

        self.ndarray, self.empty, self.asarray = Array, empty, asarray
        self.RawModule, self.uint8 = RawModule, np.uint8
        pool = SimpleNamespace(free_bytes=lambda: 1 << 30, total_bytes=lambda: 2 << 30)
        pool.free_all_blocks = lambda: calls.append("release")
        self.get_default_memory_pool = lambda: pool
        self.zeros = lambda size, dtype: np.zeros(min(size, 10), dtype).view(Array)
        self.ascontiguousarray = lambda array: np.ascontiguousarray(array).view(Array)
        self.cuda = SimpleNamespace(
            Device=OneDevice,
            Stream=Stream,
            Event=Event,
            compiler=SimpleNamespace(CompileException=CompileException),
            driver=SimpleNamespace(
                CUDADriverError=CUDADriverError,
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
                CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES=1,
                funcGetAttribute=lambda attribute, function: stand_in.static_bytes,
                funcSetAttribute=lambda *call: calls.append(("attribute", *call)),
            ),
            function=SimpleNamespace(Module=Module),
            get_current_stream=lambda: SimpleNamespace(ptr=9, synchronize=lambda: calls.append("synchronize")),
            get_elapsed_time=lambda start, stop: 2.5,
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                getDeviceCount=lambda: 2,
                getDeviceProperties=lambda i: {"name": b"A Test GPU", "l2CacheSize": 50 << 20},
            ),
            set_allocator=lambda allocator: calls.append(("allocator", allocator)),
        )
