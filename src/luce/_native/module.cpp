// The Python face of the kernels: arrays in, threads, signals. No arithmetic.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <vector>

#include "csr.hpp"

namespace nb = nanobind;
using namespace luce;

namespace {

using AnyMatrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using Labels = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Block = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Gradients = nb::ndarray<double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// The widest variant first.
std::vector<const Variant*> runnable() {
  std::vector<const Variant*> found;
#if LUCE_X86_VARIANTS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) found.push_back(&avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2);
#endif
  found.push_back(&baseline);
  return found;
}

const Variant* chosen = nullptr;

bool is_wide(nb::dlpack::dtype type) {
  if (type == nb::dtype<double>()) return true;
  if (type == nb::dtype<float>()) return false;
  throw nb::type_error("expected float32 or float64");
}

template <class Array> Matrix matrix_of(const Array& a) {
  return {a.data(), is_wide(a.dtype()), int64_t(a.shape(0)), int64_t(a.shape(1)), a.stride(0), a.stride(1)};
}

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// The memory of one thread, aligned for the widest vectors.
using Scratch = std::unique_ptr<std::byte[], void (*)(std::byte*)>;
Scratch allocate(int64_t bytes) {
  constexpr std::align_val_t line{64};
  return {new (line) std::byte[size_t(bytes) + 64], [](std::byte* p) { operator delete[](p, line); }};
}

// Lets Ctrl-C end a pass between two tiles: the calling thread looks for signals ten times a second.
class Interrupt {
  std::atomic<bool> raised{false};
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();

