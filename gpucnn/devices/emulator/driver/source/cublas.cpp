// cublas.cpp: of cuBLAS handles, streams, and the product of float32 matrices as work of a stream. Python adds a
// refusal for each other function that CuPy's module names (build.py).
#include <cuda.h>
#include "host_work.h"

static const int OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13;

struct Handle {
    CUstream stream = nullptr;
    int mode = 0, pointers = 0;
};
struct Matrix {
    const float* values;
    bool transposed;
    int rows;  // from one column to the next
    float at(int i, int j) const { return transposed ? values[j + (long)i * rows] : values[i + (long)j * rows]; }
};

static void multiply(int m, int n, int k, float alpha, Matrix a, Matrix b, float beta, float* c, int ldc)
{
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) {
            double sum = 0;
            for (int l = 0; l < k; ++l) sum += (double)a.at(i, l) * b.at(l, j);
            float& out = c[i + (long)j * ldc];
            out = alpha * (float)sum + (beta ? beta * out : 0.0f);
        }
}

EXPORT int cublasCreate_v2(Handle** handle)
{
    *handle = new Handle;
    return OK;
}

EXPORT int cublasDestroy_v2(Handle* handle)
{
    delete handle;
    return OK;
}

EXPORT int cublasGetVersion_v2(Handle*, int* version)
{
    *version = 120901;
    return OK;
}

EXPORT int cublasSetStream_v2(Handle* handle, CUstream stream)
{
    handle->stream = stream;
    return OK;
}

EXPORT int cublasGetStream_v2(Handle* handle, CUstream* stream)
{
    *stream = handle->stream;
    return OK;
}

EXPORT int cublasSetMathMode(Handle* handle, int mode)
{
    handle->mode = mode;
    return OK;
}

EXPORT int cublasGetMathMode(Handle* handle, int* mode)
{
    *mode = handle->mode;
    return OK;
}

EXPORT int cublasSetPointerMode_v2(Handle* handle, int mode)
{
    handle->pointers = mode;
    return OK;
}

EXPORT int cublasGetPointerMode_v2(Handle* handle, int* mode)
{
    *mode = handle->pointers;
    return OK;
}

EXPORT int cublasSgemm_v2(Handle* handle, int ta, int tb, int m, int n, int k, const float* alpha, const float* a,
                          int lda, const float* b, int ldb, const float* beta, float* c, int ldc)
{
    if (!handle) return NOT_INITIALIZED;
    bool fits = m >= 0 && n >= 0 && k >= 0 && lda >= (ta ? k : m) && ldb >= (tb ? n : k) && ldc >= m;
    if (!fits || handle->pointers) return INVALID_VALUE;
    Matrix left{a, ta != 0, lda}, right{b, tb != 0, ldb};
    HostWork work{[=, alpha = *alpha, beta = *beta] { multiply(m, n, k, alpha, left, right, beta, c, ldc); }};
    auto extent = [](int columns, int rows) { return (size_t)columns * rows * sizeof(float); };
    work.reads = {{a, extent(ta ? m : k, lda)}, {b, extent(tb ? k : n, ldb)}};
    work.writes = {c, extent(n, ldc)};
    return emulated_submit(handle->stream, "cublasSgemm", work) ? EXECUTION_FAILED : OK;
}
