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

// Calls f(first, count) for near-equal runs of at most `most` out of n.
template <class F> inline void for_blocks(int64_t n, int64_t most, F&& f) {
  const int64_t blocks = (n + most - 1) / most;
  for (int64_t k = 0; k < blocks; ++k) f(k * n / blocks, int((k + 1) * n / blocks - k * n / blocks));
}

// Rows of numbers that lie `step` elements apart.
template <class T> struct Rows {
  T* at = nullptr;
  int64_t step = 0;
  T* operator[](int64_t i) const { return at + i * step; }
};

// na x nb sums over `vectors` vectors, and over one vector more that A has in A_tail (if given) and B after
// the others. out[b * na + a].
template <int na, int nb, class T>
[[gnu::noinline]] void inner_tile(Rows<const T> A, Rows<const T> A_tail, Rows<const T> B, int64_t vectors,
                                  T* out) {
  constexpr int L = kLanes<T>, padded = (na * nb + L - 1) / L * L;
  Vec<T> sum[padded] = {};
  for (int64_t k = 0; k < vectors; ++k) {
    Vec<T> a[na];
    for (int i = 0; i < na; ++i) {
      a[i] = load<T>(A[i] + k * L);
      __builtin_prefetch(A[i] + na * A.step + k * L);
    }
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
  for (int k = 0; k < padded; k += L) store<T>(out + k, sums_of<T>(sum + k));
}

// inner over `n_rows` rows of A and `n_classes` of B; sink(a, b, sum) takes each sum.
template <class T, class Sink>
void inner(Rows<const T> A, Rows<const T> A_tail, int64_t n_rows, Rows<const T> B, int64_t n_classes,
           int64_t vectors, Sink&& sink) {
  alignas(64) T out[kAccumulators + kLanes<T>];
  for_blocks(n_classes, kInnerClasses, [&](int64_t first, int count) {
    with_constant<kInnerClasses>(count, [&](auto classes) {
      constexpr int nb = decltype(classes)::value, na = kAccumulators / nb > 6 ? 6 : kAccumulators / nb;
      const auto tile = [&](auto height, int64_t i) {
        constexpr int h = decltype(height)::value;
        const Rows<const T> tail = {A_tail.at ? A_tail[i] : nullptr, A_tail.step};
        inner_tile<h, nb, T>({A[i], A.step}, tail, {B[first], B.step}, vectors, out);
        for (int b = 0; b < nb; ++b)
          for (int a = 0; a < h; ++a) sink(i + a, first + b, out[b * h + a]);
      };
      int64_t i = 0;
      for (; i + na <= n_rows; i += na) tile(std::integral_constant<int, na>{}, i);
      for (; i < n_rows; ++i) tile(std::integral_constant<int, 1>{}, i);
    });
  });
}

// nv vectors of A's rows times nb classes, summed over k < n, into rows of `out`, one per class.
template <int nv, int nb, class T>
[[gnu::noinline]] void outer_tile(Rows<const T> A, Rows<const T> B, int64_t n, Rows<T> out) {
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
    for (int v = 0; v < nv; ++v) store<T>(out[j] + v * L, sum[j][v]);
}

// outer over `vectors` vectors of A's rows and `n_classes` of B. A tile of sums is written to place(v, b), and
// taken(v, b, vectors, classes) is told.
template <class T, class Place, class Taken>
void outer(Rows<const T> A, int64_t vectors, Rows<const T> B, int64_t n_classes, int64_t n, Place&& place,
           Taken&& taken) {
  for_blocks(n_classes, kOuterClasses, [&](int64_t first, int count) {
    with_constant<kOuterClasses>(count, [&](auto classes) {
      constexpr int nb = decltype(classes)::value, nv = kAccumulators / nb > 6 ? 6 : kAccumulators / nb;
      const auto tile = [&](auto width, int64_t v) {
        constexpr int w = decltype(width)::value;
        outer_tile<w, nb, T>({A.at + v * kLanes<T>, A.step}, {B[first], B.step}, n, place(v, first));
        taken(v, first, w, nb);
      };
      int64_t v = 0;
      for (; v + nv <= vectors; v += nv) tile(std::integral_constant<int, nv>{}, v);
      for (; v < vectors; ++v) tile(std::integral_constant<int, 1>{}, v);
    });
  });
}

}  // namespace