 public:
  static bool seen(void* self) { return static_cast<Interrupt*>(self)->raised.load(std::memory_order_relaxed); }
  static bool look(void* self_) {
    auto* self = static_cast<Interrupt*>(self_);
    const auto now = std::chrono::steady_clock::now();
    if (now - self->last > std::chrono::milliseconds(100)) {
      self->last = now;
      nb::gil_scoped_acquire gil;
      if (PyErr_CheckSignals() != 0) self->raised = true;
    }
    return seen(self);
  }
  void rethrow() const {
    if (raised) throw nb::python_error();
  }
};

// Calls work(0) .. work(n - 1) at once. Threads live only as long as the call: nothing to mend after a fork.
void in_threads(int n, const std::function<void(int)>& work) {
  std::vector<std::thread> others;
  int started = 1;
  try {
    for (; started < n; ++started) others.emplace_back(work, started);
  } catch (const std::system_error&) {  // no more threads to be had
  }
  work(0);
  for (int t = started; t < n; ++t) work(t);
  for (std::thread& thread : others) thread.join();
}

// Rows of part t of n; whole vectors in every part but the last.
int64_t boundary(int64_t rows, int t, int n) { return t == n ? rows : rows * t / n / 16 * 16; }

const double* weights_of(const std::optional<Weights>& weight, int64_t n_rows) {
  require(!weight || int64_t(weight->shape(0)) == n_rows, "weights and rows differ in number");
  return weight ? weight->data() : nullptr;
}

RowTask row_task(int op, int64_t n_classes, int64_t n_rows, const std::optional<Labels>& labels,
                 const std::optional<AnyMatrix>& soft, const std::optional<Weights>& weight, double smoothing) {
  RowTask task;
  task.op = Op(op);
  task.n_classes = n_classes;
  task.smoothing = smoothing;
  if (labels) {
    require(int64_t(labels->shape(0)) == n_rows, "labels and rows differ in number");
    task.labels = labels->data();
  }
  if (soft) {
    task.soft = matrix_of(*soft);
    require(task.soft.rows == n_rows && task.soft.columns == n_classes, "soft labels are (N, C)");
  }
  task.weight = weights_of(weight, n_rows);
  require((task.op != Op::value && task.op != Op::gradient) || labels || soft, "the loss needs labels");
  return task;
}

void* out_of(const Block& out, bool wide, int64_t n_rows, int64_t n_classes) {
  require(is_wide(out.dtype()) == wide && int64_t(out.shape(0)) == n_rows && int64_t(out.shape(1)) == n_classes,
          "out is (N, C) of the compute type");
  return out.data();
}

const char* const kBadIndex = "a label is not one of the classes, or a column index not one of the features";

double collect(const std::vector<RowSums>& sums) {
  RowSums all;
  for (const RowSums& s : sums) {
    all.total += s.total;
    all.bad_index = all.bad_index || s.bad_index;
  }
  require(!all.bad_index, kBadIndex);
  return all.total;
}

double dense(int op, AnyMatrix X, Block coefficients, int64_t n_classes,
                                 std::optional<Labels> labels, std::optional<AnyMatrix> soft,
                                 std::optional<Weights> weight, double smoothing,
                                 std::optional<Gradients> gradient, std::optional<Block> out, int n_threads) {
  const Matrix x = matrix_of(X);
  RowTask task = row_task(op, n_classes, x.rows, labels, soft, weight, smoothing);
  const bool wide = is_wide(coefficients.dtype());
  const Kernels& kernels = wide ? chosen->of_double : chosen->of_float;
  const int64_t padded = kernels.padded_features(x.columns);
  const int64_t heads = n_classes * (needs_direction(task.op) ? 2 : 1);
  require(n_threads >= 1 && n_classes >= 1, "n_threads and n_classes are at least 1");
  require(int64_t(coefficients.shape(0)) == heads && int64_t(coefficients.shape(1)) == padded,
          "coefficients are (heads, padded features)");
  require(has_gradient(task.op) == gradient.has_value(), "this operation has or has not a gradient");
  if (gradient)
    require(int(gradient->shape(0)) == n_threads && int64_t(gradient->shape(1)) == n_classes &&
                int64_t(gradient->shape(2)) == padded,
            "gradient is (threads, C, padded features)");
  if (out) task.out = out_of(*out, wide, x.rows, n_classes);
  std::vector<RowSums> sums(static_cast<size_t>(n_threads));
  Interrupt interrupt;
  {
    nb::gil_scoped_release release;
    in_threads(n_threads, [&](int t) {
      DensePart part{&task,
                     x,
                     coefficients.data(),
                     heads,
                     boundary(x.rows, t, n_threads),
                     boundary(x.rows, t + 1, n_threads),
                     gradient ? gradient->data() + t * n_classes * padded : nullptr,
                     {},
                     t == 0 ? Interrupt::look : Interrupt::seen,
                     &interrupt,
                     nullptr};
      const Scratch scratch = allocate(kernels.dense_scratch(part));
      part.scratch = scratch.get();
      kernels.dense(part);
      sums[size_t(t)] = part.sums;
    });
  }
  interrupt.rethrow();
  return collect(sums);
}

using Blocks = nb::ndarray<double, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

void hessian(AnyMatrix X, Block coefficients, int64_t n_classes, std::optional<Weights> weight, Blocks H,
             int n_threads) {
  const Matrix x = matrix_of(X);
  const RowTask task = row_task(int(Op::distribution), n_classes, x.rows, {}, {}, weight, 0);
  const Kernels& kernels = is_wide(coefficients.dtype()) ? chosen->of_double : chosen->of_float;
  require(n_threads >= 1 && n_classes >= 1, "n_threads and n_classes are at least 1");
  require(int64_t(coefficients.shape(0)) == n_classes &&
              int64_t(coefficients.shape(1)) == kernels.padded_features(x.columns),
          "coefficients are (C, padded features)");
  for (size_t axis = 0; axis < 4; ++axis)
    require(int64_t(H.shape(axis)) == (axis % 2 ? x.columns + 1 : n_classes), "H is (C, D + 1, C, D + 1)");
  const int64_t pairs = n_classes * (n_classes + 1) / 2;
  Interrupt interrupt;
  {
    nb::gil_scoped_release release;
    in_threads(n_threads, [&](int t) {
      DensePart part{&task,   x,  coefficients.data(), n_classes, 0, x.rows, nullptr, {},
                     t == 0 ? Interrupt::look : Interrupt::seen, &interrupt, nullptr};
      const Scratch scratch = allocate(kernels.hessian_scratch(part));
      part.scratch = scratch.get();
      kernels.hessian(part, H.data(), pairs * t / n_threads, pairs * (t + 1) / n_threads);
    });
  }
  interrupt.rethrow();
}

using Flat = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Dense2 = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kWhole = 8;              // doubles in the widest vector
constexpr int64_t kSpareBytes = 32 << 20;  // for gradients of single threads, and for residuals

Csr csr_of(const Flat& data, const Flat& indices, const Flat& indptr, int64_t n_features) {
  Csr X;
  X.wide = is_wide(data.dtype());
  X.long_index = indices.dtype() == nb::dtype<int64_t>();
  require(indices.dtype() == indptr.dtype() && (X.long_index || indices.dtype() == nb::dtype<int32_t>()),
          "indices and indptr are both int32 or both int64");
  require(indptr.shape(0) >= 1 && data.shape(0) == indices.shape(0), "data, indices and indptr do not fit");
  X.data = data.data();
  X.indices = indices.data();
  X.indptr = indptr.data();
  X.rows = int64_t(indptr.shape(0)) - 1;
  X.columns = n_features;
  X.stored = int64_t(data.shape(0));
  return X;
}

// Column bounds that give every thread about as many entries, from a sample of them.
std::vector<int64_t> column_bounds(const Csr& X, int n_threads) {
  std::vector<int64_t> counts(size_t(X.columns) + 1, 1);
  with_types(X, [&](auto, auto index) {
    const auto* indices = static_cast<const decltype(index)*>(X.indices);
    for (int64_t k = 0; k < X.stored; k += X.stored / (1 << 20) + 1)
      if (uint64_t(indices[k]) < uint64_t(X.columns)) ++counts[size_t(indices[k])];
  });
  int64_t all = 0, seen = 0;
  for (int64_t n : counts) all += n;
  std::vector<int64_t> bounds{0};
  for (int64_t d = 0; d < X.columns; ++d) {
    seen += counts[size_t(d)];
    if (seen * n_threads >= all * int64_t(bounds.size()) && int(bounds.size()) < n_threads) bounds.push_back(d + 1);
  }
  bounds.resize(size_t(n_threads) + 1, X.columns + 1);
  return bounds;
}

// Column bounds that give every thread about as many entries, from the columns themselves.
std::vector<int64_t> column_shares(const Csr& columns, int n_threads) {
  std::vector<int64_t> bounds{0};
  with_types(columns, [&](auto, auto index) {
    const auto* begin = static_cast<const decltype(index)*>(columns.indptr);
    for (int t = 1; t < n_threads; ++t)
      bounds.push_back(std::lower_bound(begin, begin + columns.rows, columns.stored * t / n_threads) - begin);
  });
  bounds.push_back(columns.rows + 1);
  return bounds;
}

double sparse(int op, Flat data, Flat indices, Flat indptr, int64_t n_features, Block W, Flat b,
                                  std::optional<Block> V, std::optional<Flat> c, int64_t n_classes,
                                  std::optional<Labels> labels, std::optional<AnyMatrix> soft,
                                  std::optional<Weights> weight, double smoothing,
                                  std::optional<Dense2> gradient, std::optional<Block> out, int n_threads,
                                  std::optional<std::tuple<Flat, Flat, Flat>> transposed, std::optional<Block> scores) {
  const Csr X = csr_of(data, indices, indptr, n_features);
  RowTask task = row_task(op, n_classes, X.rows, labels, soft, weight, smoothing);
  const bool wide = is_wide(W.dtype());
  const Kernels& kernels = wide ? chosen->of_double : chosen->of_float;
  const int64_t width = wide ? 8 : 4, lanes = 64 / width;
  require(n_threads >= 1 && n_classes >= 1, "n_threads and n_classes are at least 1");
  require(needs_direction(task.op) == V.has_value() && V.has_value() == c.has_value(), "V and c go together");
  const int64_t row = int64_t(W.shape(1));
  for (const auto* w : {&W, V ? &*V : nullptr})
    require(!w || (w->dtype() == W.dtype() && int64_t(w->shape(0)) == n_features && int64_t(w->shape(1)) == row &&
                   row >= std::max(n_classes, lanes)),
            "W and V are (D, C), rows of at least a vector");
  for (const auto* w : {&b, c ? &*c : nullptr})
    require(!w || (w->dtype() == W.dtype() && int64_t(w->shape(0)) >= n_classes + lanes),
            "b and c are (C,), with room for a vector behind");
  require(has_gradient(task.op) == gradient.has_value(), "this operation has or has not a gradient");
  if (gradient)
    require(int64_t(gradient->shape(0)) == n_features + 1 && int64_t(gradient->shape(1)) == n_classes,
            "gradient is (D + 1, C)");
  if (out) task.out = out_of(*out, wide, X.rows, n_classes);
  if (scores)
    require(is_wide(scores->dtype()) == wide && int64_t(scores->shape(0)) == X.rows &&
                int64_t(scores->shape(1)) == n_classes,
            "scores are (N, C) of the compute type");
  std::vector<RowSums> sums(static_cast<size_t>(n_threads));
  Interrupt interrupt;
  const auto part_of = [&](int t, int64_t begin, int64_t end, void* residuals, double* into, int64_t step,
                           void* scratch) {
    return SparsePart{&task, X, W.data(), b.data(), V ? V->data() : nullptr, c ? c->data() : nullptr,
                      scores ? scores->data() : nullptr, row,
                      begin, end, residuals, into, step, sums[size_t(t)], scratch};
  };
  const int64_t padded = n_classes < kWhole ? n_classes : (n_classes + kWhole - 1) / kWhole * kWhole;
  const int64_t size = gradient ? (n_features + 1) * padded : 0, heads = n_classes * (V ? 2 : 1);
  const int64_t scratch_bytes = (kernels.sparse_scratch(n_classes, heads) + 63) / 64 * 64;
  Csr columns;
  if (transposed) {
    columns = csr_of(std::get<0>(*transposed), std::get<1>(*transposed), std::get<2>(*transposed), X.rows);
    require(columns.rows == n_features && columns.stored == X.stored, "the transpose is not that of X");
  }
  const bool own_gradients = !transposed && size * 8 * n_threads <= kSpareBytes;
  {
    nb::gil_scoped_release release;
    if (!gradient || own_gradients) {
      std::vector<Scratch> own;
      for (int t = 0; t < n_threads; ++t) own.push_back(allocate(size * 8));
      const auto of = [&](int t) { return reinterpret_cast<double*>(own[size_t(t)].get()); };
      in_threads(n_threads, [&](int t) {
        const int64_t tile = 256, last = boundary(X.rows, t + 1, n_threads);
        const Scratch scratch = allocate(scratch_bytes), residuals = allocate((tile * n_classes + kReadBeyond) * width);
        std::fill_n(of(t), size, 0.0);
        for (int64_t i = boundary(X.rows, t, n_threads); i < last; i += tile) {
          SparsePart part = part_of(t, i, std::min(i + tile, last), gradient ? residuals.get() : nullptr, of(t),
                                    padded, scratch.get());
          kernels.sparse_rows(part);
          sums[size_t(t)] = part.sums;
          if (part.sums.bad_index) return;
          if (gradient) kernels.sparse_gradient(part, 0, n_features + 1);
          if ((t == 0 ? Interrupt::look : Interrupt::seen)(&interrupt)) return;
        }
      });
      if (gradient)
        in_threads(n_threads, [&](int t) {
          const int64_t to = boundary(n_features + 1, t + 1, n_threads);
          for (int64_t d = boundary(n_features + 1, t, n_threads); d < to; ++d)
            for (int other = 0; other < n_threads; ++other) {
              const double* from = of(other) + d * padded;
              double* to_row = gradient->data() + d * n_classes;
              for (int64_t k = 0; k < n_classes; ++k) to_row[k] += from[k];
            }
        });
    } else {
      // One gradient for all: the threads share the rows of a block, then the columns of the gradient.
      const std::vector<int64_t> bounds =
          transposed ? column_shares(columns, n_threads) : column_bounds(X, n_threads);
      const int64_t block = std::max<int64_t>(16, kSpareBytes / 2 / (n_classes * width) / 16 * 16);
      const Scratch residuals = allocate((std::min(block, X.rows) * n_classes + kReadBeyond) * width);
      const Scratch scratch = allocate(scratch_bytes * n_threads);
      bool stop = false;
      for (int64_t first = 0; !stop && (first < X.rows || first == 0); first += block) {
        const int64_t n = std::min(block, X.rows - first);
        in_threads(n_threads, [&](int t) {
          const int64_t begin = boundary(n, t, n_threads), end = boundary(n, t + 1, n_threads);
          SparsePart part = part_of(t, first + begin, first + end, residuals.get() + begin * n_classes * width,
                                    nullptr, 0, scratch.get() + t * scratch_bytes);
          kernels.sparse_rows(part);
          sums[size_t(t)] = part.sums;
        });
        for (const RowSums& s : sums) stop = stop || s.bad_index;
        if (stop) break;
        in_threads(n_threads, [&](int t) {
          const SparsePart part = part_of(t, first, first + n, residuals.get(), gradient->data(), n_classes,
                                          scratch.get() + t * scratch_bytes);
          if (transposed)
            kernels.sparse_columns(part, columns, bounds[size_t(t)], bounds[size_t(t) + 1]);
          else
            kernels.sparse_gradient(part, bounds[size_t(t)], bounds[size_t(t) + 1]);
        });
        stop = Interrupt::look(&interrupt);
      }
    }
  }
  interrupt.rethrow();
  return collect(sums);
}

void sparse_moments(Flat data, Flat indices, Flat indptr, std::optional<Weights> weight, Dense2 sums) {
  const int64_t D = int64_t(sums.shape(1));
  const Csr X = csr_of(data, indices, indptr, D);
  require(sums.shape(0) == 3, "sums are (3, D)");
  const double* w = weights_of(weight, X.rows);
  bool good = false;
  {
    nb::gil_scoped_release release;
    with_types(X, [&](auto value, auto index) {
      good = add_moments<decltype(value), decltype(index)>(X, w, sums.data(), sums.data() + D, sums.data() + 2 * D);
    });
  }
  require(good, kBadIndex);
}

using FlatOut = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void sparse_transpose(Flat data, Flat indices, Flat indptr, FlatOut out_data, FlatOut out_indices,
                      FlatOut out_indptr) {
  require(out_indptr.shape(0) >= 1 && out_data.shape(0) == data.shape(0) && out_indices.shape(0) == data.shape(0) &&
              out_data.dtype() == data.dtype() && out_indices.dtype() == indices.dtype() &&
              out_indptr.dtype() == indices.dtype(),
          "the transpose is like X");
  const Csr X = csr_of(data, indices, indptr, int64_t(out_indptr.shape(0)) - 1);
  bool good = false;
  {
    nb::gil_scoped_release release;
    with_types(X, [&](auto value, auto index) {
      using S = decltype(value);
      using I = decltype(index);
      good = transpose<S, I>(X, static_cast<I*>(out_indptr.data()), static_cast<I*>(out_indices.data()),
                             static_cast<S*>(out_data.data()));
    });
  }
  require(good, kBadIndex);
}

void sparse_class_sums(Flat data, Flat indices, Flat indptr, Labels labels, std::optional<Weights> weight,
                       Dense2 sums) {
  const Csr X = csr_of(data, indices, indptr, int64_t(sums.shape(0)));
  require(int64_t(labels.shape(0)) == X.rows, "labels and rows differ in number");
  const double* w = weights_of(weight, X.rows);
  bool good = false;
  {
    nb::gil_scoped_release release;
    with_types(X, [&](auto value, auto index) {
      good = add_by_class<decltype(value), decltype(index)>(X, w, labels.data(), int64_t(sums.shape(1)), sums.data());
    });
  }
  require(good, kBadIndex);
}

// Rows first_row.. of scores that lie class by class: Z is (heads, rows), used up.
double rows(int op, nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> Z, int64_t n_classes,
                                int64_t first_row, int64_t n_rows, std::optional<Labels> labels,
                                std::optional<AnyMatrix> soft, std::optional<Weights> weight, double smoothing,
            std::optional<Block> out, int n_threads) {
  RowTask task = row_task(op, n_classes, n_rows, labels, soft, weight, smoothing);
  const bool wide = is_wide(Z.dtype());
  const Kernels& kernels = wide ? chosen->of_double : chosen->of_float;
  const int64_t heads = n_classes * (needs_direction(task.op) ? 2 : 1), n = int64_t(Z.shape(1));
  require(n_threads >= 1 && n_classes >= 1, "n_threads and n_classes are at least 1");
  require(int64_t(Z.shape(0)) == heads && first_row >= 0 && first_row + n <= n_rows, "Z is (heads, rows)");
  if (out) task.out = out_of(*out, wide, n_rows, n_classes);
  std::byte* scores = static_cast<std::byte*>(Z.data());
  std::vector<RowSums> sums(static_cast<size_t>(n_threads));
  {
    nb::gil_scoped_release release;
    in_threads(n_threads, [&](int t) {
      const Scratch scratch = allocate(kernels.rows_scratch(n_classes));
      kernels.rows(task, scores, heads > n_classes ? scores + n_classes * n * (wide ? 8 : 4) : nullptr, n, first_row,
                   first_row + boundary(n, t, n_threads), first_row + boundary(n, t + 1, n_threads), scratch.get(),
                   sums[size_t(t)]);
    });
  }
  return collect(sums);
}

std::vector<Vector> vectors_of(const std::vector<Flat>& arrays, size_t size) {
  std::vector<Vector> found;
  for (const Flat& array : arrays) {
    require(array.shape(0) == size, "vectors differ in length");
    found.push_back({array.data(), is_wide(array.dtype())});
  }
  return found;
}

void combine(FlatOut out, const std::vector<double>& factors, const std::vector<Flat>& arrays, int n_threads) {
  const int64_t size = int64_t(out.shape(0));
  const std::vector<Vector> x = vectors_of(arrays, size_t(size));
  require(factors.size() == x.size(), "as many factors as vectors");
  require(n_threads >= 1, "n_threads is at least 1");
  const Combination task{out.data(), is_wide(out.dtype()), x.data(), factors.data(), int64_t(x.size())};
  nb::gil_scoped_release release;
  in_threads(n_threads,
             [&](int t) { chosen->combine(task, boundary(size, t, n_threads), boundary(size, t + 1, n_threads)); });
}

void products(const std::vector<Flat>& first, const std::vector<Flat>& second, Dense2 out, int n_threads) {
  require(!first.empty() && !second.empty() && n_threads >= 1, "there are vectors, and n_threads is at least 1");
  require(out.shape(0) == first.size() && out.shape(1) == second.size(), "out is (first, second)");
  const size_t size = first[0].shape(0), count = first.size() * second.size();
  const std::vector<Vector> a = vectors_of(first, size), b = vectors_of(second, size);
  const Products task{a.data(), b.data(), int64_t(a.size()), int64_t(b.size())};
  nb::gil_scoped_release release;
  std::vector<double> sums(count * size_t(n_threads));
  in_threads(n_threads, [&](int t) {
    const int64_t n = int64_t(size);
    const Scratch scratch = allocate(chosen->products_scratch(task));
    chosen->products(task, boundary(n, t, n_threads), boundary(n, t + 1, n_threads), sums.data() + size_t(t) * count,
                     scratch.get());
  });
  std::fill_n(out.data(), count, 0.0);
  for (size_t k = 0; k < sums.size(); ++k) out.data()[k % count] += sums[k];
}

using Rows = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void mix(Rows G, Flat e, Flat centre, Flat last, Block R, Block RT, Flat a, double reg, Block out, Dense2 pull) {
  const bool wide = is_wide(out.dtype());
  const Kernels& kernels = wide ? chosen->of_double : chosen->of_float;
  const size_t rows = out.shape(0), n_classes = out.shape(1), n_threads = pull.shape(0);
  require(n_classes >= 1 && n_threads >= 1, "there are classes and threads");
  for (const Flat* array : {&e, &centre, &last, &a}) {
    require(is_wide(array->dtype()) == wide, "all but G are of one type");
    require(array->shape(0) == (array == &e || array == &centre ? rows : n_classes), "vectors do not fit out");
  }
  const size_t step = R.shape(1);
  for (const Block* matrix : {&R, &RT}) {
    require(is_wide(matrix->dtype()) == wide, "all but G are of one type");
    require(matrix->shape(0) == n_classes && matrix->shape(1) == step && step >= n_classes && step % 16 == 0,
            "R is (C, C), rows padded to whole vectors");
  }
  require(G.shape(0) == rows && G.shape(1) == n_classes && pull.shape(1) == n_classes, "G or pull does not fit out");
  const Mixing task{{G.data(), is_wide(G.dtype())}, int64_t(n_classes), int64_t(step), e.data(), centre.data(), last.data(),
                    R.data(), RT.data(), a.data(), reg, out.data()};
  nb::gil_scoped_release release;
  in_threads(int(n_threads), [&](int t) {
    const Scratch scratch = allocate(kernels.mix_scratch(int64_t(step)));
    const int64_t n = int64_t(rows);
    kernels.mix(task, boundary(n, t, int(n_threads)), boundary(n, t + 1, int(n_threads)),
                pull.data() + size_t(t) * n_classes, scratch.get());
  });
}

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const Variant* v : runnable()) names.emplace_back(v->name);
  return names;
}

