"""PTX instructions in the emulator, one by one, without NVIDIA's software."""

# ruff: noqa: E501 - tables with a case in each line

import needs
import numpy as np
import pytest

from gpucnn.devices import emulator
from gpucnn.devices.emulator.array import EmulatedArray
from gpucnn.devices.emulator.ptx import PtxModule
from gpucnn.devices.launchable import Geometry
from gpucnn.errors import KernelError

pytestmark = needs.emulator_here

NAN = np.float32(np.nan)
F = np.array([1.5, -2.25, 0.0, -0.0, 3e38, np.inf, NAN, 1e-3], np.float32)
G = np.array([2.0, 3.5, -1.0, 0.0, 3e38, 1.0, 5.0, NAN], np.float32)
U = np.array([0, 1, 0x80000000, 0xFFFFFFFF, 0x12345678, 0x00FF00FF, 7, 0xDEADBEEF], np.uint32)
V = np.array([0, 3, 0x7FFFFFFF, 0x80000001, 0x9ABCDEF0, 0x0F0F0F0F, 31, 5], np.uint32)
N = np.array([0, 1, 31, 32, 4, 12, 40, 7], np.uint32)


def wide(x):
    return x.astype(np.int64) if x.dtype == np.int32 else x.astype(np.uint64)


def signed(x):
    return x.view(np.int32)


def bit_loop(function):
    return lambda *columns: np.array(
        [function(*map(int, row)) & 0xFFFFFFFF for row in zip(*columns, strict=True)], np.uint32
    )


def to_signed(x, bits=32):
    return x - (1 << bits) if x >> (bits - 1) & 1 else x


def bfe_u(a, b, c):
    return (a >> b) & ((1 << c) - 1) if b < 32 else 0


def bfe_s(a, b, c):
    a, msb = to_signed(a), min(b + c - 1, 31)
    if not c:
        return 0
    field = (a >> b) & ((1 << c) - 1)
    return field | ~((1 << c) - 1) if a >> msb & 1 else field


def bfi(a, b, c, length=8):
    mask = ((1 << length) - 1) << c if c < 32 else 0
    return (b & ~mask) | ((a << c) & mask & 0xFFFFFFFF)


def lop3(a, b, c, table=0xCA):
    return sum(((table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1))) & 1) << i for i in range(32))


def prmt(a, b, c):
    data = (b << 32 | a).to_bytes(8, "little")
    out = 0
    for i in range(4):
        pick = c >> 4 * i & 15
        byte = data[pick & 7]
        out |= ((255 if byte & 128 else 0) if pick & 8 else byte) << 8 * i
    return out


def dp4a(a, b, c):
    return c + sum(to_signed(a >> 8 * i & 255, 8) * to_signed(b >> 8 * i & 255, 8) for i in range(4))


def bfind_s(a):
    a = to_signed(a)
    return (~a if a < 0 else a).bit_length() - 1


def shf_l(a, b, c):
    return ((b << 32 | a) << (c & 31)) >> 32


def rounded(x):
    x = np.clip(np.rint(x.astype(np.float64)), -(2.0**31), 2.0**31 - 1)
    return np.nan_to_num(x).astype(np.int64).astype(np.int32)


def extremum(function, zero):
    """fmin or fmax, of which -0 < +0."""
    return lambda a, b: np.where((a == 0) & (b == 0) & (np.signbit(a) | np.signbit(b)), zero, function(a, b)).astype(
        np.float32
    )


def bf16(x):
    word = x.view(np.uint32).astype(np.uint64)
    return np.where(np.isnan(x), 0x7FFF, (word + 0x7FFF + (word >> 16 & 1)) >> 16).astype(np.uint32)


