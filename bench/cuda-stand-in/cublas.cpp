// cuBLAS, as much of it as candle asks for: matrix products, on the handle's stream, in the order
// queued. Column-major, as there. Sums are f32, or f64 for f64.
#include "driver/driver.h"
#include "include/cuda_bf16.h"
#include "include/cuda_fp16.h"

using namespace stand_in;

namespace {

enum Status : int { OK = 0, INVALID = 7, FAILED = 13, UNSUPPORTED = 15 };
enum Kind : int { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };

struct Handle {
    void *stream;
    int pointer_mode, math_mode;
};

struct Matrix {
    Address start;
    int kind;
    int64_t leading, stride;
};
struct Product {
    bool a_turned, b_turned;
    int64_t m, n, k, batches;
    double alpha, beta;
    Matrix a, b, c;
};

int64_t bytes_of(int kind) { return kind == F64 ? 8 : kind == F32 ? 4 : 2; }

double get(const Matrix &matrix, int64_t at) {
    switch (matrix.kind) {
        case F64: return reinterpret_cast<const double *>(matrix.start)[at];
        case F32: return reinterpret_cast<const float *>(matrix.start)[at];
        case F16: return float(reinterpret_cast<const __half *>(matrix.start)[at]);
        default: return float(reinterpret_cast<const __nv_bfloat16 *>(matrix.start)[at]);
    }
}

void set(const Matrix &matrix, int64_t at, double value) {
    switch (matrix.kind) {
        case F64: reinterpret_cast<double *>(matrix.start)[at] = value; return;
        case F32: reinterpret_cast<float *>(matrix.start)[at] = float(value); return;
        case F16: reinterpret_cast<__half *>(matrix.start)[at] = __half(float(value)); return;
        default: reinterpret_cast<__nv_bfloat16 *>(matrix.start)[at] = __nv_bfloat16(float(value)); return;
    }
}

// One matrix of the batch, its rows of length k one after the other.
template <typename Sum>
std::vector<Sum> gathered(const Matrix &matrix, int64_t batch, bool along, int64_t rows, int64_t k) {
    std::vector<Sum> values(size_t(rows * k));
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < k; i++) {
            int64_t at = along ? row * matrix.leading + i : i * matrix.leading + row;
            values[size_t(row * k + i)] = Sum(get(matrix, batch * matrix.stride + at));
        }
    return values;
}

template <typename Sum>
void multiply(const Product &p) {
    for (int64_t batch = 0; batch < p.batches; batch++) {
        auto a = gathered<Sum>(p.a, batch, p.a_turned, p.m, p.k);
        auto b = gathered<Sum>(p.b, batch, !p.b_turned, p.n, p.k);
        for (int64_t column = 0; column < p.n; column++)
            for (int64_t row = 0; row < p.m; row++) {
                const Sum *x = &a[size_t(row * p.k)], *y = &b[size_t(column * p.k)];
                // Several sums at once: the compiler may not reorder one.
                Sum sums[8] = {};
                int64_t i = 0;
                for (; i + 8 <= p.k; i += 8)
                    for (int64_t j = 0; j < 8; j++) sums[j] += x[i + j] * y[i + j];
                for (; i < p.k; i++) sums[0] += x[i] * y[i];
                Sum sum = 0;
                for (Sum part : sums) sum += part;
                int64_t at = batch * p.c.stride + column * p.c.leading + row;
                double old = p.beta == 0 ? 0 : p.beta * get(p.c, at);
                set(p.c, at, p.alpha * double(sum) + old);
            }
    }
}

Touch touched(const Matrix &matrix, int64_t rows, int64_t columns, int64_t batches, bool writes) {
    int64_t elements = (batches - 1) * matrix.stride + (columns - 1) * matrix.leading + rows;
    return {matrix.start, matrix.start + Address(elements * bytes_of(matrix.kind)), writes};
}

