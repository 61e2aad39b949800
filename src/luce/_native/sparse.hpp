// Passes over CSR rows. A row's scores are a sum of rows of W, and its part of the gradient is a multiple of
// its residual added to rows of dW; classes run along the lanes in both.
#pragma once
#include <algorithm>

#include "csr.hpp"
#include "dense.hpp"

namespace {

constexpr int64_t kSparseTileBytes = 128 << 10;

template <class T> int64_t sparse_tile_rows(int64_t n_heads) {
  const int64_t rows = kSparseTileBytes / (int64_t(sizeof(T)) * n_heads) / kLanes<T> * kLanes<T>;
  return rows < kLanes<T> ? kLanes<T> : rows > 512 ? 512 : rows;
}

template <class T> int64_t sparse_scratch(int64_t n_classes, int64_t n_heads) {
  const int64_t rows = sparse_tile_rows<T>(n_heads);
  const int64_t scores = int64_t(sizeof(T)) * ((rows + kLanes<T>)*n_heads + rows * n_heads + kLanes<T>);
  const int64_t residuals = int64_t(sizeof(double)) * (n_classes + 2 * kLanes<double>);
  return larger(scores + rows_scratch<T>(n_classes), residuals);  // which are not needed at once
}

// nv vectors of b + sum_k value[k] * W[column[k]].
template <int nv, class T, class S, class I>
inline void weighted_rows(Entries<S, I> x, const T* W, int64_t width, const T* b, T* out) {
  constexpr int L = kLanes<T>;
  Vec<T> sum[nv];
  for (int v = 0; v < nv; ++v) sum[v] = load<T>(b + v * L);
  for (int64_t k = 0; k < x.count; ++k) {
    const T* w = W + int64_t(x.column[k]) * width;
    const Vec<T> value = spread<T>(T(x.value[k]));
    for (int v = 0; v < nv; ++v) sum[v] += value * load<T>(w + v * L);
  }
  for (int v = 0; v < nv; ++v) store<T>(out + v * L, sum[v]);
}

// One row of X W + b, rows of W `width` apart. The last vector overlaps the one before; with fewer classes than
// lanes it reads the padding, and writes beyond the row what the next one overwrites.
template <class T, class S, class I>
void row_scores(Entries<S, I> x, const T* W, int64_t width, const T* b, int64_t n_classes, T* out) {
  constexpr int L = kLanes<T>, wide = 8;
  int64_t c = 0;
  for (; c + wide * L <= n_classes; c += wide * L) weighted_rows<wide>(x, W + c, width, b + c, out + c);
  for (; c + 2 * L <= n_classes; c += 2 * L) weighted_rows<2>(x, W + c, width, b + c, out + c);
  for (; c < n_classes; c += L) {
    const int64_t at = c + L <= n_classes || n_classes < L ? c : n_classes - L;
    weighted_rows<1>(x, W + at, width, b + at, out + at);
  }
}

template <class T, class S, class I> void sparse_rows_of(luce::SparsePart& part) {
  const luce::RowTask& task = *part.task;
  const int64_t C = task.n_classes, heads = part.V ? 2 * C : C, rows = sparse_tile_rows<T>(heads);
  const int64_t step = rows + kLanes<T>;
  T *Z = static_cast<T*>(part.scratch), *by_row = Z + heads * step;
  void* memory = by_row + rows * heads + kLanes<T>;
  for (int64_t first = part.begin; first < part.end; first += rows) {
    const int64_t n = part.end - first < rows ? part.end - first : rows;
    for (int64_t i = 0; i < n; ++i) {
      const Entries<S, I> x = entries<S, I>(part.X, first + i, part.sums.bad_index);
      for (int64_t k = 0; k < x.count; ++k)
        if (uint64_t(x.column[k]) >= uint64_t(part.X.columns)) part.sums.bad_index = true;
      if (part.sums.bad_index) return;
      const auto scores = [&](const void* W, const void* b, T* out) {
        row_scores(x, static_cast<const T*>(W), part.width, static_cast<const T*>(b), C, out);
      };
      if (part.scores)
        std::memcpy(by_row + i * heads, static_cast<const T*>(part.scores) + (first + i) * C, size_t(C) * sizeof(T));
      else
        scores(part.W, part.b, by_row + i * heads);
      if (part.V) scores(part.V, part.c, by_row + i * heads + C);
    }
    turn<T>(by_row, heads, n, heads, Z, step);
    run_rows<T>(task, Z, part.V ? Z + C * step : nullptr, step, first, first, first + n, memory, part.sums);
    if (part.sums.bad_index) return;
    if (part.residuals) turn<T>(Z, step, C, n, static_cast<T*>(part.residuals) + (first - part.begin) * C, C);
  }
}

// gradient[column] += value * residual[row] for the entries in columns lo..hi; column D is the intercept. Where
// rows of the gradient are not whole vectors, the last vector overlaps the one before, its first lanes zero.
template <class T, class S, class I>
void sparse_gradient_of(const luce::SparsePart& part, int64_t lo, int64_t hi) {
  constexpr int L = kLanes<double>;
  const int64_t C = part.task->n_classes, D = part.X.columns, step = part.gradient_step;
  const int64_t whole = step % L == 0 ? step : C / L * L, left = whole < C ? C - whole : 0;
  double *r = static_cast<double*>(part.scratch), *tail = r + C + L;
  for (int64_t c = 0; c < L; ++c) r[C + c] = tail[c] = 0;
  bool ignored = false;
  const auto add = [&](int64_t column, double value) {
    double* g = part.gradient + column * step;
    for (int64_t c = 0; c < whole; c += L) store<double>(g + c, load<double>(g + c) + value * load<double>(r + c));
    if (left && whole)
      store<double>(g + C - L, load<double>(g + C - L) + value * load<double>(tail));
    else if (left)
      for (int64_t c = 0; c < C; ++c) g[c] += value * r[c];
  };
  for (int64_t i = part.begin; i < part.end; ++i) {
    const T* residual = static_cast<const T*>(part.residuals) + (i - part.begin) * C;
    for (int64_t c = 0; c < C; ++c) r[c] = double(residual[c]);
    if (whole)
      for (int64_t c = 1; c <= left; ++c) tail[L - c] = r[C - c];
    const Entries<S, I> x = entries<S, I>(part.X, i, ignored);
    for (int64_t k = 0; k < x.count; ++k)
      if (x.column[k] >= lo && x.column[k] < hi) add(x.column[k], double(x.value[k]));
    if (hi > D) add(D, 1.0);
  }
}

// nv vectors of sum_k value[k] * residuals[row[k]], rows of C counted from the first; n numbers of it are added.
template <int nv, class T, class S, class I>
inline void weighted_residuals(Entries<S, I> x, const T* residuals, int64_t first, int64_t C, double* out, int64_t n) {
  constexpr int L = kLanes<double>;
  Vec<double> sum[nv] = {};
  for (int64_t k = 0; k < x.count; ++k) {
    const T* r = residuals + (int64_t(x.column[k]) - first) * C;
    const Vec<double> value = spread<double>(double(x.value[k]));
    for (int v = 0; v < nv; ++v) sum[v] += value * load_as<double>(r + v * L);
  }
  double total[nv * L];
  for (int v = 0; v < nv; ++v) store<double>(total + v * L, sum[v]);
  for (int64_t c = 0; c < n; ++c) out[c] += total[c];
}

// Row d of the gradient from the entries of column d in some rows, for columns lo..hi; column D is the intercept.
// The first rows write what later ones add to. The last vectors of a row read beyond it, and what that gives is left.
template <class T, class S, class I>
void sparse_columns_of(const luce::SparsePart& part, const luce::Csr& columns, int64_t lo, int64_t hi) {
  constexpr int L = kLanes<double>, wide = 8;
  static_assert(wide * L <= luce::kReadBeyond);
  const int64_t C = part.task->n_classes, D = columns.rows;
  const T* residuals = static_cast<const T*>(part.residuals);
  bool ignored = false;
  for (int64_t d = lo; d < hi && d < D; ++d) {
    Entries<S, I> x = entries<S, I>(columns, d, ignored);
    double* g = part.gradient + d * part.gradient_step;
    if (part.begin == 0) std::fill_n(g, C, 0.0);
    const I* from = std::lower_bound(x.column, x.column + x.count, I(part.begin));
    const I* to = std::lower_bound(from, x.column + x.count, I(part.end));
    x = {x.value + (from - x.column), from, to - from};
    if (x.count == 0) continue;
    int64_t c = 0;
    for (; C - c > 4 * L; c += wide * L)
      weighted_residuals<wide>(x, residuals + c, part.begin, C, g + c, smaller(C - c, int64_t(wide * L)));
    for (; C - c > L; c += 2 * L)
      weighted_residuals<2>(x, residuals + c, part.begin, C, g + c, smaller(C - c, int64_t(2 * L)));
    if (c < C) weighted_residuals<1>(x, residuals + c, part.begin, C, g + c, C - c);
  }
  if (hi > D) {
    double* g = part.gradient + D * part.gradient_step;
    if (part.begin == 0) std::fill_n(g, C, 0.0);
    for (int64_t i = 0; i < part.end - part.begin; ++i)
      for (int64_t c = 0; c < C; ++c) g[c] += double(residuals[i * C + c]);
  }
}

template <class T> void sparse_rows(luce::SparsePart& part) {
  with_types(part.X, [&](auto value, auto index) { sparse_rows_of<T, decltype(value), decltype(index)>(part); });
}

template <class T> void sparse_gradient(const luce::SparsePart& part, int64_t lo, int64_t hi) {
  with_types(part.X, [&](auto value, auto index) {
    sparse_gradient_of<T, decltype(value), decltype(index)>(part, lo, hi);
  });
}

template <class T> void sparse_columns(const luce::SparsePart& part, const luce::Csr& columns, int64_t lo, int64_t hi) {
  with_types(columns, [&](auto value, auto index) {
    sparse_columns_of<T, decltype(value), decltype(index)>(part, columns, lo, hi);
  });
}

}  // namespace
