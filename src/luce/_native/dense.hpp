// One pass over dense rows: tiles of rows that stay in the cache between X W, the row task and X^T R.
//
// A tile is used in one of two layouts, and in each the two products are the two of products.hpp:
//
//   by rows      X as it lies, each row contiguous     scores: inner (along the features)   gradient: outer
//   by columns   a copy, each feature contiguous       scores: outer   gradient: inner (along the rows)
//
// The intercept is one feature more, always 1. `by columns` serves F-order, and C-order with few features, where
// sums along a row are too short for vectors; it pads rows instead of features.
#pragma once
#include "products.hpp"
#include "rows.hpp"

namespace {

constexpr int64_t kTileBytes = 512 << 10;  // leaves room in 1 MiB of cache for the scores and the coefficients
constexpr int64_t kLongSum = 64;           // vectors: longer sums along the lanes would crowd the first cache
constexpr int64_t kLongRow = 96;           // features from which sums along a row pay

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
template <class T> int64_t padded_features(int64_t n_features) { return round_up(n_features + 1, kLanes<T>); }

// How a pass cuts its rows into tiles, and where in the scratch memory the parts of a tile lie.
template <class T> struct Plan {
  static constexpr int L = kLanes<T>;
  int64_t D, C, heads, padded, rows, step;
  bool by_rows, convert;
  int64_t tile_size, tail_size, scores_size;  // elements of T

  explicit Plan(const luce::DensePart& part, bool may_use_rows = true)
      : D(part.X.columns), C(part.task->n_classes), heads(part.n_heads), padded(padded_features<T>(D)) {
    convert = part.X.wide != (sizeof(T) == 8);
    by_rows = may_use_rows && part.X.column_step == 1 && D >= kLongRow;
    const int64_t fitting = kTileBytes / (int64_t(sizeof(T)) * (D > heads ? D + 1 : heads));
    rows = fitting < 64 ? 64 : fitting > kLongSum * L ? kLongSum * L : fitting / L * L;
    step = rows + L;  // not a power of two, which would crowd one cache set
    tile_size = by_rows ? (convert ? round_up(rows * D, L) : 0) : (D + 1) * step;
    tail_size = by_rows ? rows * L : 0;
    scores_size = heads * step;
  }
  int64_t bytes() const {
    return (tile_size + tail_size + scores_size) * int64_t(sizeof(T)) + rows_scratch<T>(C);
  }
};

template <class T> int64_t dense_scratch(const luce::DensePart& part) { return Plan<T>(part).bytes(); }

// Copies n elements, `from` apart, to contiguous ones.
template <class T, class S> inline void gather(const S* __restrict from, int64_t step, int64_t n, T* __restrict to) {
  if (step == 1)
    for (int64_t i = 0; i < n; ++i) to[i] = T(from[i]);
  else
    for (int64_t i = 0; i < n; ++i) to[i] = T(from[i * step]);
}

// Copies rows that lie contiguously into columns, `lanes` squares of them at a time.
template <class T, class S>
void turn(const S* X, int64_t row_step, int64_t n_rows, int64_t n_features, T* to, int64_t step) {
  constexpr int L = kLanes<T>;
  int64_t i = 0;
  if (n_features >= L)
    for (; i + L <= n_rows; i += L)
      for (int64_t d = 0;;) {
        Vec<T> square[L];
        for (int r = 0; r < L; ++r) square[r] = load_as<T>(X + (i + r) * row_step + d);
        transpose<T>(square);
        for (int c = 0; c < L; ++c) store<T>(to + (d + c) * step + i, square[c]);
        if (d + L == n_features) break;
        d = d + 2 * L <= n_features ? d + L : n_features - L;  // the last square overlaps the one before
      }
  for (; i < n_rows; ++i)
    for (int64_t d = 0; d < n_features; ++d) to[d * step + i] = T(X[i * row_step + d]);
}

template <class T, class S> class DensePass {
 protected:
  static constexpr int L = kLanes<T>;
  luce::DensePart& part;
  const Plan<T> plan;
  T *tile, *tail, *Z;
  void* rows_memory;
  Rows<const T> W;

 public:
  DensePass(luce::DensePart& p, const Plan<T>& how) : part(p), plan(how) {
    tile = static_cast<T*>(part.scratch);
    tail = tile + plan.tile_size;
    Z = tail + plan.tail_size;
    rows_memory = Z + plan.scores_size;
    W = {static_cast<const T*>(part.coefficients), plan.padded};
  }

  void run() {
    for (int64_t first = part.begin; first < part.end; first += plan.rows) {
      const int64_t n = part.end - first < plan.rows ? part.end - first : plan.rows;
      if (plan.by_rows)
        tile_by_rows(first, n);
      else
        tile_by_columns(first, n);
      if (part.sums.bad_index || part.stop(part.stop_argument)) return;
    }
  }

 protected:
  const S* source(int64_t row) const { return static_cast<const S*>(part.X.data) + row * part.X.row_step; }

  bool rows_done(int64_t first, int64_t n) {
    T* U = plan.heads > plan.C ? Z + plan.C * plan.step : nullptr;
    run_rows<T>(*part.task, Z, U, plan.step, first, first, first + n, rows_memory, part.sums);
    return part.gradient && !part.sums.bad_index;
  }

  // Adds X^T R over n rows of A to the gradient, from a feature on.
  void add_outer(Rows<const T> A, int64_t vectors, int64_t n, int64_t feature) {
    alignas(64) T sums[kOuterClasses * 6 * L];  // at most 6 vectors of each class
    constexpr int D = kLanes<double>;
    outer<T>(
        A, vectors, {Z, plan.step}, plan.C, n, [&](int64_t, int64_t) { return Rows<T>{sums, 6 * L}; },
        [&](int64_t v, int64_t c, int width, int classes) {
          for (int b = 0; b < classes; ++b)
            for (int l = 0; l < width * L; l += D) {
              double* g = part.gradient + (c + b) * plan.padded + feature + v * L + l;
              store<double>(g, load<double>(g) + load_as<double>(sums + b * 6 * L + l));
            }
        });
  }

  void tile_by_rows(int64_t first, int64_t n) {
    const int64_t vectors = plan.D / L, rest = plan.D % L;
    Rows<const T> A;
    if constexpr (std::is_same_v<T, S>) {
      A = {source(first), part.X.row_step};
    } else {
      for (int64_t i = 0; i < n; ++i) gather(source(first + i), 1, plan.D, tile + i * plan.D);
      A = {tile, plan.D};
    }
    for (int64_t i = 0; i < n; ++i) {
      T* t = tail + i * L;
      for (int l = 0; l < L; ++l) t[l] = l < rest ? A[i][vectors * L + l] : T(l == rest);
    }
    const Rows<const T> A_tail = {tail, L};
    for_blocks(vectors, kLongSum, [&](int64_t k, int count) {
      const bool last = k + count == vectors;
      inner<T>({A.at + k * L, A.step}, last ? A_tail : Rows<const T>{}, n, {W.at + k * L, W.step}, plan.heads, count,
               [&](int64_t i, int64_t c, T z) { Z[c * plan.step + i] = k ? Z[c * plan.step + i] + z : z; });
    });
    if (!rows_done(first, n)) return;
    add_outer(A, vectors, n, 0);
    add_outer(A_tail, 1, n, vectors * L);
  }

  // Fills the tile with n rows as columns, rounded up to whole vectors with zeros, and makes their scores.
  void scores_by_columns(int64_t first, int64_t n) {
    const int64_t D = plan.D, filled = round_up(n, L);
    if (part.X.column_step == 1)
      turn<T>(source(first), part.X.row_step, n, D, tile, plan.step);
    else
      for (int64_t d = 0; d < D; ++d)
        gather(source(first) + d * part.X.column_step, part.X.row_step, n, tile + d * plan.step);
    for (int64_t i = 0; i < n; ++i) tile[D * plan.step + i] = T(1);
    for (int64_t d = 0; d <= D; ++d)
      for (int64_t i = n; i < filled; ++i) tile[d * plan.step + i] = T(0);
    outer<T>(
        {tile, plan.step}, filled / L, W, plan.heads, D + 1,
        [&](int64_t v, int64_t c) { return Rows<T>{Z + c * plan.step + v * L, plan.step}; },
        [](int64_t, int64_t, int, int) {});
  }

  // What the last vector of each class holds behind n rows becomes zero, so that it adds nothing.
  void clear_behind(int64_t n) {
    for (int64_t c = 0; c < plan.C; ++c)
      for (int64_t i = n; i < round_up(n, L); ++i) Z[c * plan.step + i] = T(0);
  }

  void tile_by_columns(int64_t first, int64_t n) {
    scores_by_columns(first, n);
    if (!rows_done(first, n)) return;
    clear_behind(n);
    inner<T>({tile, plan.step}, {}, plan.D + 1, {Z, plan.step}, plan.C, round_up(n, L) / L,
             [&](int64_t d, int64_t c, T g) { part.gradient[c * plan.padded + d] += double(g); });
  }
};

template <class T, class S> void dense_of(luce::DensePart& part) {
  DensePass<T, S>(part, Plan<T>(part)).run();
}

template <class T> void dense(luce::DensePart& part) {
  if (part.X.wide)
    dense_of<T, double>(part);
  else
    dense_of<T, float>(part);
}

}  // namespace
