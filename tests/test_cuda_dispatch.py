"""Which kernels an array is given to, and what the driver asks of CuPy; CPU tensors stand in for those on a device."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from cuda_examples import HOST, examples
from cuda_support import ShimDriver, needs_compiler, on_host
from support import missing_device

from sepnet.backends import cpu, cuda, dispatch, generic
from sepnet.backends.arrays import is_followed, namespace
from sepnet.backends.availability import BackendUnavailable
from sepnet.backends.contract import KERNELS
from sepnet.backends.cuda import driver
from sepnet.backends.cuda.source import Program

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

DTYPES = (torch.float32, torch.float64)


@contextlib.contextmanager
def torch_on_cuda(monkeypatch: pytest.MonkeyPatch, cupy: bool = True) -> Iterator[Recorder]:
    """Let dispatch take torch's CPU tensors for tensors on a CUDA device, and run the kernels on the host."""
    with monkeypatch.context() as patch, on_host(Recorder()) as shim:
        patch.setattr(dispatch, "_on_cuda", lambda device: True)
        patch.setattr(dispatch, "_has_cupy", lambda: cupy)
        dispatch._implementation.cache_clear()
        try:
            yield shim
        finally:
            dispatch._implementation.cache_clear()


class Recorder(ShimDriver):
    """Keeps the arguments of every launch."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: list[list[np.ndarray]] = []

    def launch(self, program: Program, kernel: str, blocks: int, threads: int, shared: int, arguments: Any) -> None:
        self.arguments.append(list(arguments))
        super().launch(program, kernel, blocks, threads, shared, arguments)


def make_cp(dtype: Any = torch.float64, n: int = 13, rank: int = 5) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    rng = np.random.default_rng(3)
    breaks = tuple(torch.asarray(np.linspace(-1, 1, cells + 1), dtype=dtype) for cells in (3, 5, 4))
    tables = tuple(torch.asarray(rng.standard_normal((len(b) - 1, 4, rank)), dtype=dtype) for b in breaks)
    return torch.asarray(rng.uniform(-1, 1, (n, 3)), dtype=dtype), breaks, tables


def close(one: Any, other: Any) -> None:
    # both orders of operations err by some tens of units in sums of 3 factors with 4 coefficients each
    unit = 64 * torch.finfo(other.dtype).eps
    assert torch.allclose(one, other, rtol=unit, atol=unit * float(other.abs().max()))


# --- which implementation --------------------------------------------------------------------------------------------


def test_each_library_has_its_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = pytest.importorskip("array_api_strict")
    assert dispatch.kernels() is cpu
    assert dispatch.kernels(np) is cpu
    assert dispatch.kernels(strict) is generic
    assert dispatch.kernels(torch) is generic
    assert dispatch.kernels(torch, "cpu") is generic
    monkeypatch.setattr(dispatch, "_has_cupy", lambda: True)
    dispatch._implementation.cache_clear()
    assert dispatch.kernels(torch, "cuda:0") is cuda
    assert dispatch.kernels(torch, torch.device("cuda", 1)) is cuda
    dispatch._implementation.cache_clear()
    monkeypatch.setattr(dispatch, "is_cupy", lambda xp: xp is namespace(torch.empty(0)))
    assert dispatch.kernels(torch) is cuda
    monkeypatch.undo()
    dispatch._implementation.cache_clear()


@pytest.mark.parametrize("module", [generic, cpu, cuda])
def test_an_implementation_lacks_no_kernel(module: ModuleType) -> None:
    names = list(KERNELS)
    assert [name for name in names if not callable(getattr(module, name, None))] == []
    assert [name for name in names if name not in dispatch.__all__] == []


def test_without_cupy_tensors_take_the_generic_kernels_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise BackendUnavailable("no CuPy here")

    monkeypatch.setattr(dispatch, "require_cupy", missing)
    monkeypatch.setattr(dispatch, "_on_cuda", lambda device: True)
    for cached in (dispatch._implementation, dispatch._has_cupy):
        cached.cache_clear()
    with caplog.at_level(logging.INFO, logger="sepnet.backends.dispatch"), on_host() as shim:
        for dtype in DTYPES:
            x, b, t = make_cp(dtype)
            assert torch.equal(dispatch.cp_value(x, b, t), generic.cp_value(x, b, t))
        assert dispatch.kernels(torch, "cuda") is generic
    assert shim.launches == []
    assert [record.getMessage() for record in caplog.records] == [
        "torch tensors on CUDA devices take the generic kernels: no CuPy here"
    ]
    monkeypatch.undo()
    for cached in (dispatch._implementation, dispatch._has_cupy):
        cached.cache_clear()


# --- torch tensors by their address ----------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_go_to_the_kernels_by_their_address(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    x, b, t = make_cp(dtype)
    with torch_on_cuda(monkeypatch) as shim:
        results = [(dispatch.cp_value(x, b, t),), dispatch.cp_gradient(x, b, t), dispatch.cp_hessian(x, b, t)]
        assert shim.launches == ["cp_value", "cp_gradient", "cp_hessian"]
    for arguments, given in zip(shim.arguments, results, strict=True):
        (record,) = [a for a in arguments if a.dtype.fields is not None]
        assert [int(a["breaks"]) for a in record["axis"]] == [a.data_ptr() for a in b]
        assert [int(a["table"]) for a in record["axis"]] == [a.data_ptr() for a in t]
        addresses = [int(a) for a in arguments if a.dtype == np.uint64]
        assert addresses[: 1 + len(given)] == [x.data_ptr(), *(a.data_ptr() for a in given)]
        assert all(a.size == 1 for a in arguments)
    for given, kernel in zip(results, (generic.cp_value, generic.cp_gradient, generic.cp_hessian), strict=True):
        expected = kernel(x, b, t)
        for one, other in zip(given, expected if isinstance(expected, tuple) else (expected,), strict=True):
            assert type(one) is torch.Tensor
            assert (one.dtype, one.device) == (x.dtype, x.device)
            close(one, other)


@needs_compiler
def test_strided_expanded_and_negated_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    x, b, t = make_cp()
    wide, turned = torch.repeat_interleave(x, 2, dim=1)[:, ::2], tuple(a.permute(2, 1, 0).contiguous() for a in t)
    with torch_on_cuda(monkeypatch) as shim:
        plain = dispatch.cp_value(x, b, t)
        assert torch.equal(dispatch.cp_value(wide, b, tuple(a.permute(2, 1, 0) for a in turned)), plain)
        assert torch.equal(dispatch.cp_value(x[:1].expand(4, 3), b, t), plain[:1].expand(4))
        # one number: contiguous as it stands, and its sign is only a flag
        single = torch.complex(torch.zeros(1, 1, dtype=x.dtype), -x[:1, :1]).conj().imag
        assert single.is_neg()
        assert torch.equal(dispatch.cp_value(single, b[:1], t[:1]), dispatch.cp_value(x[:1, :1], b[:1], t[:1]))
        assert len(shim.launches) == 5


@needs_compiler
def test_bad_points_and_mixed_dtypes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x, b, t = make_cp()
    with torch_on_cuda(monkeypatch) as shim:
        with pytest.raises(TypeError, match=r"`tables` is torch float32 on cpu and `points` is torch float64"):
            dispatch.cp_value(x, b, tuple(a.float() for a in t))
        with pytest.raises(TypeError, match="expected one array library"):
            dispatch.cp_value(x.numpy(), b, t)
        with pytest.raises(TypeError, match="use fill_dense_from_bands"):
            dispatch.fill_band(torch.ones((1, 2, 2)), torch.ones((1, 2, 2)))
        assert shim.launches == []
        x[4, 1] = 3.0
        with pytest.raises(ValueError, match=r"`points` has 3.0 on axis 1 \('y'\)"):
            dispatch.cp_value(x, b, t, names=("x", "y", "z"))


# --- what torch follows ----------------------------------------------------------------------------------------------


@needs_compiler
def test_gradients_are_recorded_by_the_generic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, b, t = make_cp(n=3, rank=2)
    leaves = [a.clone().requires_grad_() for a in (x, *t)]
    with torch_on_cuda(monkeypatch) as shim:
        value = dispatch.cp_value(leaves[0], b, tuple(leaves[1:]))
        by_autograd, by_table, *_ = torch.autograd.grad(value.sum(), leaves)
        assert shim.launches == []
        # nothing is recorded here, though the leaves ask for it
        with torch.no_grad():
            same, gradient = dispatch.cp_gradient(leaves[0], b, tuple(leaves[1:]))
            _, by_kernel = dispatch.cp_vjp(leaves[0], b, tuple(leaves[1:]), torch.ones_like(same), wanted="tables")
        with torch.inference_mode():
            dispatch.cp_value(x, b, t)
        assert shim.launches[0] == "cp_gradient"
        assert shim.launches[-1] == "cp_value"
    assert not same.requires_grad
    close(same, value.detach())
    close(by_autograd, gradient)
    close(by_table, by_kernel[0])


class Marked(torch.Tensor):
    """A subclass, as others have theirs: its memory need not be what it stands for."""


class Mode(TorchDispatchMode):
    """Sees every operation of torch, as tracers and counters do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@needs_compiler