CASES = {
    # floats
    "add.f32 %d, %a, %b": (F, G, lambda a, b: a + b),
    "add.ftz.f32 %d, %a, %b": (np.float32([1e-40, 1.0] * 4), np.float32([0, 1e-40] * 4), lambda a, b: np.float32([0, 1.0] * 4)),
    "sub.sat.f32 %d, %a, %b": (F, G, lambda a, b: np.nan_to_num(np.clip(a - b, 0, 1))),
    "mul.rz.f32 %d, %a, %b": (np.float32([1.1] * 8), np.float32([1.7] * 8), lambda a, b: np.nextafter(a * b, np.float32(0)) if np.any((a * b).astype(float) > a.astype(float) * b) else a * b),
    "fma.rn.f32 %d, %a, %b, %a": (F, G, lambda a, b: (a.astype(float) * b + a).astype(np.float32)),
    "div.rn.f32 %d, %a, %b": (F, G, lambda a, b: a / b),
    "min.f32 %d, %a, %b": (F, G, extremum(np.fmin, -0.0)),
    "max.f32 %d, %a, %b": (F, G, extremum(np.fmax, 0.0)),
    "max.NaN.f32 %d, %a, %b": (F, G, extremum(np.maximum, 0.0)),
    "neg.f32 %d, %a": (F, G, lambda a, b: -a),
    "abs.f32 %d, %a": (F, G, lambda a, b: abs(a)),
    "sqrt.rn.f32 %d, %a": (F, G, lambda a, b: np.sqrt(a)),
    "rcp.approx.ftz.f32 %d, %b": (F, G, lambda a, b: np.where(b > 1e38, 0, 1 / b)),
    "ex2.approx.ftz.f32 %d, %b": (F, np.float32([0, 1, -1, 10, 0.5, -200, 127, 3]), lambda a, b: np.where(b > -126, np.exp2(b), 0)),
    "lg2.approx.f32 %d, %b": (F, np.float32([1, 2, 4, 8, 0.5, 1024, 3, 1]), lambda a, b: np.log2(b)),
    "copysign.f32 %d, %a, %b": (F, G, lambda a, b: np.copysign(b, a)),
    "selp.f32 %d, %a, %b, %p": (F, G, lambda a, b: b),
    # comparisons: %p = a < b of the template is replaced by these
    "setp.lt.f32 %p, %a, %b": (F, G, lambda a, b: (a < b).astype(np.uint32)),
    "setp.ltu.f32 %p, %a, %b": (F, G, lambda a, b: (~(a >= b)).astype(np.uint32)),
    "setp.ne.f32 %p, %a, %b": (F, G, lambda a, b: ((a != b) & (a == a) & (b == b)).astype(np.uint32)),
    "setp.neu.f32 %p, %a, %b": (F, G, lambda a, b: (a != b).astype(np.uint32)),
    "setp.num.f32 %p, %a, %b": (F, G, lambda a, b: ((a == a) & (b == b)).astype(np.uint32)),
    "setp.hi.u32 %p, %a, %b": (U, V, lambda a, b: (a > b).astype(np.uint32)),
    "setp.gt.s32 %p, %a, %b": (U, V, lambda a, b: (signed(a) > signed(b)).astype(np.uint32)),
    "testp.finite.f32 %p, %a": (F, G, lambda a, b: np.isfinite(a).astype(np.uint32)),
    # integers
    "mul.lo.s32 %d, %a, %b": (U, V, lambda a, b: a * b),
    "mul.hi.u32 %d, %a, %b": (U, V, lambda a, b: (wide(a) * wide(b) >> np.uint64(32)).astype(np.uint32)),
    "mul.hi.s32 %d, %a, %b": (U, V, lambda a, b: (wide(signed(a)) * wide(signed(b)) >> 32).astype(np.int32)),
    "mad.lo.u32 %d, %a, %b, %a": (U, V, lambda a, b: a * b + a),
    "mul24.lo.u32 %d, %a, %b": (U, V, lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF)),
    "mad24.lo.u32 %d, %a, %b, %b": (U, V, lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF) + b),
    "div.u32 %d, %a, %b": (U, V, lambda a, b: np.where(b, a // np.maximum(b, 1), 0xFFFFFFFF).astype(np.uint32)),
    "rem.u32 %d, %a, %b": (U, V, lambda a, b: np.where(b, a % np.maximum(b, 1), a).astype(np.uint32)),
    "min.s32 %d, %a, %b": (U, V, lambda a, b: np.minimum(signed(a), signed(b))),
    "max.u32 %d, %a, %b": (U, V, np.maximum),
    "abs.s32 %d, %a": (U, V, lambda a, b: np.abs(signed(a))),
    "sad.u32 %d, %a, %b, %b": (U, V, lambda a, b: np.maximum(a, b) - np.minimum(a, b) + b),
    "cnot.b32 %d, %a": (U, V, lambda a, b: (a == 0).astype(np.uint32)),
    "not.b32 %d, %a": (U, V, lambda a, b: ~a),
    "lop3.b32 %d, %a, %b, %n, 0xCA": (U, V, bit_loop(lambda a, b, n: lop3(a, b, n))),
    "shl.b32 %d, %a, %n": (U, V, bit_loop(lambda a, b, n: a << n if n < 32 else 0)),
    "shr.u32 %d, %a, %n": (U, V, bit_loop(lambda a, b, n: a >> n)),
    "shr.s32 %d, %a, %n": (U, V, bit_loop(lambda a, b, n: to_signed(a) >> n)),
    "shf.l.wrap.b32 %d, %a, %b, %n": (U, V, bit_loop(shf_l)),
    "shf.r.clamp.b32 %d, %a, %b, %n": (U, V, bit_loop(lambda a, b, n: (b << 32 | a) >> min(n, 32))),
    "bfe.u32 %d, %a, %n, 9": (U, V, bit_loop(lambda a, b, n: bfe_u(a, n, 9))),
    "bfe.s32 %d, %a, %n, 9": (U, V, bit_loop(lambda a, b, n: bfe_s(a, n, 9) if n < 32 else (-1 if a >> 31 else 0))),
    "bfi.b32 %d, %a, %b, %n, 8": (U, V, bit_loop(bfi)),
    "prmt.b32 %d, %a, %b, 0x5410": (U, V, bit_loop(lambda a, b, n: prmt(a, b, 0x5410))),
    "prmt.b32 %d, %a, %b, 0x8f3b": (U, V, bit_loop(lambda a, b, n: prmt(a, b, 0x8F3B))),
    "prmt.b32.rc16 %d, %a, %b, 1": (U, V, bit_loop(lambda a, b, n: prmt(a, b, 0x3232))),
    "popc.b32 %d, %a": (U, V, bit_loop(lambda a, b, n: a.bit_count())),
    "clz.b32 %d, %a": (U, V, bit_loop(lambda a, b, n: 32 - a.bit_length())),
    "brev.b32 %d, %a": (U, V, bit_loop(lambda a, b, n: int(f"{a:032b}"[::-1], 2))),
    "bfind.u32 %d, %a": (U, V, bit_loop(lambda a, b, n: a.bit_length() - 1)),
    "bfind.s32 %d, %a": (U, V, bit_loop(lambda a, b, n: bfind_s(a))),
    "fns.b32 %d, %a, 0, 2": (U, V, bit_loop(lambda a, b, n: next((i for i in range(32) if a >> i & 1 and (a & ((1 << i) - 1)).bit_count() == 1), -1))),
    "dp4a.s32.s32 %d, %a, %b, %a": (U, V, bit_loop(lambda a, b, n: dp4a(a, b, a))),
    "slct.u32.s32 %d, %a, %b, %n": (U, V, lambda a, b, n: a),
    # conversions
    "cvt.rni.s32.f32 %d, %a": (F, G, lambda a, b: rounded(a)),
    "cvt.rzi.u32.f32 %d, %a": (F, G, lambda a, b: np.nan_to_num(np.clip(np.trunc(a.astype(np.float64)), 0, 2.0**32 - 1)).astype(np.uint64).astype(np.uint32)),
    "cvt.rn.f32.s32 %d, %a": (U, V, lambda a, b: signed(a).astype(np.float32)),
    "cvt.rmi.f32.f32 %d, %a": (F, G, lambda a, b: np.floor(a)),
    "cvt.u32.u8 %d, %a": (U, V, lambda a, b: a & 255),
    "cvt.s32.s8 %d, %a": (U, V, lambda a, b: a.astype(np.int8).astype(np.int32)),
    "cvt.sat.u8.s32 %d, %a": (U, V, lambda a, b: np.clip(signed(a), 0, 255).astype(np.uint32)),
    "cvt.rn.f16x2.f32 %d, %a, %b": (G, np.float32([1, 2, 3, 4, 5, 6, 7, 8]), lambda a, b: np.stack([b, a], 1).astype(np.float16).view(np.uint32)[:, 0]),
    "cvt.rn.bf16x2.f32 %d, %a, %b": (F, np.float32([1, 2, 3, 4, 5, 6, 7, 8]), lambda a, b: bf16(a) << 16 | bf16(b)),
    "cvt.rna.tf32.f32 %d, %a": (np.float32([1.0, 1.0009765625, 1.00048828125, -2.3, 7, 0, 1e30, 3.14159]), G, lambda a, b: (a.view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)),
    "add.rn.f16x2 %d, %a, %b": (np.float16([1, 2] * 8).view(np.uint32), np.float16([0.5, -4] * 8).view(np.uint32), lambda a, b: np.float16([1.5, -2] * 8).view(np.uint32)),
    "fma.rn.bf16x2 %d, %a, %b, %b": (np.uint32([0x3F803F80] * 8), np.uint32([0x40404040] * 8), lambda a, b: np.uint32([0x40C040C0] * 8)),
    "min.bf16x2 %d, %a, %b": (np.uint32([0x3F807FC0] * 8), np.uint32([0x40404040] * 8), lambda a, b: np.uint32([0x3F804040] * 8)),
}  # fmt: skip


def text():
    out = [".version 7.0", ".target sm_80", ".address_size 64"]
    for i, instruction in enumerate(CASES):
        body = instruction if "%p" in instruction.split()[1] else f"setp.ne.u32 %p, 0, 0; {instruction}"
        end = "selp.u32 %d, 1, 0, %p;" if "%p" in instruction.split()[1] else ""
        out.append(
            f"""
.visible .entry case{i}(.param .u64 out, .param .u64 in_a, .param .u64 in_b, .param .u64 in_n)
{{
    .reg .pred %p; .reg .b32 %a, %b, %n, %d, %t; .reg .b64 %q<9>;
    ld.param.u64 %q1, [out]; ld.param.u64 %q2, [in_a]; ld.param.u64 %q3, [in_b]; ld.param.u64 %q4, [in_n];
    mov.u32 %t, %tid.x; mul.wide.u32 %q5, %t, 4;
    add.s64 %q6, %q2, %q5; ld.global.b32 %a, [%q6];
    add.s64 %q6, %q3, %q5; ld.global.nc.b32 %b, [%q6];
    add.s64 %q6, %q4, %q5; ld.global.b32 %n, [%q6+0];
    {body}; {end}
    add.s64 %q6, %q1, %q5; st.global.b32 [%q6], %d;
    ret;
}}"""
        )
    return "\n".join(out)


@pytest.fixture(scope="module")
def module():
    return PtxModule(text(), "fast")


@pytest.mark.parametrize("instruction", CASES)
def test_an_instruction_computes_what_the_manual_says(module, instruction):
    a, b, expected = CASES[instruction]
    out = np.zeros(8, np.uint32)
    arrays = map(EmulatedArray, (out, a, b, N))
    module.launch(f"case{list(CASES).index(instruction)}", Geometry((1,), (8,)), [*arrays], ["out", "a", "b", "n"])
    taken = getattr(getattr(expected, "__code__", None), "co_argcount", 2) or 3  # ufuncs take two, bit_loop three
    with np.errstate(all="ignore"):
        right = np.asarray(expected(*(a, b, N)[:taken]))
    if right.dtype.kind == "f":
        got = out.view(np.float32)
        np.testing.assert_allclose(got, right.astype(np.float32), rtol=2e-7, atol=0)
        assert (np.signbit(got) == np.signbit(right))[~np.isnan(right)].all()
    else:
        np.testing.assert_array_equal(out, right.astype(np.int64).astype(np.uint32))


VECTORS = """
.version 7.0
.target sm_80
.address_size 64
.const .align 4 .u32 table[4] = {10, 20, 30, 40};
.visible .entry vectors(.param .u64 out, .param .u64 in)
{
    .reg .b32 %r<9>; .reg .b64 %q<9>; .reg .b16 %h<5>; .reg .f32 %f<5>;
    .local .align 16 .b8 mine[16];
    ld.param.u64 %q1, [out]; ld.param.u64 %q2, [in];
    ld.global.nc.L1::no_allocate.v4.f32 {%f1, %f2, %f3, %f4}, [%q2];
    st.local.v4.f32 [mine], {%f4, %f3, %f2, %f1};
    ld.local.v2.f32 {%f1, %f2}, [mine]; ld.local.v2.f32 {%f3, %f4}, [mine+8];
    st.volatile.global.v4.f32 [%q1], {%f1, %f2, %f3, %f4};
    ld.global.v2.u16 {%h1, %h2}, [%q2+16]; st.global.v2.u16 [%q1+16], {%h2, %h1};
    ld.global.v4.u8 {%h1, %h2, %h3, %h4}, [%q2+20]; st.global.v4.u8 [%q1+20], {%h4, %h3, %h2, %h1};
    ld.global.s8 %r1, [%q2+20]; st.global.u32 [%q1+24], %r1;
    ld.const.u32 %r2, [table+8]; st.global.u32 [%q1+28], %r2;
    ld.global.v2.u64 {%q3, %q4}, [%q2+32]; st.global.v2.u64 [%q1+32], {%q4, %q3};
    mov.b64 {%r1, %r2}, %q3; mov.b64 %q5, {%r2, %r1}; st.global.u64 [%q1+48], %q5;
    ret;
}
.func (.param .b32 result) twice(.param .b32 x)
{
    .reg .b32 %r<3>;
    ld.param.u32 %r1, [x]; add.s32 %r2, %r1, %r1; st.param.b32 [result+0], %r2;
    ret;
}
.visible .entry calls(.param .u64 out)
{
    .reg .b32 %r<9>; .reg .b64 %q<9>; .reg .pred %p<3>;
    ld.param.u64 %q1, [out]; mov.u32 %r1, %tid.x;
    { .param .b32 given; st.param.b32 [given], %r1; .param .b32 back;
      call.uni (back), twice, (given); ld.param.b32 %r2, [back]; }
    and.b32 %r3, %r1, 3;
table: .branchtargets A, B, C, D;
    brx.idx %r3, table;
A: add.s32 %r2, %r2, 1000; bra END;
B: add.s32 %r2, %r2, 2000; bra END;
C: add.s32 %r2, %r2, 3000; bra END;
D: add.s32 %r2, %r2, 4000;
END: setp.gt.u32 %p1|%p2, %r1, 1; @%p1 add.s32 %r2, %r2, 10; @!%p1 add.s32 %r2, %r2, 20; @%p2 add.s32 %r2, %r2, 100;
    add.cc.u32 %r4, %r2, 0xffffffff; addc.u32 %r5, 0, 0; add.s32 %r2, %r2, %r5;
    mad.wide.u32 %q2, %r1, 4, %q1; st.global.u32 [%q2], %r2;
    ret;
}
"""


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_vectors_locals_constants_calls_and_branch_tables(mode):
    module = PtxModule(VECTORS, mode)
    data, out = np.arange(56, dtype=np.uint8), np.zeros(56, np.uint8)
    data[20] = 0xFE
    with emulator.running(mode=mode):
        module.launch("vectors", Geometry((1,), (1,)), [EmulatedArray(out), EmulatedArray(data)], ["out", "in"])
        numbers = np.zeros(4, np.uint32)
        module.launch("calls", Geometry((1,), (4,)), [EmulatedArray(numbers)], ["out"])
    assert (out[:16].view(np.float32) == data[:16].view(np.float32)[::-1]).all()
    assert (out[16:20].view(np.uint16) == data[16:20].view(np.uint16)[::-1]).all()
    assert (out[20:24] == data[20:24][::-1]).all()
    assert out[24:28].view(np.int32)[0] == -2
    assert out[28:32].view(np.uint32)[0] == 30
    assert (out[32:48].view(np.uint64) == data[32:48].view(np.uint64)[::-1]).all()
    assert (out[48:56].view(np.uint32) == data[32:40].view(np.uint32)[::-1]).all()
    assert numbers.tolist() == [1000 + 20 + 100 + 1, 2 + 2000 + 20 + 100 + 1, 4 + 3000 + 10 + 1, 6 + 4000 + 10 + 1]


@pytest.mark.parametrize(
    "instruction", ["tex.1d.v4.f32.s32 {%f1, %f1, %f1, %f1}, [t, {%r1}]", "wgmma.fence.sync.aligned", "bar.sync 1, 64"]
)
def test_an_unknown_instruction_is_named_with_its_line(instruction):
    ptx = f"""
.version 7.0
.target sm_80
.file 1 "/somewhere/kernel.cu"
.visible .entry odd()
{{
    .reg .f32 %f<3>; .reg .b32 %r<3>;
    .loc 1 12 5
    {instruction};
    ret;
}}
"""
    with pytest.raises(KernelError) as caught:
        PtxModule(ptx, "fast")
    assert str(caught.value) == (
        f"odd cannot be compiled here: the emulator does not know the PTX instruction `{instruction}` (kernel.cu:12)"
    )


def test_denormals_are_kept_unless_the_instruction_flushes_them():
    ptx = """
.version 7.0
.target sm_80
.visible .entry mixed(.param .u64 out, .param .f32 x)
{
    .reg .f32 %f<5>; .reg .b64 %q<3>;
    ld.param.u64 %q1, [out]; ld.param.f32 %f1, [x];
    mul.f32 %f2, %f1, 0f3F800000; mul.ftz.f32 %f3, %f1, 0f3F800000;
    st.global.v2.f32 [%q1], {%f2, %f3};
    ret;
}
"""
    out = np.ones(2, np.float32)
    PtxModule(ptx, "fast").launch("mixed", Geometry((1,), (1,)), [EmulatedArray(out), np.float32(1e-40)], ["out"])
    assert out[0] == np.float32(1e-40) and out[1] == 0
