"""PTX on the CPU: what NVRTC makes of CUDA C++ and libNVVM of numba.cuda, translated to C++ line by line."""

from __future__ import annotations

import re
from typing import Any

from .compiler import library
from .launching import Buffer, Statistics, launch

W = {"pred": 8, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "b64": 64, "u64": 64, "s64": 64, "f64": 64}
CMP = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
SREG = {"tid": "threadIdx", "ctaid": "blockIdx", "ntid": "gpu_bdim", "nctaid": "gpu_gdim"}
ct = lambda t: "bool" if t == "pred" else t.replace("b", "u") if t[0] == "b" else t


class Ptx:
    def __init__(self, text):
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        text = re.sub(r"//[^\n]*", "", text).replace("\0", "")
        self.shared, self.smem, self.out, self.kernels = {}, 0, [], {}
        self.dyn = None
        self.files = dict((int(a), b) for a, b in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text))
        if ".func" in re.sub(r"\.extern\s+\.func", "", text) or re.search(r"\bcall\b", text):
            raise NotImplementedError("PTX with device functions that were not inlined")
        for m in re.finditer(r"\.shared\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?\s*;", text):
            al, ty, name, n = int(m[1]), m[2], m[3], m[4]
            if n == "":
                self.dyn = name
                continue
            self.smem = -(-self.smem // al) * al
            size = W[ty] // 8 * int(n or 1)
            self.shared[name] = (self.smem, size)
            self.smem += size
        for m in re.finditer(r"\.(?:const|global)\s+\.align\s+\d+\s+\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?(?:\s*=\s*\{([^}]*)\})?\s*;", text):
            self.out.append("alignas(16) static %s G_%s[%s] = {%s};" % (ct(m[1]), m[2].replace("$", "_"), m[3] or 1, m[4] or "0"))
        self.glob = {m[1] for o in self.out if (m := re.search(r"G_(\w+)\[", o))}
        for m in re.finditer(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)[^{]*\{", text):
            depth, i = 1, m.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(text[i], 0)
                i += 1
            self.entry(m[1], m[2], text[m.end():i - 1])

    def entry(self, name, params, body):
        self.par = {}
        sig = []
        for i, p in enumerate(x for x in params.split(",") if x.strip()):
            ty = re.search(r"\.(b8|[usbf]\d+)\b", p)[1]
            nm = re.search(r"([\w$]+)(?:\[(\d+)\])?\s*$", p)
            self.par[nm[1]] = i
            sig.append((ty, int(nm[2] or 1) * W[ty] // 8))
        regs, code, self.line, self.file = [], [], 0, 0
        # statements end with ';' or are labels 'X:'; braces of inline asm scopes stay
        for st in re.findall(r"[\w$]+:(?!:)|[{}](?=\s)|[^;{}]*(?:\{[^{};]*\}[^;{}]*)*;|[{}]", body):
            st = st.strip()
            if m := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+[^\n]*\n?", st):
                while m := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+[^\n]*\n?", st):
                    if int(m[2]):
                        self.file, self.line = int(m[1]), int(m[2])
                    st = st[m.end():].strip()
            while m := re.match(r"([\w$]+):\s*", st):
                code.append(self.lab(m[1]) + ":;")
                st = st[m.end():]
                while l := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+[^\n]*\n?", st):
                    if int(l[2]):
                        self.file, self.line = int(l[1]), int(l[2])
                    st = st[l.end():].strip()
            if not st or st == ";":
                continue
            if st in "{}":
                code.append(st)
            elif st.startswith(".reg"):
                m = re.match(r"\.reg\s*\.(\w+)\s+(.*);", st, re.S)
                for v in m[2].split(","):
                    v = v.strip()
                    if r := re.match(r"(%?[\w$]+)<(\d+)>", v):
                        regs += ["%s %s = 0;" % (self.rt(m[1]), self.reg(r[1] + str(k))) for k in range(int(r[2]))]
                    else:
                        code.append("%s %s = 0;" % (self.rt(m[1]), self.reg(v)))
            elif st.startswith(".local"):
                m = re.search(r"\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", st)
                regs.append("alignas(%s) u8 L_%s[%d];" % (m[1], m[3].replace("$", "_"), int(m[4] or 1) * W[m[2]] // 8))
            elif st.startswith("."):
                continue
            else:
                code.append("    " + self.inst(st.rstrip(";").strip()))
        k = "k%d" % len(self.kernels)
        self.kernels[name] = (k, sig)
        self.out.append("static void body_%s(void* p_) {\n    void** A_ = (void**)p_; u8* S_ = (u8*)gpu_dyn_smem(); (void)A_; (void)S_;\n    %s\n%s\n}\n"
                        'extern "C" __attribute__((visibility("default"))) int gpu_launch_%s(const GpuCfg* c, void** a) { return gpu_run(c, body_%s, a); }'
                        % (k, "\n    ".join(regs), "\n".join(code), k, k))

    rt = staticmethod(lambda t: "bool" if t == "pred" else "u%d" % W[t])
    reg = staticmethod(lambda r: "R_" + r.lstrip("%").replace("$", "_").replace(".", "_"))
    lab = staticmethod(lambda r: "B_" + r.replace("$", "_"))

    def val(self, o, t):
        """operand as a C++ value of PTX type t"""
        o = o.strip()
        c = ct(t)
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", o):
            return "bits<f32>((u32)0x%s)" % o[2:] if t == "f32" else "(%s)0x%su" % (c, o[2:])
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", o):
            return "bits<f64>((u64)0x%s)" % o[2:]
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", o):
            v = o.rstrip("U")
            return "bits<%s>((u%d)%s)" % (c, W[t], v) if t[0] == "f" else "(%s)%sLL" % (c, v) if int(v, 0) < 2 ** 63 else "(%s)%sULL" % (c, v)
        if m := re.fullmatch(r"%(tid|ctaid|ntid|nctaid)\.([xyz])", o):
            return "(%s)%s.%s" % (c, SREG[m[1]], m[2])
        if o == "%laneid":
            return "(%s)gpu_lane" % c
        if o == "%warpid":
            return "(%s)((threadIdx.x + gpu_bdim.x * (threadIdx.y + gpu_bdim.y * threadIdx.z)) / 32)" % c
        if o in ("%clock", "%clock64"):
            return "(%s)0" % c
        if o == "%dynamic_smem_size":
            return "(%s)gpu_dyn_bytes()" % c
        if o in ("WARP_SZ",):
            return "(%s)32" % c
        if o in self.shared:
            return "(%s)%d" % (c, self.shared[o][0])
        if o == self.dyn:
            return "(%s)%d" % (c, -(-self.smem // 16) * 16)
        if o.replace("$", "_") in self.glob:
            return "(%s)(u64)G_%s" % (c, o.replace("$", "_"))
        if o in self.par:
            return "(%s)(u64)A_[%d]" % (c, self.par[o])
        if o.startswith("__local_depot"):
            return "(%s)(u64)L_%s" % (c, o)
        if t == "pred":
            return ("!" if o.startswith("!") else "") + self.reg(o.lstrip("!"))
        return "bits<%s>(%s)" % (c, self.reg(o))

    def set(self, d, expr):
        return "%s = raw(%s);" % (self.reg(d), expr)

    def addr(self, o, space):
        m = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]", o.strip())
        base, off = m[1], m[2] or "0"
        if space == "param":
            return "((u64)A_[%d] + %s)" % (self.par[base], off)
        if space == "shared":
            return "((u64)S_ + (u32)(%s + %s))" % (self.val(base, "u32"), off)
        return "(%s + (s64)%s)" % (self.val(base, "u64"), off)

    def inst(self, s):
        pre = ""
        if m := re.match(r"@(!?)(%?[\w$]+)\s+", s):
            pre, s = "if (%s%s) " % (m[1], self.reg(m[2])), s[m.end():]
        m = re.match(r"([a-z][\w.]*)\s*(.*)", s, re.S)
        op, rest = m[1].split("."), m[2]
        a = [x.strip() for x in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]]+)+", rest)]
        return pre + "{ " + self.gen(op, a, m[1]) + " }"

    def gen(self, op, a, full):
        o, t = op[0], op[-1]
        v, st = self.val, self.set
        ftz = (lambda e: "ftz(%s)" % e) if "ftz" in op and t == "f32" else (lambda e: e)
        x = lambda i, ty=t: ftz(v(a[i], ty)) if ty == "f32" else v(a[i], ty)
        if o == "bra":
            return "goto %s;" % self.lab(a[0])
        if o in ("ret", "exit"):
            return "return;"
        if o in ("ld", "ldu", "st"):
            sp = next((q for q in op if q in ("param", "global", "shared", "local", "const")), "generic")
            n = next((int(q[1:]) for q in op if q in ("v2", "v4")), 1)
            mem, reg = (a[1], a[0]) if o != "st" else (a[0], a[1])
            rs = [r.strip() for r in reg.strip("{}").split(",")]
            w = W[t] // 8
            ad = self.addr(mem, sp)
            acc = "" if sp in ("param", "local", "const") else "ACC(a_, %d, %d, %d); " % (w * n, o == "st", self.line)
            body = "".join(("st_<%s>(a_ + %d, %s); " % (ct(t), k * w, v(r, t)) if o == "st" else
                            "%s = bits<std::remove_reference_t<decltype(%s)>>(%sld_<%s>(a_ + %d)); " % (self.reg(r), self.reg(r), "(std::conditional_t<(sizeof(%s) > %d), %s, %s>)" % (self.reg(r), w, "s64" if t[0] == "s" else "u64", ct(t)) if t[0] in "sub" else "", ct(t), k * w)) for k, r in enumerate(rs) if r != "_")
            return "u64 a_ = %s; %s%s" % (ad, acc, body)
        if o == "mov":
            if a[0].startswith("{"):
                d = [r.strip() for r in a[0].strip("{}").split(",")]
                w = W[t] // len(d)
                return "u64 m_ = %s; " % v(a[1], "b%d" % W[t]) + "".join("%s = (u%d)(m_ >> %d); " % (self.reg(r), w, k * w) for k, r in enumerate(d) if r != "_")
            if a[1].startswith("{"):
                d = [r.strip() for r in a[1].strip("{}").split(",")]
                w = W[t] // len(d)
                return "%s = (u%d)(%s);" % (self.reg(a[0]), W[t], " | ".join("(u64)%s << %d" % (v(r, "b%d" % w), k * w) for k, r in enumerate(d)))
            return st(a[0], v(a[1], t))
        if o == "cvta":
            if "shared" in op:
                return st(a[0], "(u64)S_ + %s" % v(a[1], "u64") if "to" not in op else "%s - (u64)S_" % v(a[1], "u64"))
            return st(a[0], v(a[1], t))
        if o == "cvt":
            d, s = op[-2], op[-1]
            e = v(a[1], s)
            if s[0] == "f" and d[0] != "f":
                r = next((q for q in op if q in ("rzi", "rni", "rmi", "rpi")), "rzi")
                e = "sat_i<%s>(%s((%s)%s))" % (d, {"rzi": "trunc", "rni": "rint", "rmi": "floor", "rpi": "ceil"}[r], "f64", e)
            elif s[0] == "f" and any(q in op for q in ("rzi", "rni", "rmi", "rpi")):
                r = next(q for q in op if q in ("rzi", "rni", "rmi", "rpi"))
                e = "(%s)%s((f64)%s)" % (d, {"rzi": "trunc", "rni": "rint", "rmi": "floor", "rpi": "ceil"}[r], e)
            else:
                e = "(%s)%s" % (ct(d), e)
            if "sat" in op and d == "f32":
                e = "fminf(fmaxf(%s, 0.f), 1.f)" % e
            return "%s = raw((%s)%s);" % (self.reg(a[0]), "u%d" % W[d] if d[0] in "ub" else d, e) if d[0] != "s" else "%s = (std::remove_reference_t<decltype(%s)>)(s64)(%s)%s;" % (self.reg(a[0]), self.reg(a[0]), d, e)
        if o in ("add", "sub") and t not in ("pred",):
            e = "%s %s %s" % (x(0 + 1), "+" if o == "add" else "-", x(2))
            return st(a[0], ftz("(%s)(%s)" % (ct(t), e)))
        if o == "mul" or o == "mad":
            if t[0] == "f":
                e = "%s * %s" % (x(1), x(2))
                return st(a[0], ftz("(%s)(%s)" % (t, e if o == "mul" else e + " + " + x(3))))
            w = W[t]
            if "wide" in op:
                e = "(%s%d)%s * (%s%d)%s" % (t[0], 2 * w, x(1), t[0], 2 * w, x(2))
                return st(a[0], "(%s%d)(%s)" % (t[0], 2 * w, e if o == "mul" else e + " + " + v(a[3], "%s%d" % (t[0], 2 * w))))
            big = "__int128" if t[0] == "s" else "unsigned __int128"
            e = "(%s)%s * %s" % (big, x(1), x(2))
            e = "(%s)(((%s)) >> %d)" % (ct(t), e, w if "hi" in op else 0)
            return st(a[0], e if o == "mul" else "(%s)(%s + %s)" % (ct(t), e, x(3)))
        if o == "fma":
            return st(a[0], ftz("%s(%s, %s, %s)" % ({"f32": "__builtin_fmaf", "f64": "__builtin_fma", "f16": "__hfma"}[t], x(1), x(2), x(3))))
        if o in ("div", "rem") and t[0] != "f":
            return st(a[0], "%s_<%s>(%s, %s)" % (o, ct(t), x(1), x(2)))
        if o == "div":
            return st(a[0], ftz("(%s / %s)" % (x(1), x(2))))
        if o in ("min", "max"):
            return st(a[0], "%s_(%s, %s)" % (o, x(1), x(2)))
        if o in ("and", "or", "xor"):
            return "%s = (%s)(%s %s %s);" % (self.reg(a[0]), self.rt(t), v(a[1], t), {"and": "&", "or": "|", "xor": "^"}[o], v(a[2], t))
        if o == "not":
            return "%s = (%s)%s%s;" % (self.reg(a[0]), self.rt(t), "!" if t == "pred" else "~", v(a[1], t))
        if o in ("shl", "shr"):
            return st(a[0], "%s_<%s>(%s, %s)" % (o, ct(t), v(a[1], t), v(a[2], "u32")))
        if o == "neg":
            return st(a[0], ftz("(%s)-%s" % (ct(t), x(1))))
        if o == "abs":
            return st(a[0], ftz("(%s)(%s < 0 ? -%s : %s)" % (ct(t), x(1), x(1), x(1))) if t[0] == "s" else ftz("(%s)fabs(%s)" % (t, x(1))))
        if o in ("sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"):
            fn = {"sqrt": "sqrt(%s)", "rcp": "(1 / %s)", "rsqrt": "(1 / sqrt(%s))", "ex2": "exp2(%s)", "lg2": "log2(%s)", "sin": "sin(%s)", "cos": "cos(%s)", "tanh": "tanh(%s)"}[o]
            return st(a[0], ftz("(%s)(%s)" % (t, fn % ("(f64)" + x(1)))))
        if o == "popc":
            return "%s = __builtin_popcountll(%s);" % (self.reg(a[0]), v(a[1], t))
        if o == "clz":
            return "%s = %s ? __builtin_clz%s(%s) : %d;" % (self.reg(a[0]), v(a[1], t), "ll" if W[t] == 64 else "", v(a[1], t), W[t])
        if o == "brev":
            return "u32 i_ = %s, q_ = 0; for (int k = 0; k < 32; ++k) q_ |= (i_ >> k & 1) << (31 - k); %s = q_;" % (v(a[1], "u32"), self.reg(a[0]))
        if o == "bfe":
            return st(a[0], "bfe_(%s, %s, %s)" % (v(a[1], t), v(a[2], "u32"), v(a[3], "u32")))
        if o == "bfi":
            return st(a[0], "bfi_(%s, %s, %s, %s)" % tuple(v(q, "u32") for q in a[1:5]))
        if o == "prmt":
            return st(a[0], "prmt_(%s, %s, %s)" % tuple(v(q, "u32") for q in a[1:4]))
        if o == "selp":
            return st(a[0], "%s ? %s : %s" % (v(a[3], "pred"), v(a[1], t), v(a[2], t)))
        if o == "setp":
            c = op[1]
            nan = t[0] == "f" and c in ("equ", "neu", "ltu", "leu", "gtu", "geu")
            l, r = x(1), x(2)
            if c in ("num", "nan"):
                e = "(%s == %s && %s == %s)" % (l, l, r, r)
                e = e if c == "num" else "!" + e
            else:
                e = "(%s %s %s)" % (l, CMP[c[:2] if nan else c], r)
                if nan:
                    e = "(%s || %s != %s || %s != %s)" % (e, l, l, r, r)
                elif c == "ne" and t[0] == "f":
                    e = "(%s && %s == %s && %s == %s)" % (e, l, l, r, r)
            if len(op) > 3 and op[2] in ("and", "or", "xor"):
                e = "(%s %s %s)" % (e, {"and": "&&", "or": "||", "xor": "!="}[op[2]], v(a[3], "pred"))
            d = a[0].split("|")
            return "bool c_ = %s; %s = c_;" % (e, self.reg(d[0])) + (" %s = !c_;" % self.reg(d[1]) if len(d) > 1 else "")
        if o in ("bar", "barrier"):
            if "warp" in op:
                return "gpu_warp_barrier(%s, 0, 1);" % v(a[0], "u32")
            if "sync" not in op:
                raise NotImplementedError(full)
            return "gpu_barrier(%d);" % self.line
        if o == "shfl":
            d = a[0].split("|")
            return "bool p_; %s = shfl_(%d, %s, %s, %s, %s, &p_);" % (self.reg(d[0]), ("up", "down", "bfly", "idx").index(op[2]), v(a[1], "u32"), v(a[2], "u32"), v(a[3], "u32"), v(a[4], "u32")) + (" %s = p_;" % self.reg(d[1]) if len(d) > 1 else "")
        if o == "vote":
            return "%s = __%s_sync(%s, %s);" % (self.reg(a[0]), op[2], v(a[2], "u32"), v(a[1], "pred"))
        if o == "activemask":
            return "%s = gpu_warp_present();" % self.reg(a[0])
        if o in ("atom", "red"):
            sp = "shared" if "shared" in op else "global"
            q = next(z for z in op if z in ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"))
            k = 0 if o == "atom" else -1
            e = {"add": "o + b", "min": "min_(o, b)", "max": "max_(o, b)", "and": "o & b", "or": "o | b", "xor": "o ^ b", "exch": "b", "cas": "o == b ? c : o", "inc": "o >= b ? 0 : o + 1", "dec": "o == 0 || o > b ? b : o - 1"}[q]
            call = "%s b = %s, c = %s; (void)c; auto r_ = atom_<%s>(%s, [=](%s o) -> %s { return %s; });" % (ct(t), v(a[2 + k], t), v(a[3 + k], t) if q == "cas" else "0", ct(t), self.addr(a[1 + k], sp), ct(t), ct(t), e)
            return call + (" %s = raw(r_);" % self.reg(a[0]) if o == "atom" else "")
        if o in ("membar", "fence", "prefetch", "nanosleep", "pmevent", "griddepcontrol", "discard"):
            return ";"
        if full.startswith(("cp.async.ca.", "cp.async.cg.")):
            n = int(a[2])
            return "u64 s_ = %s, d_ = %s; ACC(s_, %d, 0, %d); ACC(d_, %d, 1, %d); memcpy((void*)d_, (void*)s_, %d);" % (self.addr(a[1], "global"), self.addr(a[0], "shared"), n, self.line, n, self.line, n)
        if full.startswith("cp.async."):
            return ";"
        if full == "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32":
            L = [[r.strip() for r in q.strip("{}").split(",")] for q in a]
            return "u32 d_[4], x_[4] = {%s}, y_[2] = {%s}, z_[4] = {%s}; mma16816(d_, x_, y_, z_); " % tuple(", ".join(v(r, "u32") for r in L[k]) for k in (1, 2, 3)) + "".join("%s = d_[%d]; " % (self.reg(r), k) for k, r in enumerate(L[0]))
        raise NotImplementedError(full + " " + ", ".join(a))


class PtxModule:
    """The kernels of one PTX text."""

    def __init__(self, ptx: str, mode: str) -> None:
        self.p = Ptx(ptx)
        text = '#include "ptx.h"\n' + "\n".join(self.p.out) + "\n"
        flags = ("-O1", "-march=native", "-ffp-contract=off", *(("-DGPU_CHECK",) if mode == "check" else ()))
        runtime_flags = ("-O2", "-DGPU_CHECK") if mode == "check" else ("-O2",)
        self._library = library({"kernel.cpp": text}, "kernel.cpp", flags, runtime_flags)

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any, shared_bytes: int = 0
    ) -> Statistics:
        """Run the kernel `name`."""
        ident, _ = self.p.kernels[name]
        static = -(-self.p.smem // 16) * 16
        return launch(
            getattr(self._library, f"gpu_launch_{ident}"),
            name,
            grid,
            block,
            arguments,
            shared_bytes=static + shared_bytes,
            dynamic_offset=static,
            shared=[Buffer(o, n, 4, 6, None) for o, n in self.p.shared.values()],
            explain=self._explain,
        )

    def _explain(self, message: str) -> str:
        file = next(iter(self.p.files.values()), "the PTX").rpartition("/")[2]
        message = re.sub(r"pc 0x([0-9a-f]+)", lambda m: f"at {file}:{int(m[1], 16)}", message)
        return re.sub(r"shared array (\d+)", lambda m: "shared array " + list(self.p.shared)[int(m[1])], message)