def test_subclasses_see_the_generic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, b, t = make_cp(n=3)
    with torch_on_cuda(monkeypatch) as shim:
        marked = dispatch.cp_value(x.as_subclass(Marked), *(tuple(a.as_subclass(Marked) for a in g) for g in (b, t)))
        assert shim.launches == []
        value = dispatch.cp_value(x, b, tuple(torch.nn.Parameter(a, requires_grad=False) for a in t))
        assert shim.launches == ["cp_value"]
    close(marked.as_subclass(torch.Tensor), value)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("compiler.is_compiling", lambda: True),
        ("jit.is_tracing", lambda: True),
        ("_C._are_functorch_transforms_active", lambda: True),
        ("_C._len_torch_dispatch_stack", lambda: 1),
        ("autograd.forward_ad._current_level", 0),
    ],
)
def test_nothing_is_hidden_from_tracers_and_transforms(
    monkeypatch: pytest.MonkeyPatch, where: str, value: object
) -> None:
    x = torch.ones(1)
    assert not is_followed(x, torch.nn.Parameter(x, requires_grad=False))
    monkeypatch.setattr(f"torch.{where}", value)
    assert is_followed(x)


@needs_compiler
@pytest.mark.slow  # torch loads its compiler for the first transform, which takes seconds
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, for forward derivatives
@pytest.mark.filterwarnings("ignore:Dynamo detected:UserWarning")  # it looks through caches
def test_transforms_and_compilers_get_what_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    x, b, t = make_cp(n=3)
    with torch_on_cuda(monkeypatch) as shim:
        value, gradient = dispatch.cp_gradient(x, b, t)
        shim.launches.clear()
        by_transform = torch.func.grad(lambda x: dispatch.cp_value(x, b, t).sum())(x)
        direction = torch.ones_like(x)
        _, tangent = torch.func.jvp(lambda x: dispatch.cp_value(x, b, t), (x,), (direction,))
        with torch.autograd.forward_ad.dual_level():
            dual = dispatch.cp_value(torch.autograd.forward_ad.make_dual(x, direction), b, t)
            forward = torch.autograd.forward_ad.unpack_dual(dual).tangent
        with Mode():
            counted = dispatch.cp_value(x, b, t)
        compiled = torch.compile(lambda x: dispatch.cp_value(x, b, t), backend="eager")(x)
        assert shim.launches == []
    close(by_transform, gradient)
    close(tangent, gradient.sum(dim=1))
    close(forward, gradient.sum(dim=1))
    close(counted, value)
    close(compiled, value)


