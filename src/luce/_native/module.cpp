// The Python face of the kernels: arrays in, threads, signals. No arithmetic.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels.hpp"

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

RowTask row_task(int op, int64_t n_classes, int64_t n_rows, const std::optional<Labels>& labels,
                 const std::optional<AnyMatrix>& soft, const std::optional<Weights>& weight, double smoothing,
                 double step) {
  RowTask task;
  task.op = Op(op);
  task.n_classes = n_classes;
  task.smoothing = smoothing;
  task.step = step;
  if (labels) {
    require(int64_t(labels->shape(0)) == n_rows, "labels and rows differ in number");
    task.labels = labels->data();
  }
  if (soft) {
    task.soft = matrix_of(*soft);
    require(task.soft.rows == n_rows && task.soft.columns == n_classes, "soft labels are (N, C)");
  }
  if (weight) {
    require(int64_t(weight->shape(0)) == n_rows, "weights and rows differ in number");
    task.weight = weight->data();
  }
  require((task.op != Op::value && task.op != Op::gradient) || labels || soft, "the loss needs labels");
  return task;
}

std::tuple<double, double> collect(const std::vector<RowSums>& sums) {
  RowSums all;
  for (const RowSums& s : sums) {
    all.total += s.total;
    if (s.least < all.least) all.least = s.least;
    all.bad_index = all.bad_index || s.bad_index;
  }
  require(!all.bad_index, "a label is not one of the classes, or a column index not one of the features");
  return {all.total, all.least};
}

std::tuple<double, double> dense(int op, AnyMatrix X, Block coefficients, int64_t n_classes,
                                 std::optional<Labels> labels, std::optional<AnyMatrix> soft,
                                 std::optional<Weights> weight, double smoothing, double step,
                                 std::optional<Gradients> gradient, std::optional<Block> out, int n_threads) {
  const Matrix x = matrix_of(X);
  RowTask task = row_task(op, n_classes, x.rows, labels, soft, weight, smoothing, step);
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
  if (out) {
    require(is_wide(out->dtype()) == wide && int64_t(out->shape(0)) == x.rows &&
                int64_t(out->shape(1)) == n_classes,
            "out is (N, C) of the type of the coefficients");
    task.out = out->data();
  }
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
        nb::arg("step"), nb::arg("gradient").noconvert().none(), nb::arg("out").noconvert().none(),
        nb::arg("n_threads"),
        "One pass over dense rows: return (total, least), add to gradient or write to out.");
}
