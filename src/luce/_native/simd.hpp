// Vectors as wide as the instruction set this file is compiled for, and the few functions made of them.
//
// Everything here lives in an anonymous namespace: each variant is compiled with its own -m flags, and
// the linker must never replace one variant's code by another's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

// Sums of kAccumulators vectors are kept in registers, beside the numbers that they are made of.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kAccumulators = 24, kInnerClasses = 6, kOuterClasses = 12;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kAccumulators = 12, kInnerClasses = 4, kOuterClasses = 6;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kAccumulators = 24, kInnerClasses = 6, kOuterClasses = 12;
#else
constexpr int kVectorBytes = 16, kAccumulators = 12, kInnerClasses = 4, kOuterClasses = 6;
#endif

template <class T> struct Simd;

// `Loose` may lie anywhere in memory. Loads through memcpy instead make GCC 12 spill accumulators.
template <> struct Simd<float> {
  static constexpr int lanes = kVectorBytes / 4;
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
  typedef float Loose __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef double Source __attribute__((vector_size(kVectorBytes * 2), aligned(8), may_alias));
  static constexpr int mantissa_bits = 23, exponent_bias = 127, exp_terms = 7, log_terms = 5;
  static constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, exp_floor = -87.3f;
};

template <> struct Simd<double> {
  static constexpr int lanes = kVectorBytes / 8;
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
  typedef double Loose __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef float Source __attribute__((vector_size(kVectorBytes / 2), aligned(4), may_alias));
  static constexpr int mantissa_bits = 52, exponent_bias = 1023, exp_terms = 13, log_terms = 11;
  static constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_floor = -708.3;
};

template <class T> using Vec = typename Simd<T>::Vec;
template <class T> constexpr int kLanes = Simd<T>::lanes;

template <class T> inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::Loose*>(p);
}
template <class T> inline void store(T* p, Vec<T> v) { *reinterpret_cast<typename Simd<T>::Loose*>(p) = v; }
template <class T> inline Vec<T> spread(T x) { return x - Vec<T>{}; }  // -: keeps -0.0

// A vector of T read from an array of T or of the other floating type.
template <class T, class S> inline Vec<T> load_as(const S* p) {
  if constexpr (std::is_same_v<T, S>)
    return load<T>(p);
  else
    return __builtin_convertvector(*reinterpret_cast<const typename Simd<T>::Source*>(p), Vec<T>);
}

template <class V> inline V larger(V a, V b) { return a > b ? a : b; }
template <class V> inline V smaller(V a, V b) { return a < b ? a : b; }

template <class T> struct Factorials {
  T inverse[16];
  constexpr Factorials() : inverse{} {
    double f = 1;
    for (int k = 0; k < 16; ++k) {
      inverse[k] = T(1 / f);
      f *= k + 1;
    }
  }
};

// exp(x) for x <= 0 to about one unit in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor in r.
// Below the smallest normal number it is 0; NaN stays NaN.
template <class T> inline Vec<T> exp_nonpositive(Vec<T> x) {
  using F = Simd<T>;
  static constexpr Factorials<T> table;
  const Vec<T> floor = spread<T>(F::exp_floor);
  const Vec<T> y = x < floor ? floor : x;
  const Vec<T> shifted = y * T(1.44269504088896340736) + F::rounder;
  const Vec<T> n = shifted - F::rounder;
  const Vec<T> r = (y - n * F::ln2_high) - n * F::ln2_low;
  Vec<T> p = spread<T>(table.inverse[F::exp_terms]);
  for (int k = F::exp_terms - 1; k >= 0; --k) p = p * r + table.inverse[k];
  const typename F::Int bits = (typename F::Int)shifted + F::exponent_bias;
  const Vec<T> power = (Vec<T>)(bits << F::mantissa_bits);
  return x < floor ? Vec<T>{} : p * power;
}

// log(x) for normal x > 0: x = 2^n m, m in [0.7, 1.4], log m = 2 atanh((m - 1) / (m + 1)). Infinity and
// NaN stay what they are.
template <class T> inline Vec<T> log_positive(Vec<T> x) {
  using F = Simd<T>;
  using Int = typename F::Int;
  constexpr auto one = decltype(Int{}[0] + 0)(F::exponent_bias);
  const Int bits = (Int)x;
  const Int mantissa = bits & ((decltype(one)(1) << F::mantissa_bits) - 1);
  const Vec<T> m = (Vec<T>)(mantissa | (one << F::mantissa_bits));
  const auto big = m > T(1.41421356237309504880);
  const Vec<T> scaled = big ? m * T(0.5) : m;
  const Vec<T> n = __builtin_convertvector((bits >> F::mantissa_bits) - one, Vec<T>) + (big ? spread<T>(1) : Vec<T>{});
  const Vec<T> s = (scaled - 1) / (scaled + 1), square = s * s;
  Vec<T> p = spread<T>(T(1) / (2 * F::log_terms + 1));
  for (int k = F::log_terms - 1; k > 0; --k) p = p * square + T(1.0 / (2 * k + 1));
  const Vec<T> result = n * F::ln2_high + (n * F::ln2_low + (2 * s + 2 * s * square * p));
  return x - x == 0 ? result : x;
}

// combine<half>(a, b): adds the two halves of each run of 2 * half lanes, and sets a's sums beside b's.
template <int half, class V, int... I> inline V combine(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, ((I / half) % 2 ? I - half + n : I)...) +
         __builtin_shufflevector(a, b, ((I / half) % 2 ? I + n : I + half)...);
}

// Returns the vector whose lane i is the sum of the lanes of v[i], for v of `lanes` vectors.
template <class T, int half = kLanes<T> / 2> inline Vec<T> sums_of(Vec<T>* v) {
  if constexpr (half == 0) {
    return v[0];
  } else {
    for (int i = 0; i < half; ++i)
      v[i] = combine<half>(v[i], v[i + half], std::make_integer_sequence<int, kLanes<T>>{});
    return sums_of<T, half / 2>(v);
  }
}

template <int half, int which, class V, int... I>
inline V exchange(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (which == 0 ? ((I / half) % 2 ? I - half + n : I)
                                                   : ((I / half) % 2 ? I + n : I + half))...);
}

// Transposes a square of `lanes` vectors in place.
template <class T, int half = kLanes<T> / 2> inline void transpose(Vec<T>* v) {
  if constexpr (half > 0) {
    constexpr std::make_integer_sequence<int, kLanes<T>> all{};
    for (int i = 0; i < kLanes<T>; ++i)
      if ((i / half) % 2 == 0) {
        const Vec<T> a = v[i], b = v[i + half];
        v[i] = exchange<half, 0>(a, b, all);
        v[i + half] = exchange<half, 1>(a, b, all);
      }
    transpose<T, half / 2>(v);
  }
}

}  // namespace