# --- the driver and CuPy ---------------------------------------------------------------------------------------------


class FakeCupy:
    """What the driver asks of CuPy, written down: modules made, functions fetched, launches, the current device."""

    def __init__(self) -> None:
        self.current, self.made, self.fetched, self.launched, self.granted = [9], [], [], [], []
        self.cuda = SimpleNamespace(
            Device=self._device,
            driver=SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=self._occupancy),
        )
        self.occupancy: list[tuple[Any, ...]] = []

    def _device(self, number: int) -> Any:
        @contextlib.contextmanager
        def entered() -> Iterator[Any]:
            self.current.append(number)
            try:
                yield device
            finally:
                self.current.pop()

        class Device:
            attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 227 * 1024}  # noqa: RUF012
            __enter__ = lambda self: self._entered.__enter__()  # noqa: E731
            __exit__ = lambda self, *info: self._entered.__exit__(*info)  # noqa: E731

        device = Device()
        device._entered = entered()
        return device

    def _occupancy(self, function: int, threads: int, shared: int) -> int:
        self.occupancy.append((self.current[-1], function, threads, shared))
        return 2

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Any:  # CuPy's name
        self.made.append((self.current[-1], code, options))
        return SimpleNamespace(get_function=self._function)

    def _function(self, name: str) -> Any:
        self.fetched.append((self.current[-1], name))
        log = self

        class Kernel:
            kernel = SimpleNamespace(ptr=4711)

            def __setattr__(self, attribute: str, value: int) -> None:
                log.granted.append((log.current[-1], attribute, value))

            def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int, stream: Any) -> None:
                assert isinstance(args, tuple)
                log.launched.append((log.current[-1], name, grid, block, args, shared_mem, stream))

        return Kernel()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    cupy = FakeCupy()
    monkeypatch.setattr(driver, "require_cupy", lambda: cupy)
    driver._cupy_driver.cache_clear()
    yield cupy
    driver._cupy_driver.cache_clear()


