// What the module and the variants (one per instruction set) tell each other: plain data only.
#pragma once
#include <cstdint>

namespace luce {

// Element (i, j) is data[i * row_step + j * column_step]; float64 if `wide`, else float32.
struct Matrix {
  const void* data = nullptr;
  bool wide = false;
  int64_t rows = 0, columns = 0, row_step = 0, column_step = 0;
};

// Row i holds entries indptr[i] to indptr[i + 1]; both index arrays are int64 if `long_index`, else int32.
struct Csr {
  const void *data = nullptr, *indices = nullptr, *indptr = nullptr;
  bool wide = false, long_index = false;
  int64_t rows = 0, columns = 0, stored = 0;
};

// `distribution` leaves P in the place of the scores.
enum class Op { value, gradient, hessian_product, divergence, probabilities, log_probabilities, distribution };

// What is done to the scores of each row. P = softmax(Z), w the weights (null for ones).
struct RowTask {
  Op op = Op::value;
  int64_t n_classes = 0;
  const int64_t* labels = nullptr;  // or `soft`, an (N, C) matrix of float64; value and gradient only
  Matrix soft;
  const double* weight = nullptr;
  double smoothing = 0;
  void* out = nullptr;  // (N, C) of the compute type; probabilities only
};

struct RowSums {
  double total = 0;        // the loss or the divergence
  bool bad_index = false;  // a label that is no class, or a column that is no feature
};

inline bool needs_direction(Op op) { return op == Op::hessian_product || op == Op::divergence; }
inline bool has_gradient(Op op) { return op == Op::gradient || needs_direction(op); }

// One thread's part of a pass over dense rows. Scores are X W + b (and X V + c beneath them, for the
// operations that need a direction): `n_heads` columns in all, C or 2 C.
struct DensePart {
  const RowTask* task;
  Matrix X;
  const void* coefficients;  // n_heads rows of `padded_features`: W^T, then b, then zeros; the compute type
  int64_t n_heads, begin, end;
  double* gradient;  // C rows of `padded_features`, added to: dW^T, then db
  RowSums sums;
  bool (*stop)(void*);  // asked between tiles
  void* stop_argument;
  void* scratch;  // `dense_scratch` bytes, aligned to 64
};

constexpr int64_t kReadBeyond = 64;  // numbers, 8 of the widest vectors of double

// One thread's part of a pass over CSR rows, in two steps: rows to residuals, residuals to the gradient.
struct SparsePart {
  const RowTask* task;
  Csr X;
  // (D, C) and (C,) of the compute type, V and c where a direction is needed. Rows of W and V are `width` apart,
  // at least a vector; one may be read beyond the end of b and c. If there are scores (rows, C), X W + b is not
  // computed.
  const void *W, *b, *V, *c, *scores;
  int64_t width;
  int64_t begin, end;
  void* residuals;   // (end - begin, C) of the compute type and kReadBeyond more; null if there is no gradient
  double* gradient;  // D + 1 rows of C, `gradient_step` apart, the last one db; added to
  int64_t gradient_step;
  RowSums sums;
  void* scratch;  // `sparse_scratch` bytes, aligned to 64
};

// Numbers side by side; float64 if `wide`, else float32.
struct Vector {
  const void* data = nullptr;
  bool wide = false;
};

// out = (G - centre last^T) R / (e a^T + reg) R^T, row by row, and pull += centre^T out. All but G are of the
// compute type; R and R^T have rows of `step`, whole vectors, zeros behind.
struct Mixing {
  Vector G;  // its rows
  int64_t n_classes, step;
  const void *e, *centre, *last, *R, *RT, *a;
  double reg;
  void* out;
};

// The kernels for one instruction set and one compute type.
struct Kernels {
  int64_t (*padded_features)(int64_t n_features);
  int64_t (*dense_scratch)(const DensePart&);
  void (*dense)(DensePart&);
  int64_t (*hessian_scratch)(const DensePart&);
  void (*hessian)(DensePart&, double* H, int64_t first_pair, int64_t last_pair);
  int64_t (*sparse_scratch)(int64_t n_classes, int64_t n_heads);
  void (*sparse_rows)(SparsePart&);
  void (*sparse_gradient)(const SparsePart&, int64_t first_column, int64_t last_column);
  // The same from the transpose of X, as fast as it can be read; entries of a column lie in the order of rows.
  void (*sparse_columns)(const SparsePart&, const Csr& columns, int64_t first_column, int64_t last_column);
  int64_t (*rows_scratch)(int64_t n_classes);
  // Rows begin..end of a block of scores, in place: class j of row i at Z[j * step + i - first_row].
  void (*rows)(const RowTask&, void* Z, void* U, int64_t step, int64_t first_row, int64_t begin, int64_t end,
               void* scratch, RowSums&);
  int64_t (*mix_scratch)(int64_t step);
  void (*mix)(const Mixing&, int64_t first_row, int64_t last_row, double* pull, void* scratch);
};

struct Combination {
  void* out;
  bool wide;  // of `out`
  const Vector* x;
  const double* factor;
  int64_t count;
};

struct Products {
  const Vector *a, *b;
  int64_t n_a, n_b;
};

struct Variant {
  const char* name;
  Kernels of_float, of_double;
  void (*combine)(const Combination&, int64_t begin, int64_t end);
  int64_t (*products_scratch)(const Products&);
  void (*products)(const Products&, int64_t begin, int64_t end, double* sums, void* scratch);
};

extern const Variant baseline;
#if LUCE_X86_VARIANTS
extern const Variant avx2, avx512;
#endif

}  // namespace luce
