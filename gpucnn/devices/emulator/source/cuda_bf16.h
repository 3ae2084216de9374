// cuda_bf16.h: bfloat16, the upper half of a float, rounded to nearest even.
#pragma once

struct __nv_bfloat16 {
    unsigned short bits;

    __nv_bfloat16() = default;
    GPU_INLINE __nv_bfloat16(float x)
    {
        unsigned word = __float_as_uint(x);
        bits = x != x ? 0x7fff : (unsigned short)((word + 0x7fff + (word >> 16 & 1)) >> 16);
    }
    GPU_INLINE operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

GPU_INLINE float __bfloat162float(__nv_bfloat16 x) { return x; }
GPU_INLINE __nv_bfloat16 __float2bfloat16(float x) { return x; }
GPU_INLINE __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
GPU_INLINE float2 __bfloat1622float2(__nv_bfloat162 x) { return {x.x, x.y}; }
GPU_INLINE __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
