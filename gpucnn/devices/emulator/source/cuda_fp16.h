// cuda_fp16.h: half precision, computed in float and rounded once, as a GPU does.
#pragma once

typedef _Float16 __half;
typedef _Float16 half;
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half2 half2;

GPU_INLINE float __half2float(__half x) { return (float)x; }
GPU_INLINE __half __float2half(float x) { return (__half)x; }
GPU_INLINE __half __float2half_rn(float x) { return (__half)x; }
GPU_INLINE float __low2float(__half2 x) { return (float)x.x; }
GPU_INLINE float __high2float(__half2 x) { return (float)x.y; }
GPU_INLINE float2 __half22float2(__half2 x) { return {(float)x.x, (float)x.y}; }
GPU_INLINE __half2 __floats2half2_rn(float x, float y) { return {(__half)x, (__half)y}; }
GPU_INLINE __half2 __float22half2_rn(float2 x) { return {(__half)x.x, (__half)x.y}; }
GPU_INLINE __half2 __halves2half2(__half x, __half y) { return {x, y}; }
GPU_INLINE __half __hadd(__half x, __half y) { return (__half)((float)x + (float)y); }
GPU_INLINE __half __hmul(__half x, __half y) { return (__half)((float)x * (float)y); }
GPU_INLINE __half __hfma(__half x, __half y, __half z) { return (__half)fmaf((float)x, (float)y, (float)z); }