PROGRAM = Program("cp.cu", "float32", (("AXES", 2), ("POWERS", 4)))


def test_a_program_is_loaded_once_for_a_device(fake: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "namespace", lambda array: array.library)
    monkeypatch.setattr(driver, "is_torch", lambda xp: xp == "torch")
    first, second = (driver.driver_of(SimpleNamespace(library="cupy", device=SimpleNamespace(id=i))) for i in (0, 1))
    assert driver.driver_of(SimpleNamespace(library="cupy", device=SimpleNamespace(id=0))) is first
    assert driver.driver_of(SimpleNamespace(library="torch", device=SimpleNamespace(index=0))) is not first
    for one in (first, second, first):
        for kernel in ("cp_value", "cp_gradient", "cp_value"):
            driver.launch(one, PROGRAM, kernel, 1000, 5)
    assert fake.made == [(i, PROGRAM.text, PROGRAM.options) for i in (0, 1)]
    assert fake.fetched == [(i, name) for i in (0, 1) for name in ("cp_value", "cp_gradient")]
    assert "-DREAL=float" in PROGRAM.options
    assert isinstance(PROGRAM.options, tuple)
    assert [(device, name) for device, name, *_ in fake.launched] == [
        (i, name) for i in (0, 1, 0) for name in ("cp_value", "cp_gradient", "cp_value")
    ]
    assert fake.current == [9]
    # asked once for each kernel and shape of block
    assert len(fake.occupancy) == len(set(fake.occupancy)) * 2 == 4


