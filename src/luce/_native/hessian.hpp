// The whole Hessian of a small problem: for each pair of classes j >= k the symmetric block
//
//   H_jk = sum_i w_i p_ij ([j = k] - p_ik) x_i x_i^T
//
// as products along the rows of a tile laid out by columns. Threads share the pairs, not the rows: a block is
// summed by one thread, and the result does not depend on their number.
#pragma once
#include "dense.hpp"

namespace {

template <class T, class S> class HessianPass : DensePass<T, S> {
  using Base = DensePass<T, S>;
  using Base::L;
  using Base::part;
  using Base::plan;
  using Base::tile;
  using Base::Z;
  T* scaled;
  double* H;

 public:
  HessianPass(luce::DensePart& p, double* out)
      : Base(p, Plan<T>(p, false)), scaled(static_cast<T*>(p.scratch) + plan.bytes() / int64_t(sizeof(T))), H(out) {}

  void run(int64_t first_pair, int64_t last_pair) {
    for (int64_t first = part.begin; first < part.end; first += plan.rows) {
      const int64_t n = part.end - first < plan.rows ? part.end - first : plan.rows;
      Base::scores_by_columns(first, n);
      Base::rows_done(first, n);
      Base::clear_behind(n);
      int64_t pair = 0;
      for (int64_t j = 0; j < plan.C; ++j)
        for (int64_t k = 0; k <= j; ++k, ++pair)
          if (pair >= first_pair && pair < last_pair) add_block(first, n, j, k);
      if (part.stop(part.stop_argument)) return;
    }
  }

 private:
  void add_block(int64_t first, int64_t n, int64_t j, int64_t k) {
    const int64_t D = plan.D + 1, vectors = round_up(n, L) / L, step = plan.step;
    const double* weight = part.task->weight;
    T* h = scaled + D * step;
    for (int64_t i = 0; i < vectors * L; ++i) {
      const T w = i < n && weight ? T(weight[first + i]) : T(1);
      h[i] = w * Z[j * step + i] * (T(j == k) - Z[k * step + i]);
    }
    for (int64_t d = 0; d < D; ++d)
      for (int64_t i = 0; i < vectors * L; ++i) scaled[d * step + i] = h[i] * tile[d * step + i];
    const int64_t width = plan.C * D;
    double* block = H + j * D * width + k * D;
    for_blocks(D, kInnerClasses, [&](int64_t from, int count) {  // rows from the diagonal on
      inner<T>({tile + from * step, step}, {}, D - from, {scaled + from * step, step}, count, vectors,
               [&](int64_t a, int64_t b, T sum) { block[(from + a) * width + from + b] += double(sum); });
    });
  }
};

template <class T> int64_t hessian_scratch(const luce::DensePart& part) {
  const Plan<T> plan(part, false);
  return plan.bytes() + (plan.D + 2) * plan.step * int64_t(sizeof(T));
}

// H is (C, D + 1, C, D + 1), zero at first. Filled: blocks j >= k, and in each the lower triangle (with what
// of the upper one shares a register tile with it).
template <class T> void hessian(luce::DensePart& part, double* H, int64_t first_pair, int64_t last_pair) {
  if (part.X.wide)
    HessianPass<T, double>(part, H).run(first_pair, last_pair);
  else
    HessianPass<T, float>(part, H).run(first_pair, last_pair);
}

}  // namespace
