// What happens to the scores of each row, once for dense, sparse and BLAS-made scores.
//
// Scores lie class by class, Z[class * step + row], so that one vector holds one class of several rows: no
// sum or maximum ever runs across the lanes, whatever the number of classes.
#pragma once
#include "kernels.hpp"
#include "simd.hpp"

#include <cmath>

namespace {

using luce::Op;

inline double element(const luce::Matrix& m, int64_t i, int64_t j) {
  const int64_t at = i * m.row_step + j * m.column_step;
  return m.wide ? static_cast<const double*>(m.data)[at] : double(static_cast<const float*>(m.data)[at]);
}

// One vector of rows: `count` of them real, the first being row `row` of the whole matrix.
template <class T> struct Group {
  const luce::RowTask& task;
  luce::RowSums& sums;
  T *Z, *U;
  int64_t step, row;
  int count;
  T* soft;  // room for n_classes vectors

  static constexpr int L = kLanes<T>;
  int64_t C = task.n_classes;

  // Turns scores into exp(z - top) in place; P is that divided by `total`.
  void exponentiate(Vec<T> top, Vec<T>& total) {
    total = Vec<T>{};
    for (int64_t j = 0; j < C; ++j) {
      const Vec<T> e = exp_nonpositive<T>(load<T>(Z + j * step) - top);
      store<T>(Z + j * step, e);
      total += e;
    }
  }

  Vec<T> highest() const {
    Vec<T> top = load<T>(Z);
    for (int64_t j = 1; j < C; ++j) top = larger(load<T>(Z + j * step), top);
    return top;
  }

  Vec<T> weights() const {
    alignas(64) T w[L];
    for (int l = 0; l < L; ++l) w[l] = l >= count ? T(0) : task.weight ? T(task.weight[row + l]) : T(1);
    return load<T>(w);
  }

  double weight_of(int l) const { return task.weight ? task.weight[row + l] : 1.0; }

  // t . (z - top), t the target.
  Vec<T> target_scores(Vec<T> top) {
    Vec<T> hit = {};
    if (task.soft.data) {
      for (int64_t j = 0; j < C; ++j) {
        for (int l = 0; l < L; ++l) soft[j * L + l] = l < count ? T(element(task.soft, row + l, j)) : T(0);
        hit += load<T>(soft + j * L) * (load<T>(Z + j * step) - top);
      }
      return hit;
    }
    alignas(64) T at_label[L] = {};
    for (int l = 0; l < count; ++l) {
      const int64_t label = task.labels[row + l];
      if (uint64_t(label) >= uint64_t(C)) {
        sums.bad_index = true;
        return hit;
      }
      at_label[l] = Z[label * step + l];
    }
    hit = (load<T>(at_label) - top) * T(1 - task.smoothing);
    if (task.smoothing != 0) {
      Vec<T> all = {};
      for (int64_t j = 0; j < C; ++j) all += load<T>(Z + j * step) - top;
      hit += all * T(task.smoothing / double(C));
    }
    return hit;
  }

  void value_and_gradient() {
    const Vec<T> top = highest(), hit = target_scores(top);
    if (sums.bad_index) return;
    Vec<T> total;
    exponentiate(top, total);
    alignas(64) T loss[L];
    store<T>(loss, log_positive<T>(total) - hit);
    for (int l = 0; l < count; ++l) sums.total += weight_of(l) * double(loss[l]);
    if (task.op == Op::value) return;

    const Vec<T> w = weights(), scale = w / total;
    if (task.soft.data) {
      for (int64_t j = 0; j < C; ++j)
        store<T>(Z + j * step, load<T>(Z + j * step) * scale - load<T>(soft + j * L) * w);
      return;
    }
    const Vec<T> shared = w * T(task.smoothing / double(C));
    for (int64_t j = 0; j < C; ++j) store<T>(Z + j * step, load<T>(Z + j * step) * scale - shared);
    for (int l = 0; l < count; ++l) Z[task.labels[row + l] * step + l] -= T((1 - task.smoothing) * weight_of(l));
  }

  void distribution() {
    Vec<T> total;
    exponentiate(highest(), total);
    const Vec<T> scale = spread<T>(1) / total;
    for (int64_t j = 0; j < C; ++j) store<T>(Z + j * step, load<T>(Z + j * step) * scale);
  }

  // Z becomes P and U becomes the moves v = u - p . u.
  void moves() {
    distribution();
    Vec<T> mean = {};
    for (int64_t j = 0; j < C; ++j) mean += load<T>(Z + j * step) * load<T>(U + j * step);
    for (int64_t j = 0; j < C; ++j) store<T>(U + j * step, load<T>(U + j * step) - mean);
  }

  void hessian_product() {
    moves();
    const Vec<T> w = weights();
    for (int64_t j = 0; j < C; ++j) store<T>(Z + j * step, load<T>(Z + j * step) * load<T>(U + j * step) * w);
  }

  // With s = max(v, -1), e = p . s and q = p (1 + s) / (1 + e): KL(q || p) is summed and Z becomes w (q - p).
  // In float64, as the terms p ((1 + s) log(1 + s) - s) nearly cancel; e is 0 unless an entry was cut at -1.
  void divergence() {
    moves();
    constexpr int D = kLanes<double>;
    alignas(64) double excess[L] = {}, terms[L] = {};
    for (int64_t j = 0; j < C; ++j)
      for (int l = 0; l < L; l += D) {
        const Vec<double> p = load_as<double>(Z + j * step + l);
        const Vec<double> s = larger(load_as<double>(U + j * step + l), spread<double>(-1)), q = s + 1;
        // log1p(s), exact to rounding: the last term mends what the sum 1 + s lost.
        const Vec<double> log1p = log_positive<double>(q) + (s - (q - 1)) / q;
        const Vec<double> term = q > 0 ? q * log1p - s : spread<double>(1);
        store<double>(terms + l, load<double>(terms + l) + p * term);
        store<double>(excess + l, load<double>(excess + l) + p * s);
      }
    alignas(64) T mean[L], scale[L];
    for (int l = 0; l < L; ++l) {
      const double e = excess[l], w = l < count ? weight_of(l) : 0.0;
      mean[l] = T(e);
      scale[l] = T(w / (1 + e));
      if (l < count) sums.total += w * ((terms[l] + e) / (1 + e) - std::log1p(e));
    }
    for (int64_t j = 0; j < C; ++j) {
      const Vec<T> s = larger(load<T>(U + j * step), spread<T>(-1));
      store<T>(Z + j * step, load<T>(Z + j * step) * (s - load<T>(mean)) * load<T>(scale));
    }
  }

  void probabilities() {
    distribution();
    for (int64_t j = 0; j < C; ++j) write(j, load<T>(Z + j * step));
  }

  void log_probabilities() {
    const Vec<T> top = highest();
    Vec<T> total = {};
    for (int64_t j = 0; j < C; ++j) total += exp_nonpositive<T>(load<T>(Z + j * step) - top);
    const Vec<T> log_total = log_positive<T>(total);
    for (int64_t j = 0; j < C; ++j) write(j, load<T>(Z + j * step) - top - log_total);
  }

  void write(int64_t j, Vec<T> values) {
    alignas(64) T v[L];
    store<T>(v, values);
    T* out = static_cast<T*>(task.out) + row * C + j;
    for (int l = 0; l < count; ++l) out[l * C] = v[l];
  }

  void run() {
    switch (task.op) {
      case Op::value:
      case Op::gradient: return value_and_gradient();
      case Op::hessian_product: return hessian_product();
      case Op::divergence: return divergence();
      case Op::probabilities: return probabilities();
      case Op::log_probabilities: return log_probabilities();
      case Op::distribution: return distribution();
    }
  }
};

template <class T> int64_t rows_scratch(int64_t n_classes) { return 3 * n_classes * kVectorBytes; }

// Runs the task over rows begin..end of a block whose first row is `first_row`. The last rows, fewer than a
// vector, are worked on in a copy, so that nothing outside the block is touched.
template <class T>
void run_rows(const luce::RowTask& task, void* Z_, void* U_, int64_t step, int64_t first_row, int64_t begin,
              int64_t end, void* scratch, luce::RowSums& sums) {
  constexpr int L = kLanes<T>;
  const int64_t C = task.n_classes;
  T *Z = static_cast<T*>(Z_), *U = static_cast<T*>(U_), *soft = static_cast<T*>(scratch);
  int64_t i = begin;
  for (; i + L <= end && !sums.bad_index; i += L) {
    const int64_t at = i - first_row;
    Group<T>{task, sums, Z + at, U ? U + at : nullptr, step, i, L, soft}.run();
  }
  if (i == end || sums.bad_index) return;
  const int64_t at = i - first_row;
  const int count = int(end - i);
  T *copies[2] = {soft + C * L, soft + 2 * C * L}, *blocks[2] = {Z + at, U ? U + at : nullptr};
  for (int k = 0; k < 2; ++k)
    if (blocks[k])
      for (int64_t j = 0; j < C; ++j)
        for (int l = 0; l < L; ++l) copies[k][j * L + l] = l < count ? blocks[k][j * step + l] : T(0);
  Group<T>{task, sums, copies[0], copies[1], L, i, count, soft}.run();
  for (int64_t j = 0; j < C; ++j)
    for (int l = 0; l < count; ++l) Z[at + j * step + l] = copies[0][j * L + l];
}

}  // namespace
