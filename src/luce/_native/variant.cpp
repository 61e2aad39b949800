// The kernels for one instruction set: this file is compiled once for each, with LUCE_VARIANT its name.
#include <type_traits>

#include "hessian.hpp"
#include "mixing.hpp"
#include "sparse.hpp"
#include "vectors.hpp"

namespace {
template <class T> constexpr luce::Kernels kernels_of() {
  return {padded_features<T>, dense_scratch<T>, dense<T>,           hessian_scratch<T>, hessian<T>,
          sparse_scratch<T>,  sparse_rows<T>,   sparse_gradient<T>, sparse_columns<T>, rows_scratch<T>,    run_rows<T>,
          mix_scratch<T>,     mix_rows<T>};
}
}  // namespace

#define LUCE_TEXT_(name) #name
#define LUCE_TEXT(name) LUCE_TEXT_(name)
const luce::Variant luce::LUCE_VARIANT = {LUCE_TEXT(LUCE_VARIANT), kernels_of<float>(), kernels_of<double>(), combine,
                                          products_scratch, products};