Status queue(void *handle, int a_way, int b_way, int m, int n, int k, double alpha, Matrix a, Matrix b, double beta,
             Matrix c, int batches) {
    auto stream = stream_of(static_cast<Handle *>(handle)->stream);
    if (check_health() || !stream) return FAILED;
    if (m < 0 || n < 0 || k < 0 || batches < 0 || a_way > 1 || b_way > 1) return INVALID;
    for (const Matrix &matrix : {a, b, c})
        if (matrix.kind != F32 && matrix.kind != F64 && matrix.kind != F16 && matrix.kind != BF16) return UNSUPPORTED;
    if (m == 0 || n == 0 || batches == 0) return OK;
    bool a_turned = a_way == 1, b_turned = b_way == 1;
    if (a.leading < (a_turned ? k : m) || b.leading < (b_turned ? n : k) || c.leading < m) return INVALID;
    Product product{a_turned, b_turned, m, n, k, batches, alpha, beta, a, b, c};
    std::vector<Touch> touches{touched(c, m, n, batches, true)};
    if (k > 0) {
        touches.push_back(touched(a, a_turned ? k : m, a_turned ? m : k, batches, false));
        touches.push_back(touched(b, b_turned ? n : k, b_turned ? k : n, batches, false));
    }
    for (const Touch &touch : touches) must_be_allocated("matrix product", touch.from, touch.to - touch.from);
    count("library call", "matrix product");
    stream->submit("matrix product", touches, [product] {
        product.c.kind == F64 ? multiply<double>(product) : multiply<float>(product);
    });
    return OK;
}

Address address(const void *pointer) { return reinterpret_cast<Address>(pointer); }

// A factor is in the type that the sums are in.
double factor(const void *at, int compute) {
    if (compute == 70 || compute == 71) return *static_cast<const double *>(at);
    if (compute == 64 || compute == 65) return float(*static_cast<const __half *>(at));
    return *static_cast<const float *>(at);
}

}  // namespace

extern "C" {

Status cublasCreate_v2(void **handle) {
    if (check()) return FAILED;
    *handle = new Handle{};
    return OK;
}
Status cublasDestroy_v2(void *handle) {
    delete static_cast<Handle *>(handle);
    return OK;
}
Status cublasSetStream_v2(void *handle, void *stream) {
    static_cast<Handle *>(handle)->stream = stream;
    return OK;
}
Status cublasSetWorkspace_v2(void *, void *, size_t) { return OK; }
// Factors on the device are not there.
Status cublasSetPointerMode_v2(void *, int mode) { return mode == 0 ? OK : UNSUPPORTED; }
Status cublasGetPointerMode_v2(void *, int *mode) {
    *mode = 0;
    return OK;
}
Status cublasSetMathMode(void *handle, int mode) {
    static_cast<Handle *>(handle)->math_mode = mode;
    return OK;
}
Status cublasGetMathMode(void *handle, int *mode) {
    *mode = static_cast<Handle *>(handle)->math_mode;
    return OK;
}

Status cublasGemmStridedBatchedEx(void *handle, int a_way, int b_way, int m, int n, int k, const void *alpha,
                                  const void *a, int a_kind, int lda, long long a_stride, const void *b, int b_kind,
                                  int ldb, long long b_stride, const void *beta, void *c, int c_kind, int ldc,
                                  long long c_stride, int batches, int compute, int) {
    return queue(handle, a_way, b_way, m, n, k, factor(alpha, compute), {address(a), a_kind, lda, a_stride},
                 {address(b), b_kind, ldb, b_stride}, factor(beta, compute), {address(c), c_kind, ldc, c_stride}, batches);
}
Status cublasGemmEx(void *handle, int a_way, int b_way, int m, int n, int k, const void *alpha, const void *a,
                    int a_kind, int lda, const void *b, int b_kind, int ldb, const void *beta, void *c, int c_kind,
                    int ldc, int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, a_way, b_way, m, n, k, alpha, a, a_kind, lda, 0, b, b_kind, ldb, 0, beta,
                                      c, c_kind, ldc, 0, 1, compute, algorithm);
}

#define PRODUCTS(letter, type, kind)                                                                                 \
    Status cublas##letter##gemmStridedBatched(void *handle, int a_way, int b_way, int m, int n, int k,              \
                                              const type *alpha, const type *a, int lda, long long a_stride,        \
                                              const type *b, int ldb, long long b_stride, const type *beta,         \
                                              type *c, int ldc, long long c_stride, int batches) {                  \
        return queue(handle, a_way, b_way, m, n, k, *alpha, {address(a), kind, lda, a_stride},                      \
                     {address(b), kind, ldb, b_stride}, *beta, {address(c), kind, ldc, c_stride}, batches);         \
    }                                                                                                               \
    Status cublas##letter##gemm_v2(void *handle, int a_way, int b_way, int m, int n, int k, const type *alpha,      \
                                   const type *a, int lda, const type *b, int ldb, const type *beta, type *c,       \
                                   int ldc) {                                                                       \
        return queue(handle, a_way, b_way, m, n, k, *alpha, {address(a), kind, lda, 0}, {address(b), kind, ldb, 0}, \
                     *beta, {address(c), kind, ldc, 0}, 1);                                                         \
    }
PRODUCTS(S, float, F32)
PRODUCTS(D, double, F64)
}