void use(const std::string& name) {
  for (const Variant* v : runnable())
    if (name == v->name) {
      chosen = v;
      return;
    }
  throw std::invalid_argument("this machine cannot run the kernels named " + name);
}

int64_t padded_features(int64_t n_features, bool wide) {
  return (wide ? chosen->of_double : chosen->of_float).padded_features(n_features);
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "Kernels of the softmax loss.";
  chosen = runnable().front();
  m.def("variants", variants, "Names of the variants that this machine can run, the widest first.");
  m.def("use", use, nb::arg("name"), "Use this variant from now on.");
  m.def("padded_features", padded_features, nb::arg("n_features"), nb::arg("wide"),
        "Columns of `coefficients` and `gradient`: the features, the intercept and zeros.");
  m.def("dense", dense, nb::arg("op"), nb::arg("X"), nb::arg("coefficients"), nb::arg("n_classes"),
        nb::arg("labels").none(), nb::arg("soft").none(), nb::arg("weight").none(), nb::arg("smoothing"),
        nb::arg("gradient").noconvert().none(), nb::arg("out").noconvert().none(),
        nb::arg("n_threads"),
        "One pass over dense rows: return the total, add to gradient or write to out.");
  m.def("sparse", sparse, nb::arg("op"), nb::arg("data"), nb::arg("indices"), nb::arg("indptr"),
        nb::arg("n_features"), nb::arg("W"), nb::arg("b"), nb::arg("V").none(), nb::arg("c").none(),
        nb::arg("n_classes"), nb::arg("labels").none(), nb::arg("soft").none(), nb::arg("weight").none(),
        nb::arg("smoothing"), nb::arg("gradient").noconvert().none(),
        nb::arg("out").noconvert().none(), nb::arg("n_threads"), nb::arg("transposed").none(),
        nb::arg("scores").noconvert().none(),
        "The same over CSR rows; sooner from the transpose, see `transpose`, and where X W + b is known.");
  m.def("transpose", sparse_transpose, nb::arg("data"), nb::arg("indices"), nb::arg("indptr"),
        nb::arg("out_data").noconvert(), nb::arg("out_indices").noconvert(), nb::arg("out_indptr").noconvert(),
        "Write the transpose of CSR (N, D) as CSR, each row's entries in order.");
  m.def("sparse_moments", sparse_moments, nb::arg("data"), nb::arg("indices"), nb::arg("indptr"),
        nb::arg("weight").none(), nb::arg("sums").noconvert(),
        "Add the weighted sums of x and of x * x over CSR rows to rows of sums (3, D); the last must be zero.");
  m.def("sparse_class_sums", sparse_class_sums, nb::arg("data"), nb::arg("indices"), nb::arg("indptr"),
        nb::arg("labels"), nb::arg("weight").none(), nb::arg("sums").noconvert(),
        "Add the weighted sum of x over the CSR rows of each class to sums (D, C).");
  m.def("rows", rows, nb::arg("op"), nb::arg("Z").noconvert(), nb::arg("n_classes"), nb::arg("first_row"),
        nb::arg("n_rows"), nb::arg("labels").none(), nb::arg("soft").none(), nb::arg("weight").none(),
        nb::arg("smoothing"), nb::arg("out").noconvert().none(), nb::arg("n_threads"),
        "The part of a pass between the two products, in place, over scores (heads, rows).");
  m.def("hessian", hessian, nb::arg("X"), nb::arg("coefficients"), nb::arg("n_classes"),
        nb::arg("weight").none(), nb::arg("H").noconvert(), nb::arg("n_threads"),
        "Add the Hessian to H (C, D + 1, C, D + 1): blocks j >= k, the lower triangle of each.");
  m.def("mix", mix, nb::arg("G"), nb::arg("e"), nb::arg("centre"), nb::arg("last"), nb::arg("R"), nb::arg("RT"),
        nb::arg("a"), nb::arg("reg"), nb::arg("out").noconvert(), nb::arg("pull").noconvert(),
        "Write (G - centre last^T) R / (e a^T + reg) R^T to out (D, C), and add centre^T out to the rows of pull.");
  m.def("combine", combine, nb::arg("out").noconvert(), nb::arg("factors"), nb::arg("arrays"), nb::arg("n_threads"),
        "Write a sum of multiples of vectors to out, which may be one of them.");
  m.def("products", products, nb::arg("first"), nb::arg("second"), nb::arg("out").noconvert(), nb::arg("n_threads"),
        "Write the inner products of each of the first vectors with each of the second to out.");
}
