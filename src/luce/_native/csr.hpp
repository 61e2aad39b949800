// CSR rows as they lie, and the sums over their entries that take no product.
#pragma once
#include "kernels.hpp"

namespace {

// The entries of one row, or none if the index arrays do not fit the matrix.
template <class S, class I> struct Entries {
  const S* value;
  const I* column;
  int64_t count;
};

template <class S, class I> Entries<S, I> entries(const luce::Csr& X, int64_t row, bool& bad_index) {
  const I* indptr = static_cast<const I*>(X.indptr) + row;
  const int64_t from = int64_t(indptr[0]), to = int64_t(indptr[1]);
  if (from < 0 || to < from || to > X.stored) bad_index = true;
  if (bad_index) return {nullptr, nullptr, 0};
  return {static_cast<const S*>(X.data) + from, static_cast<const I*>(X.indices) + from, to - from};
}

// f(S, I) for the types that X is stored in.
template <class F> void with_types(const luce::Csr& X, F&& f) {
  const auto with_index = [&](auto value) {
    if (X.long_index)
      f(value, int64_t{});
    else
      f(value, int32_t{});
  };
  if (X.wide)
    with_index(double{});
  else
    with_index(float{});
}

// f(row, its entries) for each row, until one names a column that is none; whether none does.
template <class S, class I, class F> bool over_rows(const luce::Csr& X, F&& f) {
  bool bad_index = false;
  for (int64_t i = 0; i < X.rows && !bad_index; ++i) {
    const Entries<S, I> x = entries<S, I>(X, i, bad_index);
    for (int64_t k = 0; k < x.count; ++k) bad_index = bad_index || uint64_t(x.column[k]) >= uint64_t(X.columns);
    if (!bad_index) f(i, x);
  }
  return !bad_index;
}

// first += w x, second += w x^2. A row may name a column twice: its entries meet in `row`, zero before and after.
template <class S, class I>
bool add_moments(const luce::Csr& X, const double* weight, double* first, double* second, double* row) {
  return over_rows<S, I>(X, [&](int64_t i, Entries<S, I> x) {
    const double w = weight ? weight[i] : 1.0;
    for (int64_t k = 0; k < x.count; ++k) row[x.column[k]] += double(x.value[k]);
    for (int64_t k = 0; k < x.count; ++k) {
      double& value = row[x.column[k]];
      first[x.column[k]] += w * value;
      second[x.column[k]] += w * value * value;
      value = 0;
    }
  });
}

// sums[column, label of the row] += w x, `n_classes` to a column.
template <class S, class I>
bool add_by_class(const luce::Csr& X, const double* weight, const int64_t* labels, int64_t n_classes, double* sums) {
  bool bad_label = false;
  const bool good = over_rows<S, I>(X, [&](int64_t i, Entries<S, I> x) {
    if (uint64_t(labels[i]) >= uint64_t(n_classes)) bad_label = true;
    const double w = weight ? weight[i] : 1.0;
    for (int64_t k = 0; k < x.count && !bad_label; ++k)
      sums[x.column[k] * n_classes + labels[i]] += w * double(x.value[k]);
  });
  return good && !bad_label;
}

// The same entries column by column, rows in order: where each column begins, and the row and value of each entry.
template <class S, class I> bool transpose(const luce::Csr& X, I* begin, I* row, S* value) {
  for (int64_t d = 0; d <= X.columns; ++d) begin[d] = 0;
  int64_t seen = 0;
  const bool good = over_rows<S, I>(X, [&](int64_t, Entries<S, I> x) {
    for (int64_t k = 0; k < x.count; ++k) ++begin[x.column[k] + 1];
    seen += x.count;
  });
  if (!good || seen > X.stored) return false;  // rows that overlap
  for (int64_t d = 0; d < X.columns; ++d) begin[d + 1] += begin[d];
  over_rows<S, I>(X, [&](int64_t i, Entries<S, I> x) {
    for (int64_t k = 0; k < x.count; ++k) {
      const I at = begin[x.column[k]]++;
      row[at] = I(i);
      value[at] = x.value[k];
    }
  });
  for (int64_t d = X.columns; d > 0; --d) begin[d] = begin[d - 1];
  begin[0] = 0;
  return true;
}

}  // namespace
