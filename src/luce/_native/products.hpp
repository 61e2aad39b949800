// The two register-blocked products that everything dense is made of.
//
//   inner:  out[a][b] = sum over lanes of A[a] . B[b]       rows of A times rows of B, both along the lanes
//   outer:  out[b][lanes] = sum_k A[k][lanes] * B[b][k]     rows of A scaled by numbers of B
//
// B has one row per class. Each sum stays in a register from its first term to its last.
#pragma once
#include "simd.hpp"

namespace {

// f(std::integral_constant<int, n>) for the n in 1..limit that is only known at run time.
template <int limit, class F> inline void with_constant(int n, F&& f) {
  if constexpr (limit > 0) {
    if (n == limit)
      f(std::integral_constant<int, limit>{});
    else
      with_constant<limit - 1>(n, f);
  }
}

// Calls f(first, count) for near-equal runs of at most kMostClasses classes.
template <class F> inline void for_class_blocks(int64_t n_classes, F&& f) {
  const int64_t blocks = (n_classes + kMostClasses - 1) / kMostClasses;
  for (int64_t k = 0; k < blocks; ++k) {
    const int64_t first = k * n_classes / blocks;
    f(first, int((k + 1) * n_classes / blocks - first));
  }
}

// `n` rows of doubles or floats that lie `step` elements apart.
template <class T> struct Rows {
  T* at;
  int64_t step;
  T* operator[](int64_t i) const { return at + i * step; }
};

// na x nb sums over `vectors` vectors, and over one vector more of `A_tail` (the end of B's rows) if given.
// sink(a, b, sum) takes each.
template <int na, int nb, class T, class Sink>
inline void inner_tile(Rows<const T> A, Rows<const T> A_tail, Rows<const T> B, int64_t vectors, Sink&& sink) {
  constexpr int L = kLanes<T>, sums = na * nb, padded = (sums + L - 1) / L * L;
  Vec<T> sum[padded] = {};
  for (int64_t k = 0; k < vectors; ++k) {
    Vec<T> a[na];
    for (int i = 0; i < na; ++i) a[i] = load<T>(A[i] + k * L);
    for (int j = 0; j < nb; ++j) {
      const Vec<T> b = load<T>(B[j] + k * L);
      for (int i = 0; i < na; ++i) sum[j * na + i] += a[i] * b;
    }
  }
  if (A_tail.at)
    for (int j = 0; j < nb; ++j) {
      const Vec<T> b = load<T>(B[j] + vectors * L);
      for (int i = 0; i < na; ++i) sum[j * na + i] += load<T>(A_tail[i]) * b;
    }
  T out[padded];
  for (int k = 0; k < padded; k += L) store<T>(out + k, sums_of<T>(sum + k));
  for (int j = 0; j < nb; ++j)
    for (int i = 0; i < na; ++i) sink(i, j, out[j * na + i]);
}

// inner over all `n_rows` rows of A and a run of `nb` classes.
template <class T, class Sink>
void inner(Rows<const T> A, Rows<const T> A_tail, int64_t n_rows, Rows<const T> B, int nb, int64_t vectors,
           Sink&& sink) {
  with_constant<kMostClasses>(nb, [&](auto classes) {
    constexpr int n = decltype(classes)::value, na = kAccumulators / n > 6 ? 6 : kAccumulators / n;
    const auto tile = [&](auto height, int64_t i) {
      inner_tile<decltype(height)::value, n, T>(
          {A[i], A.step}, {A_tail.at ? A_tail[i] : nullptr, A_tail.step}, B, vectors,
          [&](int a, int b, T s) { sink(i + a, b, s); });
    };
    int64_t i = 0;
    for (; i + na <= n_rows; i += na) tile(std::integral_constant<int, na>{}, i);
    for (; i < n_rows; ++i) tile(std::integral_constant<int, 1>{}, i);
  });
}

// nv vectors of A's rows times nb classes, summed over k < n. sink(v, b, sum) takes each vector of sums.
template <int nv, int nb, class T, class Sink>
inline void outer_tile(Rows<const T> A, Rows<const T> B, int64_t n, Sink&& sink) {
  constexpr int L = kLanes<T>;
  Vec<T> sum[nb][nv] = {};
  for (int64_t k = 0; k < n; ++k) {
    Vec<T> a[nv];
    for (int v = 0; v < nv; ++v) a[v] = load<T>(A[k] + v * L);
    for (int j = 0; j < nb; ++j) {
      const Vec<T> b = spread<T>(B[j][k]);
      for (int v = 0; v < nv; ++v) sum[j][v] += a[v] * b;
    }
  }
  for (int j = 0; j < nb; ++j)
    for (int v = 0; v < nv; ++v) sink(v, j, sum[j][v]);
}

// outer over `vectors` vectors of A's rows and a run of `nb` classes.
template <class T, class Sink>
void outer(Rows<const T> A, int64_t vectors, Rows<const T> B, int nb, int64_t n, Sink&& sink) {
  with_constant<kMostClasses>(nb, [&](auto classes) {
    constexpr int most = decltype(classes)::value, nv = kAccumulators / most > 6 ? 6 : kAccumulators / most;
    const auto tile = [&](auto width, int64_t v) {
      outer_tile<decltype(width)::value, most, T>({A.at + v * kLanes<T>, A.step}, B, n,
                                                  [&](int a, int b, Vec<T> s) { sink(v + a, b, s); });
    };
    int64_t v = 0;
    for (; v + nv <= vectors; v += nv) tile(std::integral_constant<int, nv>{}, v);
    for (; v < vectors; ++v) tile(std::integral_constant<int, 1>{}, v);
  });
}

}  // namespace
