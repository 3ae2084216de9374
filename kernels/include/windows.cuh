// Where windows, taps and cells lie in images: the index arithmetic of a convolution, without
// divisions in main loops. Addresses wrap modulo 2³², so that a cell in the padding may have a
// "negative" one; it is never used.

// Windows on N images: window (p, q) meets with its tap (r, s) the cell
// (first_h + p · stride_h + r · dilation_h, …). An image has H × W cells of C values, of which a
// group sees `channels`. Without padding every cell of a window is inside; a launcher that knows so
// defines PADDED as 0.
#ifndef PADDED
#define PADDED 1
#endif
struct Windows {
    unsigned N;
    int H, W, C, channels;
    int P, Q, R, S;
    int first_h, first_w, stride_h, stride_w, dilation_h, dilation_w;

    __device__ bool inside(int h, int w) const
    {
        return !PADDED || ((unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W);
    }
    __device__ unsigned cell(unsigned n, int h, int w) const { return ((n * H + h) * W + w) * C; }
};

// The number (high · middles + middle) · lows + low, by its digits.
struct Odometer {
    int high, middle, low;

    __device__ Odometer(unsigned number, unsigned middles, unsigned lows)
        : high(number / lows / middles), middle(number / lows % middles), low(number % lows)
    {
    }

    __device__ void add(const Odometer& step, int middles, int lows)
    {
        low += step.low;
        bool carry = low >= lows;
        low -= carry ? lows : 0;
        middle += step.middle + carry;
        carry = middle >= middles;
        middle -= carry ? middles : 0;
        high += step.high + carry;
    }

    __device__ void next(int middles, int lows)
    {
        bool carry = ++low == lows;
        low = carry ? 0 : low;
        middle += carry;
        carry = middle == middles;
        middle = carry ? 0 : middle;
        high += carry;
    }
};

// In which order windows are counted: what number `i` is. A window has an image, a row and a column.
struct Place {
    int image, row, column;
};

struct ByImage {  // (n, p, q)
    static __device__ Place of(const Odometer& number) { return {number.high, number.middle, number.low}; }
};

// By fours, those of a pooling window of 2 × 2 one after another: the odometer is (n, row of pooling
// windows, 4 · column of them + cell).
struct ByPool {
    static __device__ Place of(const Odometer& number)
    {
        return {number.high, 2 * number.middle + (number.low >> 1 & 1), (number.low >> 1 & ~1) + (number.low & 1)};
    }
};

// Along one axis, the cells h with h % stride == remainder, and the taps that reach them: r with
// h + before - r · dilation a multiple of the stride. They are first, first + step, …, the same for
// all these cells, so that no tap is tried in vain. Cell i of them meets with tap j the window
// origin + i - j · dilation / gcd.
struct Remainder {
    int cells, first, taps, origin;

    __device__ Remainder(int remainder, int size, int taps_of_filter, int stride, int before, int dilation, int step)
        : cells((size - remainder + stride - 1) / stride), first(0)
    {
        while (first < step && (remainder + before - first * dilation) % stride != 0) ++first;
        taps = first < step && first < taps_of_filter ? (taps_of_filter - first + step - 1) / step : 0;
        origin = (remainder + before - first * dilation) / stride;
    }
};

// Where the cells of a remainder lie in dx.
struct Cells {
    float* dx;
    unsigned H, W, C, rows, columns, h, w, stride_h, stride_w;

    __device__ float* operator()(unsigned m) const
    {
        unsigned i = m / columns % rows, j = m % columns, n = m / columns / rows;
        return dx + ((n * H + h + i * stride_h) * W + w + j * stride_w) * C;
    }
    __device__ bool aligned() const { return C % 4 == 0 && (size_t)dx % 16 == 0; }
};