def test_a_launch_is_on_the_stream_of_the_arrays(fake: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def current_stream(device: int) -> Any:
        asked.append(device)
        return SimpleNamespace(cuda_stream=0xBEEF)

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    driver.launch(driver.CupyDriver(1, torch=True), PROGRAM, "cp_value", 1, 5)
    driver.launch(driver.CupyDriver(1), PROGRAM, "cp_value", 1, 5)
    streams = [launch[-1] for launch in fake.launched]
    assert asked == [1]
    assert streams[0].ptr == 0xBEEF
    assert streams[1] is None  # CuPy's current one


def test_grid_arguments_and_nothing_for_no_items(fake: FakeCupy) -> None:
    here = driver.CupyDriver(0)
    array = SimpleNamespace(data=SimpleNamespace(ptr=0x7000))
    record = np.zeros((), dtype=[("a", "u8"), ("b", "i4")])
    driver.launch(here, PROGRAM, "cp_value", 0, array)
    assert fake.launched == fake.made == []
    for items, blocks in ((1, 1), (256, 1), (257, 2), (10**12, 2 * 132)):
        driver.launch(here, PROGRAM, "cp_value", items, record, array, items, np.int32(7), np.float64(0.5))
        _, _, grid, block, arguments, shared, _ = fake.launched[-1]
        assert (grid, block, shared) == ((blocks,), (256,), 0)
        assert [a.dtype for a in arguments] == [record.dtype, np.uint64, np.int64, np.int32, np.float64]
        assert [int(a) for a in arguments[1:4]] == [0x7000, items, 7]
        # CuPy takes NumPy arrays by value if they hold one item, and refuses others
        assert all(isinstance(a, np.ndarray) and a.size == 1 for a in arguments)


def test_large_shared_memory_is_asked_for_once(fake: FakeCupy) -> None:
    here = driver.CupyDriver(0)
    assert here.shared_limit() == 227 * 1024
    for shared in (0, 16 * 1024, 100 * 1024, 60 * 1024, 100 * 1024, 200 * 1024):
        driver.launch(here, PROGRAM, "cp_value", 1, shared=shared)
        assert fake.launched[-1][5] == shared
    name = "max_dynamic_shared_size_bytes"
    assert fake.granted == [(0, name, 100 * 1024), (0, name, 200 * 1024)]


def test_what_one_thread_was_granted_another_does_not_lower(fake: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    here = driver.CupyDriver(0)
    driver.launch(here, PROGRAM, "cp_value", 1, shared=40 * 1024)
    other, begun, ready = threading.Lock(), threading.Event(), threading.Event()

    class Slow(dict[Any, int]):
        """Lets the other thread run between the question and the grant of this one."""

        def get(self, key: Any, default: Any = None) -> Any:
            known = super().get(key, default)
            if threading.current_thread() is smaller:
                begun.set()
                ready.wait(0.2)
            return known

    def large() -> None:
        begun.wait(5)
        with other:
            driver.launch(here, PROGRAM, "cp_value", 1, shared=200 * 1024)
            ready.set()

    monkeypatch.setattr(here, "_granted", Slow(here._granted))
    smaller = threading.Thread(target=lambda: driver.launch(here, PROGRAM, "cp_value", 1, shared=100 * 1024))
    larger = threading.Thread(target=large)
    for thread in (smaller, larger):
        thread.start()
    for thread in (smaller, larger):
        thread.join()
    assert fake.granted[-1][2] == 200 * 1024


# --- CuPy's current device -------------------------------------------------------------------------------------------


class Elsewhere(np.ndarray):
    """An array of CuPy on a device that is not the current one, to be made current as its context."""

    entered: ClassVar[list[str]] = []

    @property
    def device(self) -> Any:  # type: ignore[override]
        @contextlib.contextmanager
        def current() -> Iterator[None]:
            self.entered.append("in")
            try:
                yield
            finally:
                self.entered.append("out")

        return current()


class Watching(ShimDriver):
    """Notes when it is asked for addresses, of arrays that were made and copied by then; launches nothing."""

    def address(self, array: Any) -> int:
        if Elsewhere.entered[-1:] != ["address"]:
            Elsewhere.entered.append("address")
        return super().address(array)

    def launch(self, *_: Any) -> None:
        """Results stay what the memory held."""


def moved(tree: Any) -> Any:
    """Arrays, in tuples too, as arrays on another device."""
    if isinstance(tree, tuple):
        return tuple(map(moved, tree))
    return tree.view(Elsewhere) if isinstance(tree, np.ndarray) else tree


@pytest.mark.parametrize("name", sorted(set(cuda.__all__) - HOST))
def test_cupy_makes_arrays_on_the_device_of_the_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(cuda, name)(*moved(arguments), **{key: moved(value) for key, value in options.items()})

    monkeypatch.setattr(driver, "is_cupy", lambda xp: True)
    for example in examples(np.float64)[name]:
        Elsewhere.entered.clear()
        with on_host(Watching()), np.errstate(all="ignore"):
            example(SimpleNamespace(**{name: call}))
        assert Elsewhere.entered == ["in", "address", "out"]


@pytest.mark.skipif(not missing_device(), reason="not on a device: there it would launch")
def test_cupy_takes_such_arguments_and_such_a_stream() -> None:
    """With CuPy itself but no device a launch of no kernel gets as far as the driver, past the arguments."""
    cupy = pytest.importorskip("cupy")
    kernel = cupy.cuda.function.Function.__new__(cupy.cuda.function.Function)
    record = np.zeros((), dtype=[("a", "u8"), ("b", "i4", (3,))])
    good = (record, np.asarray(1, dtype=np.uint64), np.asarray(1), np.asarray(np.int32(1)))
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        kernel((1,), (32,), good, shared_mem=0, stream=driver._Stream(77))
    with pytest.raises(TypeError, match="size one"):
        kernel((1,), (32,), (np.zeros(2),), shared_mem=0, stream=driver._Stream(77))
    with pytest.raises(AttributeError, match="ptr"):
        kernel((1,), (32,), good, shared_mem=0, stream=object())
