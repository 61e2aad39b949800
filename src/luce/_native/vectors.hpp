// What solvers do with whole vectors: sums of multiples and inner products, of either type, summed in double.
#pragma once
#include "kernels.hpp"
#include "simd.hpp"

namespace {

// Numbers of each vector at a time, which stay in the first cache, or in the second.
constexpr int64_t kVectorChunk = 1024, kProductChunk = 512;

// f(x.data + at) with the type that x has.
template <class F> auto with_numbers(const luce::Vector& x, int64_t at, F&& f) {
  return x.wide ? f(static_cast<const double*>(x.data) + at) : f(static_cast<const float*>(x.data) + at);
}

template <class S> void add_multiple(double* sum, double factor, const S* x, int64_t n) {
  constexpr int L = kLanes<double>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store<double>(sum + i, load<double>(sum + i) + factor * load_as<double>(x + i));
  for (; i < n; ++i) sum[i] += factor * double(x[i]);
}

// out = sum of factor[k] * x[k]; out may be one of them.
void combine(const luce::Combination& c, int64_t begin, int64_t end) {
  double sum[kVectorChunk];
  for (int64_t at = begin; at < end; at += kVectorChunk) {
    const int64_t n = smaller(end - at, kVectorChunk);
    for (int64_t i = 0; i < n; ++i) sum[i] = 0;
    for (int64_t k = 0; k < c.count; ++k)
      with_numbers(c.x[k], at, [&](const auto* x) { add_multiple(sum, c.factor[k], x, n); });
    if (c.wide)
      for (int64_t i = 0; i < n; ++i) static_cast<double*>(c.out)[at + i] = sum[i];
    else
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(c.out)[at + i] = float(sum[i]);
  }
}

// sums[k] += a . b[k] for m vectors b of n numbers, `step` apart.
template <int m> void inner(const double* a, const double* b, int64_t step, int64_t n, double* sums) {
  constexpr int L = kLanes<double>, ways = 8 / m;
  Vec<double> sum[m][ways] = {};
  int64_t i = 0;
  for (; i + ways * L <= n; i += ways * L)
    for (int w = 0; w < ways; ++w) {
      const Vec<double> x = load<double>(a + i + w * L);
      for (int k = 0; k < m; ++k) sum[k][w] += x * load<double>(b + k * step + i + w * L);
    }
  for (int k = 0; k < m; ++k) {
    for (int w = 1; w < ways; ++w) sum[k][0] += sum[k][w];
    for (int l = 0; l < L; ++l) sums[k] += sum[k][0][l];
    for (int64_t j = i; j < n; ++j) sums[k] += a[j] * b[k * step + j];
  }
}

void read_vector(const luce::Vector& x, int64_t at, int64_t n, double* out) {
  with_numbers(x, at, [&](const auto* from) {
    for (int64_t i = 0; i < n; ++i) out[i] = double(from[i]);
  });
}

int64_t products_scratch(const luce::Products& p) { return int64_t(sizeof(double)) * kProductChunk * (p.n_b + 1); }

// sums[j * n_b + k] += a[j] . b[k] over a range.
void products(const luce::Products& p, int64_t begin, int64_t end, double* sums, void* scratch) {
  double *a = static_cast<double*>(scratch), *b = a + kProductChunk;
  for (int64_t at = begin; at < end; at += kProductChunk) {
    const int64_t n = smaller(end - at, kProductChunk);
    for (int64_t k = 0; k < p.n_b; ++k) read_vector(p.b[k], at, n, b + k * kProductChunk);
    for (int64_t j = 0; j < p.n_a; ++j) {
      read_vector(p.a[j], at, n, a);
      int64_t k = 0;
      double* of_a = sums + j * p.n_b;
      for (; k + 4 <= p.n_b; k += 4) inner<4>(a, b + k * kProductChunk, kProductChunk, n, of_a + k);
      for (; k < p.n_b; ++k) inner<1>(a, b + k * kProductChunk, kProductChunk, n, of_a + k);
    }
  }
}

}  // namespace
