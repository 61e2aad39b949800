// The start of L-BFGS where features are taken as independent: for each feature the inverse of e A + reg I,
// by the eigenvectors of A, the classes' curvature. Classes run along the lanes.
#pragma once
#include "vectors.hpp"

namespace {

// nv vectors of values @ M, a matrix of n rows `step` apart.
template <int nv, class T> void times_matrix(const T* values, const T* M, int64_t n, int64_t step, T* out) {
  constexpr int L = kLanes<T>;
  Vec<T> sum[nv] = {};
  for (int64_t k = 0; k < n; ++k)
    for (int v = 0; v < nv; ++v) sum[v] += values[k] * load<T>(M + k * step + v * L);
  for (int v = 0; v < nv; ++v) store<T>(out + v * L, sum[v]);
}

template <class T> void times_square(const T* values, const T* M, int64_t n, int64_t step, T* out) {
  constexpr int L = kLanes<T>, wide = 4;
  int64_t c = 0;
  for (; c + wide * L <= step; c += wide * L) times_matrix<wide>(values, M + c, n, step, out + c);
  for (; c < step; c += L) times_matrix<1>(values, M + c, n, step, out + c);
}

template <class T> int64_t mix_scratch(int64_t step) { return 5 * int64_t(sizeof(T)) * step; }

template <class T> void mix_rows(const luce::Mixing& m, int64_t begin, int64_t end, double* pull, void* scratch) {
  constexpr int L = kLanes<T>;
  const int64_t C = m.n_classes, step = m.step;
  const T *e = static_cast<const T*>(m.e), *centre = static_cast<const T*>(m.centre);
  const T *last = static_cast<const T*>(m.last), *R = static_cast<const T*>(m.R), *RT = static_cast<const T*>(m.RT);
  T *g = static_cast<T*>(scratch), *mixed = g + step, *solved = mixed + step, *a = solved + step, *sum = a + step;
  for (int64_t c = 0; c < step; ++c) a[c] = c < C ? static_cast<const T*>(m.a)[c] : T(1), sum[c] = 0;
  for (int64_t d = begin; d < end; ++d) {
    with_numbers(m.G, d * C, [&](const auto* row) {
      for (int64_t c = 0; c < C; ++c) g[c] = T(row[c]) - centre[d] * last[c];
    });
    times_square(g, R, C, step, mixed);
    for (int64_t c = 0; c < step; c += L)
      store<T>(mixed + c, load<T>(mixed + c) / (e[d] * load<T>(a + c) + T(m.reg)));
    times_square(mixed, RT, C, step, solved);
    for (int64_t c = 0; c < step; c += L)
      store<T>(sum + c, load<T>(sum + c) + centre[d] * load<T>(solved + c));
    std::memcpy(static_cast<T*>(m.out) + d * C, solved, size_t(C) * sizeof(T));
  }
  for (int64_t c = 0; c < C; ++c) pull[c] += double(sum[c]);
}

}  // namespace
